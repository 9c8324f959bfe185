"""What augmentation adds: to whom, what, how much of it, where, and how loud; as NeMo does where NeMo is right."""

import copy
import random

import numpy as np
import pytest
import torch
from scipy import stats

from nemo.collections.asr.data.ssl_dataset import AudioNoiseBatch
from nemo.collections.asr.modules.ssl_modules import MultiSpeakerNoiseAugmentation, SpeakerNoiseAugmentation
from nemo.collections.asr.modules.ssl_modules.augmentation import (
    NemoMultiSpeakerNoiseAugmentation,
    NemoSpeakerNoiseAugmentation,
)

BOTH = pytest.mark.parametrize("kind", [SpeakerNoiseAugmentation, MultiSpeakerNoiseAugmentation])
ALWAYS = {"prob": 1.0, "noise_ratio": 0.5, "min_mix_rate": 0.3, "max_mix_rate": 0.7}


def batch_of(lengths, noise_lengths=None, seed: int = 0) -> AudioNoiseBatch:
    """Speech [B, N] and noise [B, N] of seeded random numbers, zeros behind both."""
    generator = torch.Generator().manual_seed(seed)
    noise_lengths = lengths if noise_lengths is None else noise_lengths

    def signals(lengths):
        signal = torch.randn(len(lengths), max(batch_lengths), generator=generator)
        return torch.where(torch.arange(signal.shape[1]) < torch.tensor(lengths)[:, None], signal, 0.0)

    batch_lengths = [max(pair) for pair in zip(lengths, noise_lengths, strict=True)]
    width = max(lengths)
    return AudioNoiseBatch(
        audio=signals(lengths)[:, :width],
        audio_len=torch.tensor(lengths),
        noise=signals(noise_lengths)[:, :width],
        noise_len=torch.tensor(noise_lengths).clamp(max=width),
    )


def seeded(augmentation, batch, seed: int = 0) -> AudioNoiseBatch:
    random.seed(seed)
    np.random.seed(seed)
    return augmentation(batch)


def covered(batch: AudioNoiseBatch, index: int) -> torch.Tensor:
    return batch.noise[index].nonzero()[:, 0]


@BOTH
def test_what_is_not_augmented_is_clean(kind):
    augmentation = kind(**{**ALWAYS, "prob": 0.5})
    clean = augmented = 0
    for seed in range(30):
        batch = batch_of([900, 700, 1000, 333], seed=seed)
        out = seeded(augmentation, batch, seed)
        for index in range(4):
            changed = not torch.equal(out.noisy_audio[index], batch.audio[index])
            assert changed == bool(out.noise[index].any())
            clean, augmented = clean + (not changed), augmented + changed
    assert clean > 30 and augmented > 30


@BOTH
def test_no_utterance_is_augmented_with_probability_0_and_all_are_with_1(kind):
    for seed in range(20):
        batch = batch_of([500, 400], seed=seed)
        out = seeded(kind(prob=0.0, noise_ratio=1.0), batch, seed)
        assert torch.equal(out.noisy_audio, batch.audio) and not out.noise.any()
        out = seeded(kind(**ALWAYS), batch, seed)
        assert (out.noisy_audio != batch.audio).any(dim=1).all()


@BOTH
def test_lengths_are_the_speechs_and_noisy_is_audio_and_noise(kind):
    batch = batch_of([900, 100, 640], noise_lengths=[30, 900, 640])
    out = seeded(kind(**{**ALWAYS, "prob": 0.6}), batch)
    assert out.audio_len.tolist() == out.noise_len.tolist() == out.noisy_audio_len.tolist() == [900, 100, 640]
    assert torch.equal(out.noisy_audio, out.audio + out.noise)
    for index, length in enumerate([900, 100, 640]):
        assert not out.noisy_audio[index, length:].any()


