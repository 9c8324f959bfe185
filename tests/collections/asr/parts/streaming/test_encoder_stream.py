"""The frames of an encoder stream are those of the offline encoder."""

import copy
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nemo.collections.asr.models import EncDecCTCModel
from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder, ConformerMultiLayerFeatureExtractor
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS
from nemo.collections.asr.parts.streaming.encoder_stream import EncoderStream

CLOSE = 1e-4
FRAME = 1280
"""Samples of an encoder frame."""

CHUNKED = dict(att_context_style="chunked_limited", att_context_size=[[70, 13], [70, 6], [70, 1], [70, 0]])

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and there is none")


class Model(nn.Module):
    """The least that a stream needs of a model, with weights that let every part matter."""

    def __init__(self, seed: int = 0, **encoder):
        super().__init__()
        torch.manual_seed(seed)
        self.preprocessor = AudioToMelSpectrogramPreprocessor(
            normalize="NA", window_size=0.025, features=16, n_fft=512, pad_to=0, dither=0.0
        )
        sizes = dict(feat_in=16, n_layers=2, d_model=16, n_heads=2, subsampling="dw_striding", subsampling_factor=8)
        sizes |= dict(subsampling_conv_channels=4, causal_downsampling=True, conv_context_size="causal")
        sizes |= dict(conv_norm_type="layer_norm", conv_kernel_size=5, att_context_size=[[8, 0], [16, 0], [-1, 0]])
        self.encoder = ConformerEncoder(**{**sizes, **encoder})
        self.cfg = OmegaConf.create({"context_presets": {"own": [24, 0]}})
        for name, parameter in self.named_parameters():
            if "pos_bias" in name:
                nn.init.normal_(parameter)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.2, 2.0)
        self.eval()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def regular() -> Model:
    return Model()


