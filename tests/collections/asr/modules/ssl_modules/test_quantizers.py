"""The tokenizer gives NeMo's ids, for any length and precision, in little memory; its targets do not collapse."""

import copy
import json
import math
import pickle

import pytest
import torch
import torch.nn.functional as F

from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.modules.ssl_modules import RandomProjectionVectorQuantizer as ExportedQuantizer
from nemo.collections.asr.modules.ssl_modules import quantizers
from nemo.collections.asr.modules.ssl_modules.quantizers import (
    NemoRandomProjectionVectorQuantizer,
    RandomProjectionVectorQuantizer,
)

NORMALIZATIONS = ["none", "layer_norm", "per_feature"]
GROUP = 8


def build(seed: int = 0, **overrides):
    """Our quantizer and NeMo's, of equal weights."""
    sizes = {
        "feat_in": 80,
        "code_dim": 16,
        "num_classes": 512,
        "num_books": 1,
        "dist_fn": "l2",
        "squeeze_single": True,
        "combine_time_steps": GROUP,
        **overrides,
    }
    torch.manual_seed(seed)
    ours = RandomProjectionVectorQuantizer(**sizes)
    theirs = NemoRandomProjectionVectorQuantizer(**{k: v for k, v in sizes.items() if k != "normalize"})
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def ids_of(quantizer, features, lengths=None):
    extra = {} if lengths is None else {"input_lengths": lengths}
    return quantizer(input_signal=features, **extra)[1]


def stacked(features):
    """`[B, D, T]` to `[B, K, GROUP * D]`, float64, the way NeMo stacks; T is a multiple of GROUP."""
    return features.double().transpose(1, 2).reshape(features.shape[0], features.shape[2] // GROUP, -1)


def assert_equal_but_for_ties(ours, theirs, quantizer, features):
    """Ids of one codebook differ only where the two codes are equally near within 1e-6."""
    vectors = F.normalize(stacked(features) @ quantizer.proj.weight.double().t(), dim=-1)
    gaps = ((quantizer.codebooks[0][ours] - quantizer.codebooks[0][theirs]) * vectors).sum(-1).abs()
    assert ours.shape == theirs.shape
    assert gaps.max() < 1e-6
    nonzero = vectors.norm(dim=-1) > 0.5
    assert (ours != theirs)[nonzero].double().mean() < 1e-3


def synthetic_speech(seconds: float = 4.0, count: int = 2) -> torch.Tensor:
    """Harmonics of a gliding pitch under a moving envelope, with some noise: `[count, N]` at 16 kHz."""
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(int(seconds * 16000)) / 16000
    voices = []
    for voice in range(count):
        pitch = (110 + 60 * voice) * (1 + 0.2 * torch.sin(2 * math.pi * 0.7 * time))
        phase = 2 * math.pi * torch.cumsum(pitch / 16000, 0)
        formant = 600 + 400 * torch.sin(2 * math.pi * 1.3 * time + voice)
        tones = [torch.sin(k * phase) * torch.exp(-(((k * pitch - formant) / 500) ** 2)) for k in range(1, 20)]
        envelope = (torch.sin(2 * math.pi * 2.1 * time) > -0.6).float()
        voices.append(sum(tones) * envelope + 0.003 * torch.randn(len(time), generator=generator))
    return 0.1 * torch.stack(voices)


def log_mel(audio, lengths, normalize="NA"):
    preprocessor = AudioToMelSpectrogramPreprocessor(
        normalize=normalize, features=80, n_fft=512, window_size=0.025, window_stride=0.01, dither=0.0, pad_to=0
    )
    return preprocessor.eval()(input_signal=audio, length=lengths)


@pytest.fixture(scope="module")
def synthetic_features():
    audio = synthetic_speech()
    return log_mel(audio, torch.tensor([64000, 50000]))


@pytest.fixture(scope="module")
def recorded_features(recorded_samples):
    samples = [torch.from_numpy(sample) for sample in recorded_samples]
    audio = torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)
    return log_mel(audio, torch.tensor([len(sample) for sample in samples]))