@BOTH
def test_the_batch_that_is_given_is_not_changed(kind):
    batch = batch_of([500, 300, 400])
    before = copy.deepcopy(batch)
    out = seeded(kind(**ALWAYS), batch)
    assert torch.equal(batch.audio, before.audio) and torch.equal(batch.noise, before.noise)
    assert torch.equal(batch.noise_len, before.noise_len) and batch.noisy_audio is None
    out.noisy_audio_len += 1
    out.noisy_audio += 1
    assert torch.equal(batch.audio_len, before.audio_len) and torch.equal(batch.audio, before.audio)


@BOTH
def test_a_seed_gives_the_same_batch_again(kind):
    batch = batch_of([500, 300, 400])
    once, again, other = (seeded(kind(**ALWAYS), batch, seed).noisy_audio for seed in (1, 1, 2))
    assert torch.equal(once, again) and not torch.equal(once, other)


@BOTH
@pytest.mark.parametrize("noise_ratio", [0.0, 1.0])
def test_the_energy_ratio_holds_over_what_is_covered(kind, noise_ratio):
    augmentation = kind(
        **{**ALWAYS, "noise_ratio": noise_ratio},
        min_r_speech=3.0,
        max_r_speech=3.0,
        min_r_noise=12.0,
        max_r_noise=12.0,
    )
    batch = batch_of([4000, 5000, 6000], noise_lengths=[900, 5000, 6000])
    out = seeded(augmentation, batch)
    for index, length in enumerate([4000, 5000, 6000]):
        speech = batch.audio[index, :length].square().mean()
        added = out.noise[index, covered(out, index)].square().mean()
        assert 10 * torch.log10(speech / added) == pytest.approx(12.0 if noise_ratio else 3.0, abs=0.01)


@BOTH
@pytest.mark.parametrize("rates", [(0.25, 0.25), (0.0, 0.0), (1.0, 1.0), (0.4, 0.6)])
def test_the_covered_share_is_the_mix_rate(kind, rates):
    augmentation = kind(**{**ALWAYS, "min_mix_rate": rates[0], "max_mix_rate": rates[1]})
    for seed in range(20):
        out = seeded(augmentation, batch_of([400, 333], seed=seed), seed)
        for index, length in enumerate([400, 333]):
            share = len(covered(out, index))
            assert max(1, int(rates[0] * length)) <= share <= max(1, int(rates[1] * length))


@pytest.mark.parametrize("lengths", [[1], [1, 1], [2, 1, 3], [50], [7, 4000]])
@pytest.mark.parametrize("noise_length", [0, 1, 3, 4000])
def test_any_size_of_batch_utterance_and_noise_is_mixed(lengths, noise_length):
    for kind, options in (
        (SpeakerNoiseAugmentation, {}),
        (MultiSpeakerNoiseAugmentation, {"max_num_segments": 60, "max_num_speakers": 9}),
    ):
        for rates in ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
            augmentation = kind(prob=1.0, noise_ratio=0.5, min_mix_rate=rates[0], max_mix_rate=rates[1], **options)
            for seed in range(5):
                batch = batch_of(lengths, noise_lengths=[noise_length] * len(lengths), seed=seed)
                out = seeded(augmentation, batch, seed)
                assert out.noisy_audio.shape == batch.audio.shape and torch.isfinite(out.noisy_audio).all()


def test_a_batch_of_one_gets_noise():
    batch = batch_of([1000], noise_lengths=[200])
    out = seeded(MultiSpeakerNoiseAugmentation(prob=1.0, noise_ratio=0.0, min_mix_rate=0.5, max_mix_rate=0.5), batch)
    assert covered(out, 0).numel() == 500


def test_an_utterance_of_no_samples_is_passed_over():
    batch = batch_of([0, 300, 200], noise_lengths=[10, 10, 10])
    for seed in range(20):
        out = seeded(MultiSpeakerNoiseAugmentation(**{**ALWAYS, "noise_ratio": 0.0}), batch, seed)
        assert torch.isfinite(out.noisy_audio).all() and not out.noise[0].any() and out.noise[1].any()


