"""Speech to train on, and a trainer that remembers what happened in each step."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(scope="session")
def manifests(tmp_path_factory) -> dict[str, Path]:
    """Eight utterances, three others and two noises, as NeMo manifests: `speech`, `other`, `noise`."""
    import soundfile

    folder = tmp_path_factory.mktemp("audio")
    generator = np.random.default_rng(0)
    durations = {
        "speech": [2.0, 1.5, 2.21, 1.33, 2.0, 1.7, 1.41, 1.9],
        "other": [1.2, 2.3, 1.6],
        "noise": [1.0, 3.0],
    }
    manifests = {}
    for kind, seconds in durations.items():
        lines = []
        for index, duration in enumerate(seconds):
            file = folder / f"{kind}{index}.wav"
            envelope = generator.random((int(100 * duration) + 1, 1)).repeat(160, 1).flatten()[: int(16000 * duration)]
            soundfile.write(file, 0.1 * envelope * generator.standard_normal(len(envelope)), 16000)
            lines.append(json.dumps({"audio_filepath": file.name, "duration": duration, "text": "a"}))
        manifests[kind] = folder / f"{kind}.json"
        manifests[kind].write_text("\n".join(lines) + "\n")
    return manifests


@pytest.fixture(scope="session")
def training_data(manifests) -> Callable:
    """Config of a dataset with noise and other speakers in it: `training_data("speech", shuffle=True)`.

    `augmented=False` leaves both away.
    """

    def make(kind: str = "speech", augmented: bool = True, **options) -> dict:
        data = {
            "manifest_filepath": str(manifests[kind]),
            "noise_manifest": str(manifests["noise"]),
            "sample_rate": 16000,
            "batch_size": 2,
            "shuffle": False,
            "num_workers": 0,
            "batch_augmentor": {
                "_target_": "nemo.collections.asr.modules.ssl_modules.MultiSpeakerNoiseAugmentation",
                "prob": 0.9,
                "noise_ratio": 0.7,
                "min_r_speech": -5.0,
                "max_r_speech": 5.0,
                "min_r_noise": -5.0,
                "max_r_noise": 20.0,
                "min_mix_rate": 0.5,
                "max_mix_rate": 0.5,
                "min_num_segments": 1,
                "max_num_segments": 1,
                "min_num_speakers": 1,
                "max_num_speakers": 1,
            },
            **options,
        }
        if not augmented:
            data["noise_manifest"], data["batch_augmentor"]["prob"] = None, 0.0
        return data

    return make


@pytest.fixture(scope="session")
def fit() -> Callable:
    """Trains a model: `fit(model, max_steps=3).losses`; options are those of Lightning's `Trainer`."""
    import lightning.pytorch as pl

    class Recorder(pl.Callback):
        def __init__(self):
            self.record = SimpleNamespace(losses=[], contexts=[], validations=[])

        def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
            self.record.losses.append(float(outputs["loss"]))
            self.record.contexts.append(list(getattr(model, "current_att_context", None) or []))

        def on_validation_end(self, trainer, model):
            if not trainer.sanity_checking:
                metrics = trainer.callback_metrics.items()
                self.record.validations.append({name: float(value) for name, value in metrics if "val_" in name})

    def run(model, callbacks=(), ckpt_path=None, **options) -> SimpleNamespace:
        recorder = Recorder()
        defaults = dict(
            max_steps=3,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
        )
        trainer = pl.Trainer(**{**defaults, **options}, callbacks=[recorder, *callbacks])
        model.set_trainer(trainer)
        trainer.fit(model, ckpt_path=ckpt_path)
        recorder.record.trainer = trainer
        return recorder.record

    return run