def perplexity(ids, num_classes):
    shares = torch.bincount(ids.flatten(), minlength=num_classes).double() / ids.numel()
    return torch.special.entr(shares).sum().exp().item()


# ------------------------------------------------------------------------------------------------- the same as NeMo's


@pytest.mark.parametrize("num_classes", [3, 512, 8192])
@pytest.mark.parametrize("offset", [0.0, -8.0])
def test_ids_equal_the_expanded_l2_search_on_random_features(num_classes, offset):
    ours, theirs = build(num_classes=num_classes)
    features = offset + 3 * torch.randn(2, 80, 40 * GROUP)
    assert_equal_but_for_ties(ids_of(ours, features), ids_of(theirs, features), ours, features)


@pytest.mark.parametrize("source", ["synthetic", "recorded"])
def test_ids_equal_the_expanded_l2_search_on_log_mel_features(source, request):
    ours, theirs = build(num_classes=2048)
    features, _ = request.getfixturevalue(f"{source}_features")
    features = features[:, :, : features.shape[2] // GROUP * GROUP]
    assert_equal_but_for_ties(ids_of(ours, features), ids_of(theirs, features), ours, features)


@pytest.mark.parametrize("num_books", [1, 3])
def test_ids_equal_the_cosine_search_in_float64(num_books):
    ours, theirs = build(dist_fn="cosine", num_books=num_books)
    features = torch.randn(2, 80, 12 * GROUP)
    expected = ids_of(theirs.double(), features.double())
    assert torch.equal(ids_of(ours, features.double()), expected)
    assert torch.equal(ids_of(ours, features), expected)


@pytest.mark.parametrize("dist_fn", ["l2", "cosine"])
def test_several_codebooks_give_an_id_and_a_code_each(dist_fn):
    ours, theirs = build(num_books=3, dist_fn=dist_fn, squeeze_single=False)
    features = torch.randn(2, 80, 5 * GROUP)
    codes, ids = ours(input_signal=features)
    their_codes, their_ids = theirs.double()(input_signal=features.double())
    assert torch.equal(ids, their_ids)
    assert codes.shape == their_codes.shape and codes.dtype == their_codes.dtype
    for book in range(3):
        assert torch.equal(codes[..., book], ours.codebooks[book][ids[..., book]].transpose(1, 2))


@pytest.mark.parametrize("time_ahead", [False, True])
@pytest.mark.parametrize("squeeze_single", [False, True])
@pytest.mark.parametrize("combine_time_steps", [1, GROUP])
def test_shapes_types_and_values_are_those_of_nemo(time_ahead, squeeze_single, combine_time_steps):
    ours, theirs = build(
        time_ahead=time_ahead, squeeze_single=squeeze_single, combine_time_steps=combine_time_steps, num_classes=64
    )
    features = torch.randn(2, 80, 3 * GROUP)
    features = features.transpose(1, 2) if time_ahead else features
    for got, expected in zip(ours(input_signal=features), theirs(input_signal=features), strict=True):
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)