def test_noise_that_is_too_short_is_repeated_and_cut_into_pieces_in_order():
    batch = batch_of([1000], noise_lengths=[70])
    augmentation = MultiSpeakerNoiseAugmentation(
        prob=1.0, noise_ratio=1.0, min_mix_rate=0.5, max_mix_rate=0.5, min_num_segments=4, max_num_segments=4
    )
    out = seeded(augmentation, batch)
    heard = out.noise[0, covered(out, 0)]
    expected = batch.noise[0, :70].repeat(8)[:500]
    assert torch.allclose(heard / heard[0], expected / expected[0], rtol=1e-4)


def identified_batch(utterances: int, length: int = 300) -> AudioNoiseBatch:
    """Utterance k is the number k + 1 throughout, with a sign that changes at every sample; noise is a constant -1."""
    signs = torch.tensor([1.0, -1.0]).repeat(length // 2)
    audio = torch.arange(1.0, utterances + 1)[:, None] * signs
    lengths = torch.full((utterances,), length)
    return AudioNoiseBatch(audio=audio, audio_len=lengths, noise=-torch.ones_like(audio), noise_len=lengths.clone())


@pytest.mark.parametrize("limit", [1, 2, 3, 9])
def test_speech_is_that_of_others_and_of_no_more_than_asked_for(limit):
    augmentation = MultiSpeakerNoiseAugmentation(
        prob=1.0,
        noise_ratio=0.0,
        min_mix_rate=0.5,
        max_mix_rate=0.5,
        min_num_segments=8,
        max_num_segments=8,
        min_num_speakers=limit,
        max_num_speakers=limit,
    )
    counts = set()
    for seed in range(20):
        out = seeded(augmentation, identified_batch(5), seed)
        for index in range(5):
            heard = out.noise[index, covered(out, index)].abs()
            ratios = (heard / heard.max()).unique()
            # All pieces have one gain, so that their proportions are those of the utterances that they are from.
            others = [number for number in range(1, 6) if number != index + 1]
            assert any(
                all(min(abs(float(ratio) * loudest - other) for other in others) < 1e-3 for ratio in ratios)
                for loudest in others
            )
            counts.add(len(ratios))
    assert max(counts) == min(limit, 4)


@BOTH
@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"prob": 1.5}, ValueError, "prob must be a number from 0 to 1; got 1.5"),
        ({"prob": "often"}, TypeError, "prob must be a number from 0 to 1; got 'often'"),
        ({"noise_ratio": -0.1}, ValueError, "noise_ratio must be a number from 0 to 1; got -0.1"),
        ({"min_mix_rate": 0.6, "max_mix_rate": 0.5}, ValueError, "max_mix_rate must be at least min_mix_rate = 0.6"),
        ({"max_mix_rate": 1.1}, ValueError, "max_mix_rate must be a number from 0 to 1; got 1.1"),
        ({"min_r_noise": 30.0}, ValueError, "max_r_noise must be at least min_r_noise = 30.0; got 20.0"),
        ({"max_r_speech": float("nan")}, ValueError, "max_r_speech must be a number; got nan"),
        ({"min_r_speech": None}, TypeError, "min_r_speech must be a number; got None"),
    ],
)
def test_a_bad_option_is_refused_by_name(kind, options, error, message):
    with pytest.raises(error, match=message):
        kind(**options)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"min_num_segments": 0}, ValueError, "min_num_segments must be a whole number >= 1; got 0"),
        ({"min_num_segments": 6}, ValueError, "max_num_segments must be at least min_num_segments = 6; got 5"),
        ({"max_num_segments": 2.5}, TypeError, "max_num_segments must be a whole number >= 1; got 2.5"),
        ({"min_num_speakers": -1}, ValueError, "min_num_speakers must be a whole number >= 1; got -1"),
        ({"max_num_speakers": 0}, ValueError, "max_num_speakers must be a whole number >= 1; got 0"),
    ],
)
def test_a_bad_count_is_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        MultiSpeakerNoiseAugmentation(**options)


ALPHA = 1e-4
"""Error rate of each statistical test: with other seeds, one in 10,000 fails although the distributions are equal."""


