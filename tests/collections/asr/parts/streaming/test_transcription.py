"""Live text equals the text of the offline model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recognisers import offline_transcripts, tiny_ctc_bpe, tiny_hybrid
from stream_cases import CHUNKED, batch

from nemo.collections.asr.parts.streaming.transcription import TranscriptionStream

PRESETS = ("very_low", "low", "medium", "high", "unlimited")


@pytest.fixture(scope="module")
def hybrid():
    return tiny_hybrid()


@pytest.fixture(scope="module")
def chunked():
    return tiny_hybrid(**CHUNKED)


def live(stream: TranscriptionStream, audio: torch.Tensor, lengths: torch.Tensor, cuts: list[int]):
    """Text, ids and frames of each stream, from pieces of these sizes, the last one again and again."""
    begin, heard = 0, [""] * len(lengths)
    while begin < audio.shape[1]:
        size = cuts.pop(0) if len(cuts) > 1 else cuts[0]
        piece = audio[:, begin : begin + size]
        said = stream.push(piece, (lengths - begin).clamp(0, piece.shape[1]))
        assert all(one.text.startswith(text.rstrip()) for one, text in zip(said, heard, strict=True))
        heard, begin = [one.text for one in said], begin + size
    said = stream.finish()
    return [
        (one.text, [token.id for token in tokens], [token.frame for token in tokens])
        for one, tokens in zip(said, stream.tokens, strict=True)
    ]


@pytest.mark.parametrize("decoder", ["ctc", "rnnt"])
@pytest.mark.parametrize("context", [*PRESETS, [0, 0], [8, 0]], ids=str)
def test_text_and_times_are_those_of_the_offline_model(hybrid, context, decoder):
    audio, lengths = batch([70000, 31000, 400, 0])
    stream = TranscriptionStream(hybrid, context, batch_size=4, decoder=decoder)
    found = live(stream, audio, lengths, [1000, 7, 5000])
    expected = offline_transcripts(hybrid, audio, lengths, context, decoder)
    assert found == expected and len(found[0][1]) > 10


@pytest.mark.parametrize("decoder", ["ctc", "rnnt"])
@pytest.mark.parametrize("context", CHUNKED["att_context_size"], ids=str)
def test_chunks_with_look_ahead_are_transcribed_alike(chunked, context, decoder):
    audio, lengths = batch([60000, 24500])
    stream = TranscriptionStream(chunked, context, batch_size=2, decoder=decoder)
    expected = offline_transcripts(chunked, audio, lengths, context, decoder)
    assert live(stream, audio, lengths, [3000]) == expected and expected[0][1]


@pytest.mark.parametrize("decoder", ["ctc", "rnnt"])
def test_recorded_sentences_are_transcribed_as_offline(hybrid, recorded_samples, decoder):
    lengths = torch.tensor([len(samples) for samples in recorded_samples])
    rows = [torch.from_numpy(samples) for samples in recorded_samples]
    audio = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    found = live(TranscriptionStream(hybrid, "low", len(rows), decoder=decoder), audio, lengths, [8000])
    assert found == offline_transcripts(hybrid, audio, lengths, "low", decoder)
    assert len(found[0][0]) > 10 and len(set(found[0][0])) > 2


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 20000), min_size=1, max_size=6),
    sizes=st.lists(st.integers(0, 30000), min_size=1, max_size=3),
    decoder=st.sampled_from(["ctc", "rnnt"]),
    frames_per_step=st.sampled_from([1, 3]),
)
def test_any_cut_of_any_batch_gives_the_same_text(hybrid, cuts, sizes, decoder, frames_per_step):
    audio, lengths = batch(sizes)
    stream = TranscriptionStream(hybrid, [8, 0], len(sizes), frames_per_step, decoder=decoder)
    cuts = [*cuts, 20000]  # the last one may be a single sample, again and again
    assert live(stream, audio, lengths, cuts) == offline_transcripts(hybrid, audio, lengths, [8, 0], decoder)


@pytest.mark.parametrize("max_symbols", [1, 2])
@pytest.mark.parametrize("strategy", ["greedy", "greedy_batch"])
def test_no_frame_has_more_symbols_than_the_model_allows(max_symbols, strategy):
    model = tiny_hybrid(max_symbols, strategy)
    audio, lengths = batch([30000, 20000])
    found = live(TranscriptionStream(model, [8, 0], 2), audio, lengths, [4000])
    assert found == offline_transcripts(model, audio, lengths, [8, 0], "rnnt")
    frames = found[0][2]
    assert max(frames.count(frame) for frame in frames) == max_symbols


def test_subwords_become_words(tmp_path):
    from nemo.collections.common.tokenizers.sentencepiece_tokenizer import create_spt_model

    (tmp_path / "text").write_text("bad cab\nabba dad\ncab dad bad\n" * 20)
    create_spt_model(
        str(tmp_path / "text"), vocab_size=12, sample_size=-1, do_lower_case=False, output_dir=str(tmp_path)
    )
    model = tiny_ctc_bpe(tmp_path)
    audio, lengths = batch([40000, 16000])
    found = live(TranscriptionStream(model, "low", 2), audio, lengths, [1280])
    assert found == offline_transcripts(model, audio, lengths, "low", "ctc") and len(found[0][0]) > 5


@pytest.mark.parametrize("decoder", ["ctc", "rnnt"])
def test_streams_begin_and_end_at_different_times(hybrid, decoder):
    audio, lengths = batch([20000, 20000])
    expected = [text for text, _, _ in offline_transcripts(hybrid, audio, lengths, [8, 0], decoder)]
    with TranscriptionStream(hybrid, [8, 0], 2, decoder=decoder) as stream:
        stream.push(audio, torch.tensor([20000, 7000]))
        assert stream.finish(0)[0].text == expected[0]
        stream.reset(0)
        late = stream.push(torch.stack([audio[0, :13000], audio[1, 7000:]]))
        assert late[0].text == "" or expected[0].startswith(late[0].text.rstrip())
        assert late[0].new and late[0].new[0].frame < 13000 // 1280 + 1
        stream.push(audio[:, 13000:], torch.tensor([7000, 0]))
        assert [said.text for said in stream.finish()] == expected
        stream.reset()
        assert stream.tokens == [[], []]


def test_the_model_stays_in_training_mode_and_its_dropout_out_of_the_text(hybrid):
    audio, lengths = batch([20000])
    expected = offline_transcripts(hybrid, audio, lengths, [8, 0], "rnnt")
    hybrid.train()
    try:
        assert live(TranscriptionStream(hybrid, [8, 0]), audio, lengths, [20000]) == expected
        assert all(module.training for module in hybrid.modules())
    finally:
        hybrid.eval()


def test_a_frame_lasts_80_ms(hybrid):
    assert TranscriptionStream(hybrid, [8, 0], frames_per_step=3).frame_seconds == pytest.approx(0.08)


def test_what_cannot_be_transcribed_is_refused_by_name(hybrid, tiny_model):
    with pytest.raises(TypeError, match="model must be a NeMo CTC, RNNT or hybrid model; got a EncDecDenoise"):
        TranscriptionStream(tiny_model())
    with pytest.raises(ValueError, match="decoder must be .*rnnt.*ctc.*; got 'attention'"):
        TranscriptionStream(hybrid, decoder="attention")