def test_the_module_exports_our_class_and_nemo_checkpoints_load():
    ours, theirs = build()
    assert ExportedQuantizer is RandomProjectionVectorQuantizer
    assert isinstance(ours, NemoRandomProjectionVectorQuantizer)
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["codebooks", "proj.weight"]
    assert ours.codebooks.dtype == theirs.codebooks.dtype == torch.float64
    torch.manual_seed(5)
    first = RandomProjectionVectorQuantizer(8, 4, 16, 1)
    torch.manual_seed(5)
    second = NemoRandomProjectionVectorQuantizer(8, 4, 16, 1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_it_can_be_pickled_and_copied():
    ours, _ = build(normalize="per_feature")
    features = torch.randn(1, 80, 4 * GROUP)
    for other in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        assert other.normalize == "per_feature"
        assert torch.equal(ids_of(other, features), ids_of(ours, features))


# ------------------------------------------------------------------------------------------------- lengths and zeros


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_vector_of_zeros_has_id_0(normalize):
    ours, _ = build(normalize=normalize, num_classes=8192)
    features = torch.zeros(3, 80, 2 * GROUP)
    assert torch.equal(ids_of(ours, features), torch.zeros(3, 2, dtype=torch.long))


def test_digital_silence_has_id_0_under_layer_norm():
    ours, _ = build(normalize="layer_norm", num_classes=8192)
    features = torch.full((1, 80, 2 * GROUP + 3), math.log(2.0**-24))
    assert torch.equal(ids_of(ours, features), torch.zeros(1, 3, dtype=torch.long))


@pytest.mark.parametrize("frames", [0, 1, GROUP - 1, GROUP, GROUP + 1, 5 * GROUP + 3])
def test_the_last_partial_group_is_padded_with_zeros(frames):
    ours, theirs = build()
    features = torch.randn(2, 80, frames)
    codes, ids = ours(input_signal=features)
    tokens = math.ceil(frames / GROUP)
    assert ids.shape == (2, tokens) and codes.shape == (2, 16, tokens)
    if frames:
        padded = F.pad(features, (0, tokens * GROUP - frames))
        assert torch.equal(ids, ids_of(theirs, padded))


def test_groups_do_not_depend_on_what_follows_them():
    ours, _ = build(normalize="layer_norm")
    features = torch.randn(2, 80, 6 * GROUP + 5)
    assert torch.equal(ids_of(ours, features)[:, :4], ids_of(ours, features[:, :, : 4 * GROUP]))


# ------------------------------------------------------------------------------------------------------ normalisation


def test_layer_norm_is_that_of_each_stacked_vector():
    ours, theirs = build(normalize="layer_norm")
    features = -8 + 3 * torch.randn(2, 80, 20 * GROUP)
    vectors = F.layer_norm(stacked(features), (80 * GROUP,))
    normalised = vectors.reshape(2, -1, 80).transpose(1, 2).contiguous()
    assert torch.equal(ids_of(ours, features), ids_of(theirs.double(), normalised))


def test_layer_norm_of_a_partial_group_leaves_its_padding_out():
    ours, theirs = build(normalize="layer_norm")
    features = -8 + 3 * torch.randn(2, 80, 5)
    vectors = F.layer_norm(features.double().transpose(1, 2).reshape(2, -1), (5 * 80,))
    normalised = F.pad(vectors.reshape(2, 5, 80).transpose(1, 2), (0, GROUP - 5))
    assert torch.equal(ids_of(ours, features), ids_of(theirs.double(), normalised))


@pytest.mark.parametrize("time_ahead", [False, True])
def test_per_feature_removes_mean_and_variance_over_the_valid_frames(time_ahead):
    ours, theirs = build(normalize="per_feature", time_ahead=time_ahead)
    features = -8 + 3 * torch.randn(3, 80, 10 * GROUP)
    lengths = torch.tensor([10 * GROUP, 45, 9])
    normalised = torch.zeros(3, 80, 10 * GROUP, dtype=torch.float64)
    for utterance, length in enumerate(lengths.tolist()):
        valid = features[utterance, :, :length].double()
        centred = valid - valid.mean(1, keepdim=True)
        normalised[utterance, :, :length] = centred / (valid.std(1, keepdim=True) + 1e-5)
    if time_ahead:
        features, normalised = features.transpose(1, 2), normalised.transpose(1, 2).contiguous()
    ids, expected = ids_of(ours, features, lengths), ids_of(theirs.double(), normalised)
    assert torch.equal(ids[0], expected[0])
    assert torch.equal(ids[1, :6], expected[1, :6])
    assert torch.equal(ids[2, :2], expected[2, :2])
    assert not ids[1, 6:].any() and not ids[2, 2:].any()


def test_per_feature_gives_the_tokens_of_nemos_normalised_features(synthetic_features):
    """The streaming encoder's targets are those of the offline recipe, whose preprocessor normalises."""
    ours, theirs = build(normalize="per_feature", num_classes=8192)
    features, lengths = synthetic_features
    offline, _ = log_mel(synthetic_speech(), torch.tensor([64000, 50000]), normalize="per_feature")
    tokens = (lengths // GROUP).tolist()
    ids = ids_of(ours, features, lengths)
    expected = ids_of(theirs, offline[:, :, : offline.shape[2] // GROUP * GROUP])
    for utterance, count in enumerate(tokens):
        assert (ids[utterance, :count] == expected[utterance, :count]).double().mean() > 0.99


def test_per_feature_without_lengths_takes_all_frames_as_valid():
    ours, _ = build(normalize="per_feature")
    features = -8 + torch.randn(2, 80, 5 * GROUP)
    everything = torch.tensor([5 * GROUP] * 2)
    assert torch.equal(ids_of(ours, features), ids_of(ours, features, everything))


def test_per_feature_ids_do_not_depend_on_padding_or_on_the_batch():
    ours, _ = build(normalize="per_feature")
    features = -8 + torch.randn(4, 80, 6 * GROUP)
    lengths = torch.tensor([40, 6 * GROUP, 11, 30])
    together = ids_of(ours, features, lengths)
    for utterance, length in enumerate(lengths.tolist()):
        alone = ids_of(ours, features[utterance : utterance + 1, :, :length])
        assert torch.equal(together[utterance, : alone.shape[1]], alone[0])


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_short_and_constant_input_gives_ids_and_no_nan(normalize):
    ours, _ = build(normalize=normalize)
    features = torch.randn(4, 80, 2 * GROUP)
    features[2] = -16.6
    features[3, ::2] = 3.0
    lengths = torch.tensor([0, 1, 2 * GROUP, 2 * GROUP])
    codes, ids = ours(input_signal=features, input_lengths=lengths)
    assert torch.isfinite(codes).all()
    assert ids.min() >= 0 and ids.max() < 512
    if normalize == "per_feature":
        assert not ids[0].any() and not ids[1].any()  # nothing valid; and one frame is its own mean


def test_targets_collapse_without_normalisation_and_not_with_it(recorded_features):
    features, lengths = recorded_features
    valid = torch.arange(math.ceil(features.shape[2] / GROUP)) < (lengths // GROUP).unsqueeze(1)
    found = {}
    for normalize in NORMALIZATIONS:
        ours, theirs = build(normalize=normalize)
        found[normalize] = perplexity(ids_of(ours, features, lengths)[valid], 512)
    cut = features.shape[2] // GROUP
    found["NeMo"] = perplexity(ids_of(theirs, features[:, :, : cut * GROUP])[valid[:, :cut]], 512)
    assert found["per_feature"] > 50 and found["layer_norm"] > 50
    assert found["NeMo"] < 6 and found["none"] < 6


# ---------------------------------------------------------------------------------------------- precision and gradient


def test_autocast_does_not_change_ids():
    ours, _ = build(normalize="per_feature", num_classes=8192)
    features = -8 + 3 * torch.randn(2, 80, 20 * GROUP)
    expected = ids_of(ours, features)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            codes, ids = ours(input_signal=features)
        assert torch.equal(ids, expected)
        assert codes.dtype == torch.float64


def test_reduced_precision_of_float32_products_does_not_change_ids():
    ours, _ = build(num_classes=8192)
    features = torch.randn(2, 80, 20 * GROUP)
    expected = ids_of(ours, features)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(ids_of(ours, features), expected)
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_quantizer_in_bfloat16_gives_the_ids_of_its_rounded_weights():
    ours, _ = build()
    ours = ours.to(torch.bfloat16)
    features = torch.randn(2, 80, 20 * GROUP).to(torch.bfloat16)
    codes, ids = ours(input_signal=features)
    directions = F.normalize(ours.codebooks[0].double(), dim=-1)
    expected = (stacked(features) @ ours.proj.weight.double().t() @ directions.t()).argmax(-1)
    assert torch.equal(ids, expected)
    assert codes.dtype == torch.bfloat16


def test_the_length_of_a_code_does_not_matter():
    ours, _ = build()
    features = torch.randn(2, 80, 20 * GROUP)
    expected = ids_of(ours, features)
    ours.codebooks.data[:, ::2] *= 3
    assert torch.equal(ids_of(ours, features), expected)


def test_a_frozen_quantizer_makes_no_graph():
    ours, _ = build(normalize="per_feature")
    codes, ids = ours(input_signal=torch.randn(2, 80, 2 * GROUP, requires_grad=True))
    assert codes.grad_fn is None and not codes.requires_grad
    assert not ids.requires_grad


def test_trained_codebooks_get_a_gradient():
    ours, _ = build(freeze=False)
    codes, ids = ours(input_signal=torch.randn(2, 80, 2 * GROUP))
    codes.sum().backward()
    used = ours.codebooks.grad[0].abs().sum(-1) > 0
    assert torch.equal(used.nonzero().flatten(), ids.unique())


def test_the_input_is_left_as_it_was():
    features = torch.randn(2, 80, 3 * GROUP + 1)
    for normalize in NORMALIZATIONS:
        before = features.clone()
        build(normalize=normalize)[0](input_signal=features)
        assert torch.equal(features, before)


# ------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_ids_do_not_depend_on_how_the_work_is_cut(normalize, monkeypatch):
    ours, _ = build(normalize=normalize, num_books=2)
    features = -8 + 3 * torch.randn(3, 80, 9 * GROUP + 5)
    lengths = torch.tensor([9 * GROUP + 5, 50, 3])
    expected = ids_of(ours, features, lengths)
    for bytes_at_once in (1, 3 * 512 * 8, 4 * 80 * GROUP * 8, 1 << 40):
        monkeypatch.setattr(quantizers, "_FEATURE_BYTES", {"cpu": bytes_at_once})
        monkeypatch.setattr(quantizers, "_SCORE_BYTES", {"cpu": bytes_at_once})
        assert torch.equal(ids_of(ours, features, lengths), expected)


def peak_bytes(call, tmp_path) -> int:
    """The most that `call` had allocated at one time, by torch's own record of allocations."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    profile.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    allocated = peak = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        allocated += event["args"]["Bytes"]
        peak = max(peak, allocated)
    return peak


@pytest.mark.parametrize("batch, frames, num_classes", [(4, 1600, 8192), (1, 400, 8192), (8, 1600, 512)])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_memory_stays_below_one_and_a_half_float32_scores(batch, frames, num_classes, normalize, tmp_path):
    ours, _ = build(normalize=normalize, num_classes=num_classes)
    features = torch.randn(batch, 80, frames)
    peak = peak_bytes(lambda: ours(input_signal=features), tmp_path)
    assert 0 < peak <= 1.5 * batch * frames / GROUP * num_classes * 4


@pytest.mark.slow
def test_a_large_batch_of_long_utterances_fits(tmp_path):
    ours, _ = build(normalize="per_feature", num_classes=8192)
    features = torch.randn(64, 80, 6000)
    ids = []
    peak = peak_bytes(lambda: ids.append(ids_of(ours, features)), tmp_path)
    assert ids[0].shape == (64, 750)
    assert 0 < peak < 100e6


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("name", ["feat_in", "code_dim", "num_classes", "num_books", "combine_time_steps"])
@pytest.mark.parametrize("value, error", [(0, ValueError), (-3, ValueError), (2.5, TypeError), (True, TypeError)])
def test_sizes_that_are_no_whole_numbers_are_refused(name, value, error):
    with pytest.raises(error, match=f"{name} must be a whole number >= 1; got {value}"):
        build(**{name: value})


@pytest.mark.parametrize("value", ["per_utterance", None, "NA"])
def test_an_unknown_normalize_is_refused(value):
    with pytest.raises(ValueError, match="normalize must be one of 'none', 'layer_norm', 'per_feature'; got"):
        build(normalize=value)


def test_an_unknown_distance_is_refused_as_nemo_does():
    with pytest.raises(ValueError, match="Unknown distance function hamming"):
        build(dist_fn="hamming")


def test_features_of_another_size_are_refused():
    ours, _ = build()
    with pytest.raises(ValueError, match=r"input_signal must be \[B, D, T\] with D = feat_in = 80 .*; got D = 64"):
        ours(input_signal=torch.randn(2, 64, 16))
    ours, _ = build(time_ahead=True)
    with pytest.raises(ValueError, match=r"input_signal must be \[B, T, D\] with D = feat_in = 80 .*; got D = 16"):
        ours(input_signal=torch.randn(2, 80, 16))


def test_features_that_are_not_floating_point_are_refused():
    with pytest.raises(TypeError, match="input_signal must be floating point; got torch.int64"):
        build()[0](input_signal=torch.ones(2, 80, 16, dtype=torch.long))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_features_that_are_not_finite_are_refused_by_utterance(value, dtype, normalize):
    ours, _ = build(normalize=normalize)
    features = torch.full((4, 80, 19), 60000.0, dtype=dtype)  # a half would overflow in its own sum
    lengths = torch.tensor([19, 19, 19, 3])
    ours(input_signal=features, input_lengths=lengths)
    features[1, 3, 17] = features[3, 0, 0] = value
    with pytest.raises(ValueError, match=r"input_signal must be finite; got .* utterance\(s\) \[1, 3\] of the batch"):
        ours(input_signal=features, input_lengths=lengths)


def test_lengths_that_do_not_fit_are_refused():
    ours, _ = build(normalize="per_feature")
    features = torch.randn(2, 80, 16)
    with pytest.raises(ValueError, match=r"input_lengths must be \[B\] = \[2\]; got \[3\]"):
        ours(input_signal=features, input_lengths=torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match=r"input_lengths must be from 0 to T = 16 frames; got \[16, 17\]"):
        ours(input_signal=features, input_lengths=torch.tensor([16, 17]))
    with pytest.raises(ValueError, match=r"got \[-1, 3\]"):
        ours(input_signal=features, input_lengths=torch.tensor([-1, 3]))


# ---------------------------------------------------------------------------------------------------------------- GPU


@pytest.mark.gpu
class TestOnGpu:
    def test_ids_are_those_of_the_cpu_with_tf32_allowed(self):
        ours, _ = build(num_classes=8192)
        features = -8 + 3 * torch.randn(4, 80, 50 * GROUP)
        expected = ids_of(ours, features)
        before = torch.get_float32_matmul_precision()
        try:
            torch.set_float32_matmul_precision("high")
            with torch.autocast("cuda", dtype=torch.bfloat16):
                got = ids_of(ours.cuda(), features.cuda())
        finally:
            torch.set_float32_matmul_precision(before)
        assert torch.equal(got.cpu(), expected)

    @pytest.mark.parametrize("normalize", NORMALIZATIONS)
    def test_nothing_waits_for_the_device(self, normalize):
        ours = build(normalize=normalize)[0].cuda()
        features, lengths = torch.randn(2, 80, 99, device="cuda"), torch.tensor([99, 50], device="cuda")
        ids_of(ours, features, lengths)
        before = torch.cuda.get_sync_debug_mode()
        try:
            torch.cuda.set_sync_debug_mode("error")
            ids_of(ours, features, lengths)
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def test_the_debug_switch_checks_features(self):
        ours = build()[0].cuda()
        features = torch.randn(2, 80, 16, device="cuda")
        features[1, 0, 0] = float("nan")
        ids_of(ours, features)
        ours.check_inputs = True
        with pytest.raises(ValueError, match=r"utterance\(s\) \[1\]"):
            ids_of(ours, features)
