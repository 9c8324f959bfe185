"""Every kind of data set that NeMo has for speech with noise: what comes out of the model's data loaders."""

import json
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from lhotse import CutSet, Recording
from omegaconf import OmegaConf
from small_corpus import RATE, write_manifest
from torch.utils.data import DataLoader

from nemo.collections.asr.data.audio_files import read_audio
from nemo.collections.asr.data.ssl_dataset import AudioNoiseBatch
from nemo.collections.asr.parts.utils.repeatable_data import make_repeatable

KINDS = ("plain", "concat", "tarred", "buckets", "adaptive buckets", "concat tarred", "lhotse cuts", "lhotse shar")


def entries_of(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def tar_up(manifest: Path, folder: Path) -> dict[str, str]:
    """Puts the files of a manifest into two tar files, and returns the options that name them."""
    folder.mkdir(exist_ok=True)
    entries = entries_of(manifest)
    for shard in range(2):
        with tarfile.open(folder / f"audio_{shard}.tar", "w") as tar:
            for entry in entries[shard::2]:
                tar.add(entry["audio_filepath"], arcname=Path(entry["audio_filepath"]).name)
    names = [{**entry, "audio_filepath": Path(entry["audio_filepath"]).name} for entry in entries]
    written = write_manifest(folder / "tarred_audio_manifest.json", names)
    return {"manifest_filepath": str(written), "tarred_audio_filepaths": str(folder / "audio__OP_0..1_CL_.tar")}


@pytest.fixture(scope="module")
def stored(corpus, tmp_path_factory) -> dict[str, dict]:
    """What each kind of data set is told of where its audio is: 7 utterances of `speech`, 4 of `other` in mixtures."""
    folder = tmp_path_factory.mktemp("stored")
    speech, other = (tar_up(corpus[kind], folder / kind) for kind in ("speech", "other"))
    both = {key: [speech[key], other[key]] for key in speech}
    in_buckets = {key: [[value] for value in values] for key, values in both.items()}
    cuts = CutSet.from_cuts(
        Recording.from_file(entry["audio_filepath"]).to_cut() for entry in entries_of(corpus["speech"])
    )
    cuts.to_file(folder / "cuts.jsonl.gz")
    (folder / "shar").mkdir()
    cuts.to_shar(folder / "shar", fields={"recording": "wav"}, shard_size=4)
    mixture = {"is_concat": True, "concat_sampling_technique": "round-robin"}
    lhotse = {"use_lhotse": True, "use_bucketing": False, "force_finite": True}
    return {
        "plain": {"manifest_filepath": str(corpus["speech"])},
        "concat": {"manifest_filepath": [str(corpus["speech"]), str(corpus["other"])], **mixture},
        "tarred": {"is_tarred": True, **speech},
        "buckets": {"is_tarred": True, **in_buckets},
        "adaptive buckets": {"is_tarred": True, "bucketing_batch_size": [3, 2], "batch_size": 1, **in_buckets},
        "concat tarred": {"is_tarred": True, **mixture, **both},
        "lhotse cuts": {"cuts_path": str(folder / "cuts.jsonl.gz"), **lhotse},
        "lhotse shar": {"shar_path": str(folder / "shar"), **lhotse},
    }


@pytest.fixture(scope="module")
def loader(stored, corpus, augmentor_config, tiny_model) -> Callable:
    """The data loader that a model makes of a config: `loader("tarred", noise_manifest=None)`."""
    model = tiny_model()

    def make(kind: str, **options) -> DataLoader:
        config = {
            "sample_rate": RATE,
            "batch_size": 3,
            "shuffle": False,
            "num_workers": 0,
            "noise_manifest": [str(corpus["noise"]), str(corpus["more_noise"])],
            "batch_augmentor": augmentor_config(),
            **stored[kind],
            **options,
        }
        return model._setup_dataloader_from_config(OmegaConf.create(config))

    return make


@pytest.fixture(scope="module")
def known(corpus) -> dict[int, np.ndarray]:
    """The utterances by their length, which differs for all of them."""
    entries = entries_of(corpus["speech"]) + entries_of(corpus["other"])
    samples = [read_audio(entry["audio_filepath"], RATE) for entry in entries]
    assert len({len(utterance) for utterance in samples}) == 11
    return {len(utterance): utterance for utterance in samples}


def utterances(batches) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Audio, noise and noisy audio [n] of each utterance; lengths and padding are checked on the way."""
    for batch in batches:
        assert isinstance(batch, AudioNoiseBatch)
        lengths = batch.audio_len.tolist()
        assert batch.noise_len.tolist() == batch.noisy_audio_len.tolist() == lengths
        assert batch.audio.dtype == batch.noisy_audio.dtype == torch.float32 and batch.audio_len.dtype == torch.int64
        assert batch.audio.shape == batch.noise.shape == batch.noisy_audio.shape == (len(lengths), max(lengths))
        for index, length in enumerate(lengths):
            for signal in (batch.audio, batch.noise, batch.noisy_audio):
                assert not signal[index, length:].any()
            yield batch.audio[index, :length], batch.noise[index, :length], batch.noisy_audio[index, :length]


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


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_validation_has_the_same_noise_in_every_epoch(loader, kind, workers):
    repeated = make_repeatable(loader(kind, num_workers=workers), seed=0)
    first = [batch.noisy_audio for batch in repeated]
    torch.rand(3)
    np.random.rand(5)
    second = [batch.noisy_audio for batch in repeated]
    assert len(first) == len(second) and all(map(torch.equal, first, second))