@pytest.fixture(scope="module")
def chunked() -> Model:
    return Model(**CHUNKED)


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    """Noise with a moving envelope, `[samples]`."""
    generator = torch.Generator().manual_seed(seed)
    envelope = torch.rand(samples // 1000 + 1, generator=generator).repeat_interleave(1000)[:samples]
    return 0.1 * envelope * torch.randn(samples, generator=generator)


def batch(lengths: Iterable[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Audio `[B, N]` of the given lengths, and these."""
    lengths = torch.tensor(list(lengths))
    audio = torch.stack([noise(max(1, int(lengths.max())), seed) for seed in range(len(lengths))])
    return audio * (torch.arange(audio.shape[1]) < lengths[:, None]), lengths


@torch.no_grad()
def offline(model, context, audio: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
    """The valid frames `[D, T]` of each utterance from a whole forward in evaluation."""
    model = copy.deepcopy(model).eval()
    model.encoder.att_context_size = list(
        CONTEXT_PRESETS.get(context, context) if isinstance(context, str) else context
    )
    features, counts = model.preprocessor(input_signal=audio, length=lengths)
    frames, counts = model.encoder(audio_signal=features, length=counts)
    return [row[:, :count] for row, count in zip(frames, counts, strict=True)]


def streamed(stream: EncoderStream, audio: torch.Tensor, lengths: torch.Tensor, cuts: list[int]) -> list[torch.Tensor]:
    """The same from a stream, pushed in pieces of the given sizes (the last size for all that follow)."""
    pieces = [[] for _ in lengths]
    begin, cuts = 0, iter([*cuts, *[cuts[-1]] * (audio.shape[1] // cuts[-1] + 1)])
    while begin < audio.shape[1]:
        piece = audio[:, begin : begin + next(cuts)]
        collect(pieces, stream.push(piece, (lengths - begin).clamp(0, piece.shape[1])))
        begin += piece.shape[1]
    collect(pieces, stream.finish())
    return [torch.cat(row, dim=-1) for row in pieces]


def collect(pieces: list[list[torch.Tensor]], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    for row, frames, count in zip(pieces, *output, strict=True):
        assert (frames[:, count:] == 0).all()
        row.append(frames[:, :count])


def assert_equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert [row.shape for row in ours] == [row.shape for row in theirs]
    for own, row in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, row, rtol=0, atol=CLOSE)


class TestExactness:
    @pytest.mark.parametrize("context", [*CONTEXT_PRESETS, [0, 0], [8, 0], [70, 0]], ids=str)
    def test_every_context_beyond_its_left_side(self, regular, context):
        """28 s, longer than the longest preset."""
        audio, lengths = batch([28 * 16000])
        ours = streamed(EncoderStream(regular, context, frames_per_step=5), audio, lengths, [16000])
        assert_equal(ours, offline(regular, context, audio, lengths))

    @pytest.mark.parametrize("context", [[70, 0], [70, 1], [70, 6], [70, 13], [0, 3], [-1, 3]], ids=str)
    def test_every_chunked_context_beyond_its_left_side(self, chunked, context):
        audio, lengths = batch([8 * 16000 + 555])
        ours = streamed(EncoderStream(chunked, context), audio, lengths, [16000])
        assert_equal(ours, offline(chunked, context, audio, lengths))

    @pytest.mark.parametrize("cuts", [[160], [16000], [10**6], [1, 2, 5000, 1279, 1281, 33, 900]], ids=str)
    @pytest.mark.parametrize("context", [[8, 0], [-1, 0]], ids=str)
    def test_every_cut_of_a_ragged_batch(self, regular, context, cuts):
        audio, lengths = batch([40000, 12345, 30001])
        ours = streamed(EncoderStream(regular, context, batch_size=3), audio, lengths, cuts)
        assert_equal(ours, offline(regular, context, audio, lengths))

    @pytest.mark.parametrize("cuts", [[160], [16000], [10**6], [1, 2, 5000, 1279, 1281, 33, 900]], ids=str)
    def test_every_cut_of_a_ragged_batch_in_chunks(self, chunked, cuts):
        audio, lengths = batch([40000, 12345, 30001])
        ours = streamed(EncoderStream(chunked, [14, 6], batch_size=3), audio, lengths, cuts)
        assert_equal(ours, offline(chunked, [14, 6], audio, lengths))

    @pytest.mark.parametrize("frames", [2, 10, 64])
    @pytest.mark.parametrize("context", [[0, 0], [8, 0], [-1, 0]], ids=str)
    def test_any_number_of_frames_in_a_step(self, regular, context, frames):
        audio, lengths = batch([80000, 47777])
        ours = streamed(EncoderStream(regular, context, 2, frames_per_step=frames), audio, lengths, [3001])
        assert_equal(ours, offline(regular, context, audio, lengths))

    @pytest.mark.parametrize(("context", "frames"), [([8, 1], 8), ([14, 6], 21), ([-1, 3], 12)], ids=str)
    def test_any_number_of_chunks_in_a_step(self, chunked, context, frames):
        audio, lengths = batch([80000, 47777])
        ours = streamed(EncoderStream(chunked, context, 2, frames_per_step=frames), audio, lengths, [3001])
        assert_equal(ours, offline(chunked, context, audio, lengths))

    @pytest.mark.parametrize("style", ["regular", "chunked"])
    def test_lengths_around_every_boundary(self, request, style):
        """Of hops and windows, and of one encoder frame more or less by what is complete and by what is counted."""
        model, context = request.getfixturevalue(style), [14, 0] if style == "regular" else [14, 6]
        edges = {0, 1, 159, 160, 161, 199, 200, 201, 319, 320, 321, 399, 400, 401}
        edges |= {FRAME * k + change for k in (1, 2, 7, 8) for change in (-1, 0, 1, 159, 160, 199, 200, 201, 319, 320)}
        audio, lengths = batch(sorted(edges))
        ours = streamed(EncoderStream(model, context, batch_size=len(lengths)), audio, lengths, [640])
        theirs = offline(model, context, audio, lengths)
        assert_equal(ours, theirs)
        assert {row.shape[1] for row in theirs} >= {1, 2, 3, 8, 9, 10}

    @pytest.mark.parametrize("samples", [1, 159, 161, 1480, 9000])
    def test_single_short_utterances(self, regular, samples):
        audio, lengths = batch([samples])
        ours = streamed(EncoderStream(regular, [8, 0]), audio, lengths, [160])
        assert_equal(ours, offline(regular, [8, 0], audio, lengths))

    def test_a_history_beyond_the_encoders_position_table(self):
        model = Model(pos_emb_max_len=20)
        audio, lengths = batch([15 * 16000])
        ours = streamed(EncoderStream(model, "unlimited"), audio, lengths, [16000])
        assert_equal(ours, offline(model, [-1, 0], audio, lengths))

    def test_recorded_sentences(self, tiny_model, recorded_samples):
        model = tiny_model().eval()
        lengths = torch.tensor([len(samples) for samples in recorded_samples])
        audio = torch.zeros(len(lengths), int(lengths.max()))
        for row, samples in zip(audio, recorded_samples, strict=True):
            row[: len(samples)] = torch.from_numpy(samples)
        ours = streamed(EncoderStream(model, [16, 0], batch_size=len(lengths)), audio, lengths, [1600])
        assert_equal(ours, offline(model, [16, 0], audio, lengths))

    @pytest.mark.parametrize("context", ["low", "unlimited"])
    def test_recorded_sentences_joined(self, tiny_model, recorded_samples, context):
        model = tiny_model().eval()
        audio = torch.from_numpy(np.concatenate(recorded_samples))[None, : 16 * 16000]
        lengths = torch.tensor([audio.shape[1]])
        ours = streamed(EncoderStream(model, context), audio, lengths, [1280])
        assert ours[0].shape[1] == 201
        assert_equal(ours, offline(model, context, audio, lengths))


class TestEncoders:
    @pytest.mark.parametrize(
        "changes",
        [
            dict(use_bias=False),
            dict(conv_norm_type="batch_norm"),
            dict(conv_norm_type="fused_batch_norm"),
            dict(untie_biases=False),
            dict(xscaling=False),
            dict(feat_out=12),
            dict(conv_kernel_size=9, n_heads=4),
            dict(subsampling="striding"),
            dict(subsampling_factor=4),
            dict(subsampling_factor=2, ff_expansion_factor=2),
            dict(subsampling="stacking"),
            dict(subsampling="stacking_norm", subsampling_factor=4),
            dict(subsampling_factor=1),
            dict(use_pytorch_sdpa=True),
        ],
        ids=str,
    )
    def test_every_causal_encoder(self, changes):
        model = Model(**changes)
        audio, lengths = batch([30000])
        ours = streamed(EncoderStream(model, [8, 0], frames_per_step=2), audio, lengths, [2500])
        assert_equal(ours, offline(model, [8, 0], audio, lengths))

    def test_groups_of_stacked_frames_are_whole_in_each_stream(self):
        """Offline, the length of one utterance decides about the last group of another one."""
        model = Model(subsampling="stacking")
        audio, lengths = batch([30000, 17000])
        ours = streamed(EncoderStream(model, [8, 0], batch_size=2), audio, lengths, [700])
        rows = zip(audio, lengths, strict=True)
        alone = [offline(model, [8, 0], row[None, :count], count[None])[0] for row, count in rows]
        assert_equal(ours, alone)

    @pytest.mark.parametrize("position", ["pre_conv", "post_conv"])
    def test_pretraining_models_whichever_way_they_mask(self, tiny_model, position):
        model = tiny_model({"mask_position": position})
        audio, lengths = batch([30000])
        ours = streamed(EncoderStream(model, [8, 0]), audio, lengths, [1280])
        assert_equal(ours, offline(model, [8, 0], audio, lengths))

    def test_half_precision(self, regular):
        model = copy.deepcopy(regular).to(torch.bfloat16)
        audio, lengths = batch([30000])
        (ours,) = streamed(EncoderStream(model, [8, 0]), audio, lengths, [1280])
        (exact,) = offline(regular, [8, 0], audio, lengths)
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - exact).abs().mean() < 0.05

    def test_autocast_does_not_touch_the_frames(self, regular):
        audio, lengths = batch([20000])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours = streamed(EncoderStream(regular, [8, 0]), audio, lengths, [1280])
        assert_equal(ours, offline(regular, [8, 0], audio, lengths))

    def test_a_wrapped_model(self, regular):
        wrapper = nn.Module()
        wrapper.module = regular
        audio, lengths = batch([9000])
        ours = streamed(EncoderStream(wrapper, [8, 0]), audio, lengths, [1280])
        assert_equal(ours, offline(regular, [8, 0], audio, lengths))

    def test_presets_of_the_model(self, regular):
        assert EncoderStream(regular, "own").context.as_list() == [24, 0]

    def test_no_context_means_that_of_the_encoder(self, regular):
        assert EncoderStream(regular).context.as_list() == [8, 0]


class TestLayers:
    @pytest.mark.parametrize("changes", [dict(n_layers=4), dict(n_layers=4, feat_out=12)], ids=str)
    def test_layers_are_those_of_the_feature_extractor(self, changes):
        model = Model(**changes)
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
            assert_equal(ours, [whole[b, :, : counts[b]] for b in range(2)])

    @pytest.mark.parametrize(
        ("layers", "error"),
        [([2], ValueError), ([-3], ValueError), ([0, -2], ValueError), ([0.5], TypeError)],
        ids=str,
    )
    def test_layers_that_there_are_not_are_refused(self, regular, layers, error):
        with pytest.raises(error, match="layers is"):
            EncoderStream(regular, layers=layers)


class TestSideBySide:
    @pytest.mark.parametrize(
        ("style", "context", "frames"),
        [
            ("regular", [8, 0], 1),
            ("regular", [0, 0], 3),
            ("regular", [-1, 0], 2),
            ("chunked", [14, 6], 1),
            ("chunked", [-1, 1], 4),
        ],
        ids=str,
    )
    def test_streams_that_come_and_go(self, request, style, context, frames):
        """Each stream gets pieces of its own sizes, ends when its utterance does, and is replaced by a new one."""
        model, generator = request.getfixturevalue(style), np.random.default_rng(frames)
        audio, lengths = batch(generator.integers(0, 60000, size=9).tolist() + [250000])
        stream, waiting = EncoderStream(model, context, batch_size=3, frames_per_step=frames), list(range(10))
        running = {row: waiting.pop() for row in range(3)}
        done, pieces = {index: 0 for index in range(10)}, {index: [] for index in range(10)}

        def take(output, rows):
            for row in rows:
                pieces[running[row]].append(output[0][row, :, : output[1][row]])

        while running:
            sizes = np.zeros(3, dtype=np.int64)
            for row, index in running.items():
                limit = generator.choice([100, 1280, 1280, 20000])
                sizes[row] = min(generator.integers(0, limit + 1), int(lengths[index]) - done[index])
            piece = torch.zeros(3, int(sizes.max()))
            for row, index in running.items():
                piece[row, : sizes[row]] = audio[index, done[index] : done[index] + sizes[row]]
                done[index] += int(sizes[row])
            take(stream.push(piece, sizes), running)
            for row in [row for row, index in running.items() if done[index] == lengths[index]]:
                take(stream.finish(row), [row])
                del running[row]
                if waiting:
                    running[row] = waiting.pop()
                    stream.reset(row)
        ours = [torch.cat(pieces[index], dim=-1) for index in range(10)]
        assert_equal(ours, offline(model, context, audio, lengths))

    def test_streams_of_different_contexts_on_one_model(self, regular):
        audio, lengths = batch([40000])
        contexts = [[8, 0], [0, 0], [-1, 0]]
        streams = [EncoderStream(regular, context) for context in contexts]
        pieces = [[[]] for _ in contexts]
        for piece in torch.split(audio, 1700, dim=1):
            for row, stream in zip(pieces, streams, strict=True):
                collect(row, stream.push(piece))
        for row, stream in zip(pieces, streams, strict=True):
            collect(row, stream.finish())
        for row, context in zip(pieces, contexts, strict=True):
            assert_equal([torch.cat(row[0], dim=-1)], offline(regular, context, audio, lengths))

    @pytest.mark.parametrize("training", [False, True])
    def test_the_model_stays_as_it_was(self, training):
        model = Model(conv_norm_type="batch_norm", dropout=0.5).train(training)
        model.encoder.layers[0].eval()
        weights = copy.deepcopy(model.state_dict())
        context, settings = list(model.encoder.att_context_size), copy.deepcopy(model.encoder.streaming_cfg)
        modes = [module.training for module in model.modules()]
        audio, lengths = batch([20000])
        ours = streamed(EncoderStream(model, [16, 0]), audio, lengths, [1280])
        assert modes == [module.training for module in model.modules()]
        assert (context, settings) == (list(model.encoder.att_context_size), model.encoder.streaming_cfg)
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        assert_equal(ours, offline(model, [16, 0], audio, lengths))

    def test_nothing_is_collective(self, regular, monkeypatch):
        def collective(*args, **kwargs):
            raise AssertionError("a collective was called")

        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        for name in ("all_reduce", "all_gather", "broadcast", "barrier"):
            monkeypatch.setattr(torch.distributed, name, collective)
        stream = EncoderStream(regular, "unlimited")
        assert stream.push(noise(5000))[1].item() + stream.finish()[1].item() == 5


class TestLife:
    def test_a_finished_stream_has_no_more(self, regular):
        stream = EncoderStream(regular, batch_size=2)
        stream.push(torch.zeros(2, 5000))
        assert stream.finish(0)[1].tolist() == [1, 0]
        assert stream.finish()[1].tolist() == [0, 1]
        assert stream.finish()[1].tolist() == [0, 0]
        with pytest.raises(ValueError, match=r"stream 0, which has finished: call reset\(0\)"):
            stream.push(torch.zeros(2, 5000))

    def test_a_reset_begins_anew(self, regular):
        audio, lengths = batch([20000])
        stream = EncoderStream(regular, [8, 0])
        stream.push(noise(7777, seed=9))
        stream.reset()
        assert_equal(streamed(stream, audio, lengths, [1280]), offline(regular, [8, 0], audio, lengths))

    def test_changed_weights_hold_after_a_reset(self):
        model = Model()
        stream = EncoderStream(model, [8, 0])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)
        stream.reset()
        audio, lengths = batch([20000])
        assert_equal(streamed(stream, audio, lengths, [1280]), offline(model, [8, 0], audio, lengths))

    def test_a_closed_stream_says_so_until_it_is_reset(self, regular):
        with EncoderStream(regular, [8, 0]) as stream:
            stream.push(noise(3000))
        for call in (lambda: stream.push(noise(3000)), stream.finish, lambda: stream.reset(0), stream.memory):
            with pytest.raises(ValueError, match="closed"):
                call()
        stream.reset()
        audio, lengths = batch([9000])
        assert_equal(streamed(stream, audio, lengths, [1280]), offline(regular, [8, 0], audio, lengths))

    def test_a_bounded_history_is_that_of_the_bounded_context(self, regular):
        audio, lengths = batch([16 * 16000])
        ours = streamed(EncoderStream(regular, "unlimited", max_history=140), audio, lengths, [16000])
        assert_equal(ours, offline(regular, [140, 0], audio, lengths))
        (unbounded,) = offline(regular, [-1, 0], audio, lengths)
        assert (ours[0] - unbounded).abs().max() > CLOSE

    def test_frames_may_be_an_input_to_training(self, regular):
        frames, _ = EncoderStream(regular).push(noise(9000))
        probe = nn.Linear(16, 3)
        probe(frames.transpose(1, 2)).sum().backward()
        assert probe.weight.grad.abs().sum() > 0

    def test_the_callers_buffer_may_be_overwritten(self, regular):
        audio, lengths = batch([16000])
        stream, buffer, pieces = EncoderStream(regular, [8, 0]), torch.zeros(1, 400), [[]]
        for begin in range(0, 16000, 400):
            buffer.copy_(audio[:, begin : begin + 400])
            collect(pieces, stream.push(buffer))
            buffer.fill_(0.5)
        collect(pieces, stream.finish())
        assert_equal([torch.cat(pieces[0], dim=-1)], offline(regular, [8, 0], audio, lengths))

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


class TestCost:
    @pytest.mark.parametrize("context", ["very_low", "low", "medium", "high"])
    def test_memory_is_within_a_tenth_of_the_arithmetic(self, context):
        model = Model(conv_kernel_size=9)
        memory = EncoderStream(model, context, batch_size=3).memory()
        left = CONTEXT_PRESETS[context][0]
        arithmetic = 2 * (2 * left + 9 - 1) * 16 * 4
        assert arithmetic < memory.caches < 1.1 * arithmetic
        assert memory.tables < 1.1 * 2 * (left + 1) * (16 + 2) * 4

    def test_memory_does_not_grow_with_the_stream(self, regular):
        stream = EncoderStream(regular, [8, 0])
        stream.push(noise(2000))
        before = stream.memory()
        for _ in range(30):
            stream.push(noise(2000))
        after = stream.memory()
        assert (after.caches, after.tables) == (before.caches, before.tables)
        assert after.waiting < before.waiting + 4 * 4 * FRAME

    def test_past_frames_are_not_projected_again(self, regular):
        """A longer left context costs more attention, and nothing else."""
        short, long = (EncoderStream(regular, [left, 0]) for left in (40, 80))
        for stream in (short, long):
            stream.push(noise(85 * FRAME))
        assert 0 < operations(long) - operations(short) <= attention_operations(40)

    def test_the_cost_of_an_unlimited_stream_follows_its_history(self, regular):
        stream = EncoderStream(regular, "unlimited")
        stream.push(noise(20 * FRAME))
        early = operations(stream)
        stream.push(noise(150 * FRAME))
        assert 0 < operations(stream) - early <= attention_operations(151)


def operations(stream: EncoderStream) -> int:
    """Floating-point operations of one step."""
    with FlopCounterMode(display=False) as counter:
        assert stream.push(noise(FRAME))[1].item() == 1
    return counter.get_total_flops()


def attention_operations(history: int) -> int:
    """Those of attending to so many frames in two layers: keys, positions and values, each d_model wide."""
    return 2 * 3 * 2 * history * 16


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "context", "said"),
        [
            (dict(causal_downsampling=False), [8, 0], "causal_downsampling is false"),
            (dict(conv_context_size=None), [8, 0], "conv_context_size.*2 frames that have not arrived"),
            (dict(self_attention_model="abs_pos"), [8, 0], "'abs_pos'.*needs 'rel_pos'"),
            (
                dict(self_attention_model="rel_pos_local_attn", att_context_size=[8, 8]),
                None,
                "'rel_pos_local_attn'.*change_attention_model",
            ),
            (dict(conv_norm_type="instance_norm"), [8, 0], "'instance_norm'.*whole signal"),
            (dict(subsampling="vggnet"), [8, 0], "'vggnet'"),
            (dict(reduction="pooling", reduction_position=1, reduction_factor=2), [8, 0], "reduction"),
            ({}, [8, 2], r"2 frames ahead, 4 in all.*\[8, 0\].*chunked_limited"),
            ({}, [-1, -1], "unlimited right context"),
            ({}, "lwo", "did you mean 'low'"),
            ({}, [8, -2], r"\[8, -2\]"),
            (CHUNKED, [70, 3], "multiple of right . 1 = 4"),
            (CHUNKED, [8, -1], "unlimited right context"),
        ],
        ids=str,
    )
    def test_what_cannot_be_streamed_is_refused_with_the_reason(self, changes, context, said):
        with pytest.raises(ValueError, match=said):
            EncoderStream(Model(**changes), context)

    def test_limited_chunks_with_right_context_are_refused(self):
        model = Model()
        model.encoder.att_context_style = "chunked_limited_with_rc"
        with pytest.raises(ValueError, match="adds up over the layers"):
            EncoderStream(model, [8, 2, 2])

    @pytest.mark.parametrize("without", ["encoder", "preprocessor"])
    def test_a_model_without_the_parts_is_refused(self, without):
        model = Model()
        setattr(model, without, nn.Identity())
        with pytest.raises(TypeError, match=f"{without}.* is.*Identity"):
            EncoderStream(model, [8, 0])

    @pytest.mark.parametrize(
        ("arguments", "error", "said"),
        [
            (dict(batch_size=0), ValueError, "batch_size is 0"),
            (dict(batch_size=1.5), TypeError, "batch_size is 1.5"),
            (dict(frames_per_step=0), ValueError, "frames_per_step is 0"),
            (dict(frames_per_step="2"), TypeError, "frames_per_step is '2'"),
            (dict(max_history=100), ValueError, r"max_history is 100.*context is \[8, 0\]"),
            (dict(context="unlimited", max_history=0), ValueError, "max_history is 0"),
            (dict(cuda_graphs=True), ValueError, "cuda_graphs is True, but the model is on cpu"),
        ],
        ids=str,
    )
    def test_arguments_that_make_no_sense_are_refused(self, regular, arguments, error, said):
        with pytest.raises(error, match=said):
            EncoderStream(regular, **arguments)

    def test_parts_of_chunks_in_a_step_are_refused(self, chunked):
        with pytest.raises(ValueError, match="frames_per_step is 10, .* 7 encoder frames, such as 14"):
            EncoderStream(chunked, [14, 6], frames_per_step=10)

    @pytest.mark.parametrize(
        ("audio", "error"),
        [
            (torch.full((1, 500), float("nan")), ValueError),
            (torch.full((1, 500), float("inf")), ValueError),
            (torch.zeros(1, 500, dtype=torch.int16), TypeError),
            (torch.zeros(2, 500), ValueError),
            ("audio", TypeError),
        ],
        ids=["nan", "inf", "integers", "batch", "text"],
    )
    def test_bad_audio_leaves_the_stream_usable(self, regular, audio, error):
        good, lengths = batch([20000])
        stream, pieces = EncoderStream(regular, [8, 0]), [[]]
        collect(pieces, stream.push(good[:, :7000]))
        with pytest.raises(error):
            stream.push(audio)
        collect(pieces, stream.push(good[:, 7000:]))
        collect(pieces, stream.finish())
        assert_equal([torch.cat(pieces[0], dim=-1)], offline(regular, [8, 0], good, lengths))


LETTERS = "abcd"
"""What the recogniser spells; each letter is a pitch."""


def spoken(text: str) -> torch.Tensor:
    """0.16 s of tone and 0.08 s of noise for each letter, `[N]`."""
    time = torch.arange(2560) / 16000
    parts = [noise(1280)]
    for letter in text:
        parts += [0.3 * torch.sin(2 * torch.pi * 400 * 2 ** LETTERS.index(letter) * time), noise(1280)]
    return torch.cat(parts)


@pytest.fixture(scope="module")
def recogniser() -> EncDecCTCModel:
    """A NeMo CTC model that has learned to spell tones."""
    modules = "nemo.collections.asr.modules"
    features = dict(normalize="NA", window_size=0.025, features=16, n_fft=512, pad_to=0, dither=0.0)
    encoder = dict(feat_in=16, n_layers=1, d_model=32, n_heads=2, subsampling="dw_striding", subsampling_factor=4)
    encoder |= dict(subsampling_conv_channels=8, causal_downsampling=True, conv_context_size="causal")
    encoder |= dict(conv_norm_type="layer_norm", conv_kernel_size=5, att_context_size=[8, 0])
    encoder |= dict(dropout=0.0, dropout_pre_encoder=0.0, dropout_emb=0.0, dropout_att=0.0)
    decoder = dict(feat_in=32, num_classes=len(LETTERS), vocabulary=list(LETTERS))
    config = dict(
        preprocessor=dict(_target_=f"{modules}.AudioToMelSpectrogramPreprocessor", **features),
        encoder=dict(_target_=f"{modules}.ConformerEncoder", **encoder),
        decoder=dict(_target_=f"{modules}.ConvASRDecoder", **decoder),
        labels=list(LETTERS),
        sample_rate=16000,
    )
    torch.manual_seed(0)
    model = EncDecCTCModel(OmegaConf.create(config)).train()
    generator, optimizer = np.random.default_rng(0), torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(120):
        letters = generator.integers(0, len(LETTERS), size=(4, 6))
        audio = torch.stack([spoken("".join(LETTERS[index] for index in row)) for row in letters])
        log_probs, counts, _ = model(input_signal=audio, input_signal_length=torch.full((4,), audio.shape[1]))
        loss = model.loss(
            log_probs=log_probs,
            targets=torch.from_numpy(letters),
            input_lengths=counts,
            target_lengths=torch.full((4,), 6),
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("text", ["abcdabcd", "ddacbbadcabcda"])
@torch.no_grad()
def test_a_recogniser_writes_the_offline_text(recogniser, text):
    audio = spoken(text)[None]
    lengths = torch.tensor([audio.shape[1]])
    log_probs, counts, _ = recogniser(input_signal=audio, input_signal_length=lengths)
    (frames,) = streamed(EncoderStream(recogniser), audio, lengths, [1000])
    live = recogniser.decoder(encoder_output=frames[None])
    expected = recogniser.decoding.ctc_decoder_predictions_tensor(log_probs, counts)[0].text
    heard = recogniser.decoding.ctc_decoder_predictions_tensor(live, torch.tensor([frames.shape[1]]))[0].text
    assert heard == expected == text


@pytest.mark.parametrize(("style", "context"), [("regular", [8, 0]), ("chunked", [14, 6])], ids=str)
def test_the_step_that_a_graph_records_gives_the_same_frames(request, style, context):
    """It always looks at the whole left context, and finds in its inputs where streams begin and end."""
    model = request.getfixturevalue(style)
    audio, lengths = batch([40000, 12345, 30001])
    stream, phases = EncoderStream(model, context, batch_size=3), []

    def ungraphed(phase, *inputs):
        phases.append(phase)
        return stream._graphed_step(*inputs)

    stream._graph = ungraphed
    assert_equal(streamed(stream, audio, lengths, [1280]), offline(model, context, audio, lengths))
    assert len(phases) > len(set(phases)) > 0


@needs_gpu
class TestGraphs:
    @pytest.fixture(autouse=True)
    def exact_convolutions(self, monkeypatch):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)

    @pytest.mark.parametrize("size", [1, 8, 64])
    @pytest.mark.parametrize(("style", "context"), [("regular", [8, 0]), ("chunked", [14, 6])], ids=str)
    def test_graphed_steps_give_the_frames_of_plain_ones(self, request, style, context, size):
        model = copy.deepcopy(request.getfixturevalue(style)).cuda()
        audio, lengths = batch(np.linspace(20000, 60000, size).astype(int).tolist())
        graphed = EncoderStream(model, context, batch_size=size, cuda_graphs=True)
        plain = EncoderStream(model, context, batch_size=size, cuda_graphs=False)
        ours = streamed(graphed, audio.cuda(), lengths, [1280])
        assert_equal(ours, streamed(plain, audio.cuda(), lengths, [1280]))
        assert_equal(ours, offline(model, context, audio.cuda(), lengths.cuda()))

    def test_streams_are_replaced_under_graphs(self, regular):
        model = copy.deepcopy(regular).cuda()
        audio, lengths = batch([40000, 20000, 20000])
        stream, pieces = EncoderStream(model, [8, 0], batch_size=2, cuda_graphs=True), [[], [], []]
        out, count = stream.push(audio[:2, :20000])
        ended, more = stream.finish(1)
        pieces[0].append(out[0])
        pieces[1] += [out[1], ended[1, :, : more[1]]]
        stream.reset(1)
        for begin in range(0, 20000, 1280):
            piece = torch.stack((audio[0, 20000:], audio[2, :20000]))[:, begin : begin + 1280]
            out, count = stream.push(piece)
            pieces[0].append(out[0, :, : count[0]])
            pieces[2].append(out[1, :, : count[1]])
        out, count = stream.finish()
        pieces[0].append(out[0, :, : count[0]])
        pieces[2].append(out[1, :, : count[1]])
        ours = [torch.cat(row, dim=-1) for row in pieces]
        assert_equal(ours, offline(model, [8, 0], audio.cuda(), lengths.cuda()))

    def test_a_growing_history_runs_without_graphs(self, regular):
        model = copy.deepcopy(regular).cuda()
        with pytest.raises(ValueError, match="cuda_graphs is True, but the history"):
            EncoderStream(model, "unlimited", cuda_graphs=True)
        audio, lengths = batch([250000])
        ours = streamed(EncoderStream(model, "unlimited"), audio.cuda(), lengths, [16000])
        assert_equal(ours, offline(model, [-1, 0], audio.cuda(), lengths.cuda()))
