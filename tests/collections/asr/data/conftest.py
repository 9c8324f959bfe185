"""A small corpus: utterances that differ, noises, and manifests of both."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small_corpus import speech_like, write_audio, write_manifest


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