def heard_by(augmentation, over_utterance: bool, utterances: int = 2400, length: int = 600) -> dict[str, np.ndarray]:
    """What an augmentation adds to many utterances: each entry is one number for each of those that it is about.

    The energy ratio is measured over the whole utterance, or over what is covered.
    """
    facts: dict[str, list[float]] = {
        name: [] for name in ("augmented", "noise", "share", "pieces", "piece", "place", "noise_db", "speech_db")
    }
    random.seed(0)
    np.random.seed(0)
    for _ in range(utterances // 6):
        batch = identified_batch(6, length)
        speech = batch.audio.clone()
        out = augmentation(copy.deepcopy(batch))
        # NeMo gives the noise as it was loaded to utterances that it does not augment.
        untouched = (out.noise == batch.noise).all(dim=1) | ~out.noise.any(dim=1)
        for index in range(6):
            facts["augmented"].append(float(not untouched[index]))
            if untouched[index]:
                continue
            added = out.noise[index].numpy()
            (covers,) = added.nonzero()
            runs = np.split(covers, np.flatnonzero(np.diff(covers) > 1) + 1)
            is_noise = bool((added[covers] < 0).all())
            energy = np.square(added).sum() / (length if over_utterance else len(covers))
            facts["noise"].append(float(is_noise))
            facts["share"].append(len(covers) / length)
            facts["pieces"].append(len(runs))
            facts["piece"].append(len(runs[0]))
            facts["place"].append(covers[0])
            ratio = 10 * np.log10(float(speech[index].square().mean()) / energy)
            facts["noise_db" if is_noise else "speech_db"].append(ratio)
    return {name: np.array(values) for name, values in facts.items()}


def differences(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> list[str]:
    """The facts whose distributions differ, at `ALPHA`: two-sample tests of Fisher, and of Kolmogorov and Smirnov."""
    found = []
    for name in ours:
        if name in ("augmented", "noise"):
            table = [[int(facts[name].sum()), int((1 - facts[name]).sum())] for facts in (ours, theirs)]
            probability = stats.fisher_exact(table).pvalue
        else:
            probability = stats.ks_2samp(ours[name], theirs[name]).pvalue
        if probability < ALPHA:
            found.append(name)
    return found


SAMPLED = {
    "prob": 0.6,
    "noise_ratio": 0.4,
    "min_r_speech": -5.0,
    "max_r_speech": 5.0,
    "min_r_noise": -5.0,
    "max_r_noise": 20.0,
    "min_mix_rate": 0.3,
    "max_mix_rate": 0.8,
}


@pytest.fixture(scope="module")
def heard_in_pieces() -> dict[str, np.ndarray]:
    return heard_by(MultiSpeakerNoiseAugmentation(**SAMPLED), over_utterance=False)


@pytest.mark.slow
def test_several_pieces_are_distributed_as_nemos(heard_in_pieces):
    """Eight tests at an error rate of 1e-4 each: the whole fails wrongly with at most 8 of 10,000 seeds."""
    theirs = heard_by(NemoMultiSpeakerNoiseAugmentation(**SAMPLED), over_utterance=True)
    assert differences(heard_in_pieces, theirs) == []


@pytest.mark.slow
def test_one_stretch_is_distributed_as_nemos():
    """As above."""
    theirs = heard_by(NemoSpeakerNoiseAugmentation(**SAMPLED), over_utterance=False)
    assert differences(heard_by(SpeakerNoiseAugmentation(**SAMPLED), over_utterance=False), theirs) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, expected",
    [
        ({"prob": 0.67}, "augmented"),
        ({"noise_ratio": 0.5}, "noise"),
        ({"min_mix_rate": 0.35}, "share"),
        ({"max_num_segments": 4}, "pieces"),
        ({"max_r_noise": 17.0}, "noise_db"),
        ({"max_r_speech": 4.0}, "speech_db"),
    ],
)
def test_the_statistical_test_sees_a_small_difference(heard_in_pieces, options, expected):
    others = heard_by(MultiSpeakerNoiseAugmentation(**{**SAMPLED, **options}), over_utterance=False)
    assert expected in differences(others, heard_in_pieces)
