"""Fixtures: speech to train on, and trainers that remember what happened in each step."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pretraining_run import run_in_this_process


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


MASKED_CONFIG = "--config-name=nest_fast-conformer_streaming_dynamic"
"""These runs are of masked prediction, whose batches may be without targets."""


@dataclass(frozen=True)
class ScriptRun:
    """What a run of the pretraining script left behind."""

    exit_code: int
    """0, 1 after an error, -9 if it was killed."""

    printed: str
    """All that it and its ranks have printed."""

    steps: list[list[dict]]
    """For each rank its training batches, in order: `batch`, `context`, `loss`, `weight`."""

    validations: list[list[dict]]
    """For each rank the metrics of every validation."""


@pytest.fixture(scope="session")
def pretrain(manifests) -> Callable:
    """Runs the pretraining script in a process of its own: `pretrain(folder, "trainer.max_steps=4")`.

    The processes are forked from one that has imported NeMo, which takes most of the time of so short a run.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["nemo.collections.asr.models", "nemo.utils.exp_manager"])
    small = {
        "model.num_classes": 32,
        "model.encoder.n_layers": 1,
        "model.encoder.d_model": 16,
        "model.encoder.n_heads": 2,
        "model.encoder.subsampling_conv_channels": 4,
        "model.encoder.att_context_size": "[[8,0],[16,0],[-1,0]]",
        "model.encoder.att_context_probs": "null",
        "model.masking.block_size": 16,
        "model.masking.mask_prob": 0.1,
        "model.optim.lr": 0.1,
        "model.optim.sched.warmup_steps": 10,
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.check_val_every_n_epoch": "null",
        "trainer.log_every_n_steps": 1,
        "trainer.enable_progress_bar": "false",
        "+exp_manager.seconds_to_sleep": 0,
    }
    for kind, manifest, batch_size in (("train", "speech", 1), ("validation", "other", 2)):
        small |= {
            f"model.{kind}_ds.manifest_filepath": manifests[manifest],
            f"model.{kind}_ds.noise_manifest": manifests["noise"],
            f"model.{kind}_ds.batch_size": batch_size,
            f"model.{kind}_ds.num_workers": 0,
            f"model.{kind}_ds.pin_memory": "false",
        }
    small = [f"{key}={value}" for key, value in small.items()]

    def run(folder: Path, *options: str, timeout: int = 180, **witness) -> ScriptRun:
        folder.mkdir(exist_ok=True)
        for file in folder.glob("rank*.jsonl"):
            file.unlink()
        witness["folder"] = str(folder)
        arguments = ([MASKED_CONFIG, *small, f"exp_manager.exp_dir={folder}", *options], str(folder), witness)
        process = processes.Process(target=run_in_this_process, args=arguments)
        process.start()
        process.join(timeout)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        lines = [
            [json.loads(line) for line in file.read_text().splitlines()] for file in sorted(folder.glob("rank*.jsonl"))
        ]
        return ScriptRun(
            exit_code=process.exitcode,
            printed=(folder / "printed").read_text(),
            steps=[[line for line in rank if "batch" in line] for rank in lines],
            validations=[[line["validation"] for line in rank if "validation" in line] for rank in lines],
        )

    return run
