"""Fixtures: the shipped recipes as the pretraining script builds them, in the process of the tests."""

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

CONFIGS = Path(__file__).resolve().parents[2] / "examples/asr/conf/ssl/nest"
TINY = (
    *("model.num_classes=32", "model.encoder.n_layers=1", "model.encoder.d_model=16", "model.encoder.n_heads=2"),
    *("model.encoder.subsampling_conv_channels=4", "trainer.accelerator=cpu", "trainer.devices=1"),
    "trainer.enable_progress_bar=false",
)
"""What makes the model small and the machine a CPU. All else is the recipe's."""

WITHOUT_WORKERS = ("model.train_ds.num_workers=0", "model.validation_ds.num_workers=0")
"""For tests that are not about workers: starting eight of them in each epoch takes longer than the rest."""


@pytest.fixture(scope="session")
def utterances(tmp_path_factory) -> Callable:
    """Manifests of recordings of noise: `utterances(10)`, `utterances(1, seconds=0.5)`."""
    import soundfile

    folder = tmp_path_factory.mktemp("utterances")
    generator = np.random.default_rng(0)

    def make(count: int, seconds: float = 2.5) -> Path:
        manifest = folder / f"{count}_of_{seconds}.json"
        entries = []
        for index in range(count):
            file = folder / f"{index}_of_{seconds}.wav"
            if not file.exists():
                soundfile.write(file, 0.1 * generator.standard_normal(int(16000 * seconds)), 16000)
            entries.append({"audio_filepath": file.name, "duration": seconds, "text": ""})
        manifest.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
        return manifest

    return make


@pytest.fixture
def recipe(utterances, tmp_path) -> Any:
    """Trains a recipe: `recipe("trainer.max_steps=3", train=10).trainer`; called again, it resumes.

    Returns the trainer and the model, what `folder` holds (`best`, `last`, `nemo`: lists of files), and the number of
    validations and of steps of this run.
    """
    import lightning.pytorch as pl
    from hydra import compose, initialize_config_dir

    from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
    from nemo.utils.callbacks import NeMoModelCheckpoint
    from nemo.utils.exp_manager import exp_manager
    from nemo.utils.trainer_utils import resolve_trainer_cfg

    class Counts(pl.Callback):
        def __init__(self):
            self.steps = self.validations = 0

        def on_train_batch_end(self, *_):
            self.steps += 1

        def on_validation_end(self, trainer, model):
            self.validations += not trainer.sanity_checking

    def run(
        *overrides: str,
        config: str = "nest_fast-conformer_streaming_dynamic",
        train: int = 10,
        validation: int = 4,
        folder: Path = tmp_path,
        callbacks: Sequence[pl.Callback] = (),
        tiny: Sequence[str] = (*TINY, *WITHOUT_WORKERS),
        fit: bool = True,
    ) -> SimpleNamespace:
        data = (
            f"model.train_ds.manifest_filepath={utterances(train)}",
            f"model.validation_ds.manifest_filepath={utterances(validation)}",
            f"exp_manager.exp_dir={folder}",
        )
        with initialize_config_dir(str(CONFIGS), version_base=None):
            cfg = compose(config, [*tiny, *data, *overrides])
        counts = Counts()
        trainer = pl.Trainer(**resolve_trainer_cfg(cfg.trainer), callbacks=[counts, *callbacks])
        exp_manager(trainer, cfg.exp_manager)
        model = EncDecDenoiseMaskedTokenPredModel(cfg=cfg.model, trainer=trainer)
        if fit:
            trainer.fit(model)
        files = sorted(folder.rglob("*.ckpt"))
        return SimpleNamespace(
            trainer=trainer,
            model=model,
            best=[file for file in files if not file.name.endswith("-last.ckpt")],
            last=[file for file in files if file.name.endswith("-last.ckpt")],
            nemo=list(folder.rglob("*.nemo")),
            validations=counts.validations,
            steps=counts.steps,
        )

    on_ctrl_c = signal.getsignal(signal.SIGINT)
    yield run
    signal.signal(signal.SIGINT, on_ctrl_c)  # Lightning ignores it for good once it has ended a run
    NeMoModelCheckpoint.resumes_from = None
