"""A small corpus: utterances that differ, noises, and manifests of both."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet, Recording
from omegaconf import OmegaConf
from small_corpus import RATE, entries_of, speech_like, tar_up, write_audio, write_manifest
from torch.utils.data import DataLoader

from nemo.collections.asr.data.audio_files import read_audio


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> dict[str, Path]:
    """Manifests: `speech` (7 utterances of 1 s to 1.7 s), `other` (4), `noise` and `more_noise` (2 recordings)."""
    folder = tmp_path_factory.mktemp("corpus")
    durations = {
        "speech": [1.0, 1.6, 1.2, 1.7, 1.1, 1.5, 1.3],
        "other": [1.25, 1.15, 1.4, 1.05],
        "noise": [0.4, 3.0],
        "more_noise": [2.0, 0.7],
    }
    manifests = {"folder": folder}
    for kind, seconds in durations.items():
        entries = []
        for index, duration in enumerate(seconds):
            seed = 100 * sorted(durations).index(kind) + index
            file = write_audio(folder / kind / f"{kind}{index}.wav", speech_like(seed, duration))
            entries.append({"audio_filepath": str(file), "duration": duration})
        manifests[kind] = write_manifest(folder / f"{kind}.json", entries)
    return manifests


@pytest.fixture(scope="session")
def augmentor_config() -> Callable:
    """The config of an augmentation: `augmentor_config(prob=0.5)`."""

    def make(**options) -> dict:
        return {
            "_target_": "nemo.collections.asr.modules.ssl_modules.MultiSpeakerNoiseAugmentation",
            "prob": 0.6,
            "noise_ratio": 0.6,
            "min_r_speech": -5.0,
            "max_r_speech": 5.0,
            "min_r_noise": -5.0,
            "max_r_noise": 20.0,
            "min_mix_rate": 0.2,
            "max_mix_rate": 0.8,
            **options,
        }

    return make


@pytest.fixture
def warnings_of_nemo(monkeypatch) -> list[str]:
    """What NeMo's logger says at levels info, warning and error, in order."""
    from nemo.utils import logging

    said: list[str] = []
    for level in ("info", "warning", "error"):
        monkeypatch.setattr(logging, level, lambda message, *rest, **options: said.append(str(message)))
    return said


@pytest.fixture
def said_by_workers(monkeypatch, tmp_path) -> Path:
    """A file with the warnings of NeMo's logger, those of forked workers too."""
    from nemo.utils import logging

    file = tmp_path / "warnings"
    file.touch()

    def write(message, *rest, **options):
        with file.open("a") as opened:
            opened.write(f"{message}\n")

    monkeypatch.setattr(logging, "warning", write)
    return file


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def known(corpus) -> dict[int, np.ndarray]:
    """The utterances by their length, which differs for all of them."""
    entries = entries_of(corpus["speech"]) + entries_of(corpus["other"])
    samples = [read_audio(entry["audio_filepath"], RATE) for entry in entries]
    assert len({len(utterance) for utterance in samples}) == 11
    return {len(utterance): utterance for utterance in samples}
