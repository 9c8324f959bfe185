"""Every kind of data set that NeMo has for speech with noise: what comes out of the model's data loaders."""

import random

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from small_corpus import KINDS, RATE, entries_of, speech_like, utterances, write_audio, write_manifest

from nemo.collections.asr.data import ssl_dataset
from nemo.collections.asr.data.audio_files import read_audio
from nemo.collections.asr.data.ssl_dataset import AudioNoiseBatch, AudioNoiseDataset, AudioNoiseItem
from nemo.collections.asr.parts.utils.repeatable_data import make_repeatable


@pytest.mark.parametrize("kind", KINDS)
def test_utterances_are_those_of_the_files_and_some_have_noise_added(loader, known, kind):
    seen, clean, noisy = [], 0, 0
    for _ in range(3):
        for audio, noise, mixed in utterances(loader(kind)):
            np.testing.assert_array_equal(audio, known[len(audio)])
            torch.testing.assert_close(mixed, audio + noise, rtol=0, atol=0)
            clean, noisy = clean + (not noise.any()), noisy + bool(noise.any())
            seen.append(len(audio))
    everything = 11 if kind in ("concat", "buckets", "adaptive buckets", "concat tarred") else 7
    assert len(seen) == 3 * everything
    if kind not in ("concat", "concat tarred"):
        assert len(set(seen)) >= everything - 1, "each utterance once"
    assert clean >= 3 and noisy >= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {"batch_augmentor": {"prob": 0.0}},
        {"batch_augmentor": None},
        {"batch_augmentor": None, "noise_manifest": None},
        {"batch_augmentor": {"prob": 1.0, "noise_ratio": 1.0}, "noise_manifest": None},
    ],
)
def test_speech_is_clean_without_augmentation_whatever_the_manifests(loader, augmentor_config, kind, options):
    if options["batch_augmentor"] is not None:
        options = {**options, "batch_augmentor": augmentor_config(**options["batch_augmentor"])}
    for audio, noise, mixed in utterances(loader(kind, **options)):
        assert torch.equal(audio, mixed) and not noise.any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_one_gets_noise(loader, augmentor_config, kind):
    if kind == "adaptive buckets":
        options = {"bucketing_batch_size": [1, 1]}
    else:
        options = {"batch_size": 1}
    loaded = loader(kind, **options, batch_augmentor=augmentor_config(prob=1.0, noise_ratio=0.0))
    batches = list(loaded)
    assert all(batch.audio.shape[0] == 1 for batch in batches)
    assert all(noise.any() for _, noise, _ in utterances(batches))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_workers_seed_gives_the_same_batches(loader, kind, workers):
    def noisy_audio(seed: int) -> list[torch.Tensor]:
        loaded = loader(kind, num_workers=workers, shuffle=True, shard_seed=0)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return [batch.noisy_audio for batch in loaded]

    def same(ones, others) -> bool:
        return len(ones) == len(others) and all(map(torch.equal, ones, others))

    first = noisy_audio(1)
    assert same(first, noisy_audio(1))
    if not (kind == "lhotse shar" and workers):  # these workers are seeded by `seed` of the config
        assert not same(first, noisy_audio(2))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_validation_has_the_same_noise_in_every_epoch(loader, kind, workers):
    repeated = make_repeatable(loader(kind, num_workers=workers), seed=0)
    first = [batch.noisy_audio for batch in repeated]
    torch.rand(3)
    np.random.rand(5)
    second = [batch.noisy_audio for batch in repeated]
    assert len(first) == len(second) and all(map(torch.equal, first, second))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_mixture_has_all_of_a_ranks_data_in_every_epoch(corpus, rank):
    config = OmegaConf.create(
        {
            "sample_rate": RATE,
            "shuffle": False,
            "is_concat": True,
            "concat_shuffle": False,
            "concat_sampling_technique": "round-robin",
            "manifest_filepath": [str(corpus["other"]), str(corpus["other"])],
        }
    )
    mixture = ssl_dataset.get_audio_noise_dataset_from_config(config, global_rank=rank, world_size=2)
    epochs = [[item.sample_id for item in mixture] for _ in range(3)]
    assert epochs == [[str(2 * rank), str(2 * rank), str(2 * rank + 1), str(2 * rank + 1)]] * 3


