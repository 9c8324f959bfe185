"""The frames of an encoder stream are those of the offline encoder."""

import copy

import numpy as np
import pytest
import torch
from stream_cases import CLOSE, FRAME, TinyModel, assert_same_frames, batch, noise, offline, streamed

from nemo.collections.asr.modules.conformer_encoder import ConformerMultiLayerFeatureExtractor
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS
from nemo.collections.asr.parts.streaming import EncoderStream


class TestExactness:
    @pytest.mark.parametrize("context", [*CONTEXT_PRESETS, [0, 0], [8, 0], [70, 0]], ids=str)
    def test_every_context_beyond_its_left_side(self, regular, context):
        """28 s, longer than the longest preset."""
        audio, lengths = batch([28 * 16000])
        ours = streamed(EncoderStream(regular, context, frames_per_step=5), audio, lengths, [16000])
        assert_same_frames(ours, offline(regular, context, audio, lengths))

    @pytest.mark.parametrize("context", [[70, 0], [70, 1], [70, 6], [70, 13], [0, 3], [-1, 3]], ids=str)
    def test_every_chunked_context_beyond_its_left_side(self, chunked, context):
        audio, lengths = batch([8 * 16000 + 555])
        ours = streamed(EncoderStream(chunked, context), audio, lengths, [16000])
        assert_same_frames(ours, offline(chunked, context, audio, lengths))

    @pytest.mark.parametrize("cuts", [[160], [16000], [10**6], [1, 2, 5000, 1279, 1281, 33, 900]], ids=str)
    @pytest.mark.parametrize("context", [[8, 0], [-1, 0]], ids=str)
    def test_every_cut_of_a_ragged_batch(self, regular, context, cuts):
        audio, lengths = batch([40000, 12345, 30001])
        ours = streamed(EncoderStream(regular, context, batch_size=3), audio, lengths, cuts)
        assert_same_frames(ours, offline(regular, context, audio, lengths))

    @pytest.mark.parametrize("cuts", [[160], [16000], [10**6], [1, 2, 5000, 1279, 1281, 33, 900]], ids=str)
    def test_every_cut_of_a_ragged_batch_in_chunks(self, chunked, cuts):
        audio, lengths = batch([40000, 12345, 30001])
        ours = streamed(EncoderStream(chunked, [14, 6], batch_size=3), audio, lengths, cuts)
        assert_same_frames(ours, offline(chunked, [14, 6], audio, lengths))

    @pytest.mark.parametrize("frames", [2, 10, 64])
    @pytest.mark.parametrize("context", [[0, 0], [8, 0], [-1, 0]], ids=str)
    def test_any_number_of_frames_in_a_step(self, regular, context, frames):
        audio, lengths = batch([80000, 47777])
        ours = streamed(EncoderStream(regular, context, 2, frames_per_step=frames), audio, lengths, [3001])
        assert_same_frames(ours, offline(regular, context, audio, lengths))

    @pytest.mark.parametrize(("context", "frames"), [([8, 1], 8), ([14, 6], 21), ([-1, 3], 12)], ids=str)
    def test_any_number_of_chunks_in_a_step(self, chunked, context, frames):
        audio, lengths = batch([80000, 47777])
        ours = streamed(EncoderStream(chunked, context, 2, frames_per_step=frames), audio, lengths, [3001])
        assert_same_frames(ours, offline(chunked, context, audio, lengths))

    @pytest.mark.parametrize("style", ["regular", "chunked"])
    def test_lengths_around_every_boundary(self, request, style):
        """Of hops and windows, and of one encoder frame more or less by what is complete and by what is counted."""
        model, context = request.getfixturevalue(style), [14, 0] if style == "regular" else [14, 6]
        edges = {0, 1, 159, 160, 161, 199, 200, 201, 319, 320, 321, 399, 400, 401}
        edges |= {FRAME * k + change for k in (1, 2, 7, 8) for change in (-1, 0, 1, 159, 160, 199, 200, 201, 319, 320)}
        audio, lengths = batch(sorted(edges))
        ours = streamed(EncoderStream(model, context, batch_size=len(lengths)), audio, lengths, [640])
        theirs = offline(model, context, audio, lengths)
        assert_same_frames(ours, theirs)
        assert {row.shape[1] for row in theirs} >= {1, 2, 3, 8, 9, 10}

    @pytest.mark.parametrize("samples", [1, 159, 161, 1480, 9000])
    def test_single_short_utterances(self, regular, samples):
        audio, lengths = batch([samples])
        ours = streamed(EncoderStream(regular, [8, 0]), audio, lengths, [160])
        assert_same_frames(ours, offline(regular, [8, 0], audio, lengths))

    def test_a_history_beyond_the_encoders_position_table(self):
        model = TinyModel(pos_emb_max_len=20)
        audio, lengths = batch([15 * 16000])
        ours = streamed(EncoderStream(model, "unlimited"), audio, lengths, [16000])
        assert_same_frames(ours, offline(model, [-1, 0], audio, lengths))

    def test_a_bounded_history_is_that_of_the_bounded_context(self, regular):
        audio, lengths = batch([16 * 16000])
        ours = streamed(EncoderStream(regular, "unlimited", max_history=140), audio, lengths, [16000])
        assert_same_frames(ours, offline(regular, [140, 0], audio, lengths))
        (unbounded,) = offline(regular, [-1, 0], audio, lengths)
        assert (ours[0] - unbounded).abs().max() > CLOSE

    def test_recorded_sentences(self, tiny_model, recorded_samples):
        model = tiny_model().eval()
        lengths = torch.tensor([len(samples) for samples in recorded_samples])
        audio = torch.zeros(len(lengths), int(lengths.max()))
        for row, samples in zip(audio, recorded_samples, strict=True):
            row[: len(samples)] = torch.from_numpy(samples)
        ours = streamed(EncoderStream(model, [16, 0], batch_size=len(lengths)), audio, lengths, [1600])
        assert_same_frames(ours, offline(model, [16, 0], audio, lengths))

    @pytest.mark.parametrize("context", ["low", "unlimited"])
    def test_recorded_sentences_joined(self, tiny_model, recorded_samples, context):
        model = tiny_model().eval()
        audio = torch.from_numpy(np.concatenate(recorded_samples))[None, : 16 * 16000]
        lengths = torch.tensor([audio.shape[1]])
        ours = streamed(EncoderStream(model, context), audio, lengths, [1280])
        assert ours[0].shape[1] == 201
        assert_same_frames(ours, offline(model, context, audio, lengths))


