"""What tests share: tiny models built from the shipped config, and speech."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest_plugins = ["training_fixtures", "recipe_fixtures"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs of the script are slow; tests that need a GPU are skipped where there is none."""
    for item in items:
        if "pretrain" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
        if item.get_closest_marker("gpu") is not None and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="there is no GPU"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


REPOSITORY = Path(__file__).resolve().parent.parent
CONFIGS = REPOSITORY / "examples" / "asr" / "conf" / "ssl" / "nest"
RECORDED = REPOSITORY.parent / "shared" / "speech"


@pytest.fixture(scope="session")
def recorded_speech() -> Path:
    """The folder of recorded sentences, where there is one."""
    if not RECORDED.is_dir():
        pytest.skip(f"no recorded speech: {RECORDED} does not exist")
    return RECORDED


@pytest.fixture(scope="session")
def recorded_samples(recorded_speech: Path) -> list[np.ndarray]:
    """The recorded sentences as samples at 16 kHz, in the order of their manifest."""
    import soundfile

    lines = (recorded_speech / "speech.json").read_text().splitlines()
    samples = []
    for line in lines:
        audio, rate = soundfile.read(recorded_speech / json.loads(line)["audio_filepath"], dtype="float32")
        assert rate == 16000
        samples.append(audio)
    return samples


@pytest.fixture(scope="session")
def tiny_config() -> Callable:
    """Makes the shipped streaming config small; overrides are dotted keys of `model`.

    `tiny_config("encoder.causal_downsampling=false", ...)`, or a dict of dotted keys and values.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    def make(overrides: dict | None = None, config: str = "nest_fast-conformer_streaming_dynamic"):
        with initialize_config_dir(str(CONFIGS), version_base=None):
            cfg = compose(config)
        OmegaConf.set_struct(cfg, False)
        small = {
            "num_classes": 32,
            "encoder.n_layers": 2,
            "encoder.d_model": 32,
            "encoder.n_heads": 4,
            "encoder.subsampling_conv_channels": 8,
            "encoder.att_context_size": [[8, 0], [16, 0], [-1, 0]],
            "encoder.att_context_probs": None,
            "masking.block_size": 16,
            "masking.mask_prob": 0.02,
            "train_ds": None,
            "validation_ds": None,
        }
        for key, value in {**small, **(overrides or {})}.items():
            OmegaConf.update(cfg.model, key, value, force_add=True)
        return OmegaConf.create(OmegaConf.to_container(cfg.model, resolve=True))

    return make


@pytest.fixture(scope="session")
def tiny_model(tiny_config) -> Callable:
    """Builds a tiny model from the shipped config: `tiny_model({"mask_position": "post_conv"}, denoise=False)`."""
    import torch

    def make(overrides: dict | None = None, denoise: bool = True, seed: int = 0, **config):
        from nemo.collections.asr.models.ssl_models import (
            EncDecDenoiseMaskedTokenPredModel,
            EncDecMaskedTokenPredModel,
        )

        torch.manual_seed(seed)
        return (EncDecDenoiseMaskedTokenPredModel if denoise else EncDecMaskedTokenPredModel)(
            tiny_config(overrides, **config)
        )

    return make


@pytest.fixture
def audio() -> tuple:
    """Two utterances [2, N] of seeded noise with a moving envelope, and their lengths [2], 4.0 s and 2.6 s."""
    import torch

    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2, 64000, generator=generator) * torch.rand(2, 64, 1, generator=generator).repeat(
        1, 1, 1000
    ).reshape(2, 64000)
    lengths = torch.tensor([64000, 41613])
    samples[1, 41613:] = 0
    return 0.1 * samples, lengths


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """Fills with the warnings that NeMo's logger is given during the test."""
    from nemo.utils import logging

    given = []
    monkeypatch.setattr(logging, "warning", lambda message, *args, **kwargs: given.append(str(message)))
    return given