def test_noise_of_all_manifests_is_heard(loader, corpus, augmentor_config):
    noises = [
        read_audio(entry["audio_filepath"], RATE)
        for kind in ("noise", "more_noise")
        for entry in entries_of(corpus[kind])
    ]
    always = augmentor_config(prob=1.0, noise_ratio=1.0, min_mix_rate=0.1, max_mix_rate=0.1, max_num_segments=1)
    found = set()
    for _ in range(12):
        for _, noise, _ in utterances(loader("plain", batch_augmentor=always)):
            (where,) = noise.numpy().nonzero()
            piece = noise[where[0] : where[0] + 200].numpy()
            piece = piece / np.linalg.norm(piece)
            for number, recording in enumerate(noises):
                energy = np.sqrt(np.convolve(recording**2, np.ones(len(piece)), "valid"))
                if (np.correlate(recording, piece, "valid") / np.maximum(energy, 1e-9)).max() > 0.999:
                    found.add(number)
    assert found == {0, 1, 2, 3}


def test_an_augmentor_of_ones_own_is_given_noise_for_all_of_every_utterance(corpus):
    seen = []

    def augmentor(batch: AudioNoiseBatch) -> AudioNoiseBatch:
        seen.append((batch.noise.clone(), batch.noise_len.clone()))
        batch.noisy_audio, batch.noisy_audio_len = batch.audio - batch.noise, batch.audio_len
        return batch

    options = {"manifest_filepath": str(corpus["speech"]), "labels": None, "sample_rate": RATE}
    data = AudioNoiseDataset(noise_manifest=str(corpus["noise"]), batch_augmentor=augmentor, **options)
    batch = data.collate_fn([data[0], data[3]])
    noise, lengths = seen[0]
    assert noise.shape == batch.audio.shape and set(lengths.tolist()) <= {6400, 16000, 27200}
    assert torch.equal(batch.noisy_audio, batch.audio - noise)
    data = AudioNoiseDataset(batch_augmentor=augmentor, **options)
    data.collate_fn([data[0], data[3]])
    noise, lengths = seen[1]
    assert not noise.any() and lengths.tolist() == [16000, 27200]


def test_items_that_come_with_noise_are_given_it(augmentor_config):
    items = [
        AudioNoiseItem(str(n), torch.randn(n), torch.tensor(n), torch.ones(n), torch.tensor(n)) for n in (300, 200)
    ]
    augmentor = ssl_dataset.Serialization.from_config_dict(augmentor_config(prob=1.0, noise_ratio=1.0))
    batch = ssl_dataset._audio_noise_collate_fn(items, augmentor)
    for index in range(2):
        assert len(batch.noise[index].unique()) == 2, "zeros, and ones times a gain"
    clean = ssl_dataset._audio_noise_collate_fn(items)
    assert torch.equal(clean.noisy_audio, clean.audio) and not clean.noise.any()


@pytest.mark.slow
def test_trimming_and_perturbation_are_nemos(loader, tmp_path):
    samples = np.concatenate([np.zeros(8000), speech_like(0, 1.5) + 0.2, np.zeros(12000)])
    file = write_audio(tmp_path / "quiet.wav", samples)
    manifest = write_manifest(tmp_path / "quiet.json", [{"audio_filepath": str(file), "duration": 2.75}])
    ((audio, _, _),) = utterances(loader("plain", manifest_filepath=str(manifest), trim_silence=True))
    assert 24000 <= len(audio) < 28000
    louder = {"gain": {"prob": 1.0, "min_gain_dbfs": 6.0, "max_gain_dbfs": 6.0}}
    ((audio, _, _),) = utterances(loader("plain", manifest_filepath=str(manifest), augmentor=louder))
    np.testing.assert_allclose(audio, read_audio(file, RATE) * 10 ** (6 / 20), rtol=1e-4, atol=1e-6)
    assert len(list(loader("plain", manifest_filepath=str(manifest), augmentor=None))) == 1


def test_a_batch_can_be_pinned(monkeypatch):
    from torch.utils.data._utils.pin_memory import pin_memory

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, device=None: tensor + 1)
    pinned = pin_memory(AudioNoiseBatch(audio=torch.zeros(2), audio_len=torch.ones(1)))
    assert isinstance(pinned, AudioNoiseBatch) and pinned.noise is None
    assert pinned.audio.tolist() == [1, 1] and pinned.audio_len.tolist() == [2]