class TestLayers:
    @pytest.mark.parametrize("changes", [dict(n_layers=4), dict(n_layers=4, feat_out=12)], ids=str)
    def test_layers_are_those_of_the_feature_extractor(self, changes):
        model = TinyModel(**changes)
        audio, lengths = batch([30000, 21111])
        extractor = ConformerMultiLayerFeatureExtractor(copy.deepcopy(model.encoder), [0, 2])
        with torch.no_grad():
            features, counts = model.preprocessor(input_signal=audio, length=lengths)
            expected = extractor(audio_signal=features, length=counts)[0][:2]
            final, counts = model.encoder(audio_signal=features, length=counts)
        stream = EncoderStream(model, [8, 0], batch_size=2, layers=[-2, 0])
        assert stream.layers == [0, 2]
        pushed, first = stream.push(audio, lengths)
        rest, last = stream.finish()
        assert len(pushed) == len(rest) == 3
        assert torch.equal(first + last, counts)
        for whole, early, late in zip([*expected, final], pushed, rest, strict=True):
            ours = [torch.cat((early[b, :, : first[b]], late[b, :, : last[b]]), dim=-1) for b in range(2)]
            assert_same_frames(ours, [whole[b, :, : counts[b]] for b in range(2)])


class TestTiming:
    def test_a_frame_comes_with_the_last_sample_that_it_sees(self, regular):
        stream = EncoderStream(regular, [8, 0])
        assert [int(stream.push(piece)[1]) for piece in torch.split(noise(1480), [199, 1, 1279, 1])] == [0, 1, 0, 1]
        assert stream.latency == pytest.approx(200 / 16000)

    def test_a_chunk_comes_with_the_last_sample_that_it_sees(self, chunked):
        stream = EncoderStream(chunked, [14, 6])
        whole = 6 * FRAME + 200
        assert [int(stream.push(piece)[1]) for piece in torch.split(noise(whole), [whole - 1, 1])] == [0, 7]
        assert stream.frames_per_step == 7
        assert stream.samples_per_step == 7 * FRAME
        assert stream.latency == pytest.approx(whole / 16000)
