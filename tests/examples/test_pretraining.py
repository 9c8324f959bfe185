"""Pretraining from manifests to a file: the script as users start it, and recorded speech."""

import json
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS
from nemo.collections.asr.parts.utils.streaming_utils import set_dynamic_context

SCRIPT = Path(__file__).resolve().parents[2] / "examples/asr/speech_pretraining/masked_token_pred_pretrain.py"

SMALL = [
    "model.num_classes=32",
    "model.encoder.n_layers=1",
    "model.encoder.d_model=16",
    "model.encoder.n_heads=2",
    "model.encoder.subsampling_conv_channels=4",
    "model.train_ds.batch_size=2",
    "model.validation_ds.batch_size=2",
    "model.train_ds.num_workers=1",
    "model.validation_ds.num_workers=0",
    "model.train_ds.pin_memory=false",
    "model.masking.mask_prob=0.05",
    "trainer.accelerator=cpu",
    "trainer.devices=1",
    "trainer.val_check_interval=1",
    "trainer.log_every_n_steps=1",
]


@pytest.fixture(scope="module")
def manifests(tmp_path_factory) -> dict[str, Path]:
    """Six utterances and two noises, as NeMo manifests."""
    folder = tmp_path_factory.mktemp("audio")
    generator = np.random.default_rng(0)
    manifests = {}
    for kind, seconds in {"speech": [3.0, 2.5, 4.21, 3.33, 2.0, 3.7], "noise": [2.0, 5.0]}.items():
        lines = []
        for index, duration in enumerate(seconds):
            file = folder / f"{kind}{index}.wav"
            soundfile.write(file, 0.1 * generator.standard_normal(int(16000 * duration)), 16000)
            lines.append(json.dumps({"audio_filepath": file.name, "duration": duration, "text": ""}))
        manifests[kind] = folder / f"{kind}.json"
        manifests[kind].write_text("\n".join(lines) + "\n")
    return manifests


def run_script(manifests, folder: Path, steps: int) -> str:
    options = [
        f"model.train_ds.manifest_filepath={manifests['speech']}",
        f"model.train_ds.noise_manifest={manifests['noise']}",
        f"model.validation_ds.manifest_filepath={manifests['speech']}",
        f"model.validation_ds.noise_manifest={manifests['noise']}",
        f"trainer.max_steps={steps}",
        f"exp_manager.exp_dir={folder}",
    ]
    done = subprocess.run(
        [sys.executable, SCRIPT, *SMALL, *options], cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def scalars(folder: Path, name: str) -> list[float]:
    """A TensorBoard curve over all runs of an experiment, in the order of time."""
    values = []
    for file in sorted(folder.rglob("events.out.tfevents*"), key=lambda file: file.stat().st_mtime):
        events = EventAccumulator(str(file)).Reload()
        if name in events.Tags()["scalars"]:
            values += [event.value for event in events.Scalars(name)]
    return values


@pytest.mark.slow
def test_the_script_pretrains_logs_saves_and_resumes(manifests, tmp_path):
    printed = run_script(manifests, tmp_path, steps=4)
    assert "Validation by attention context" in printed and "[320, 0]" in printed
    files = list(tmp_path.rglob("*.nemo"))
    assert files and all(np.isfinite(scalars(tmp_path, "train_loss")))
    contexts = [[80, 0], [160, 0], [320, 0], [-1, 0]]
    for left, right in contexts:
        assert scalars(tmp_path, f"val_loss_{left}_{right}") == scalars(tmp_path, f"val_future_loss_{left}_{right}")
        assert scalars(tmp_path, f"val_loss_{left}_{right}") and scalars(
            tmp_path, f"val_future_acc_step2_{left}_{right}"
        )
    assert scalars(tmp_path, "train_future_loss")
    assert scalars(tmp_path, "target_perplexity")

    run_script(manifests, tmp_path, steps=6)
    model = EncDecDenoiseMaskedTokenPredModel.restore_from(str(files[0]))
    sampled = [model.context_sampler.at(count).left for count in range(6)]
    assert scalars(tmp_path, "att_context_left") == sampled


def pretrain_on(manifest: Path, noise: Path, config, steps: int = 4) -> EncDecDenoiseMaskedTokenPredModel:
    data = {
        "manifest_filepath": str(manifest),
        "noise_manifest": str(noise),
        "sample_rate": 16000,
        "batch_size": 2,
        "shuffle": True,
        "num_workers": 0,
    }
    config.train_ds = OmegaConf.create(data)
    config.validation_ds = OmegaConf.create({**data, "shuffle": False})
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
    pl.seed_everything(0)
    model = EncDecDenoiseMaskedTokenPredModel(config, trainer=trainer)
    losses = []
    model.loss.register_forward_hook(lambda module, args, loss: losses.append(float(loss)))
    trainer.fit(model)
    assert trainer.global_step == steps
    assert len(losses) == steps and all(np.isfinite(losses)) and max(losses) > 0
    return model


def demo_sized(tiny_config):
    sizes = {"encoder.att_context_size": [[80, 0], [160, 0], [320, 0], [-1, 0]], "optim.sched.warmup_steps": 10}
    return tiny_config(sizes)


def test_recorded_sentences_pretrain_a_model(recorded_speech, tiny_config, tmp_path):
    manifest = recorded_speech / "speech.json"
    model = pretrain_on(manifest, recorded_speech / "noise.json", demo_sized(tiny_config))
    model.save_to(str(tmp_path / "model.nemo"))
    restored = EncDecDenoiseMaskedTokenPredModel.restore_from(str(tmp_path / "model.nemo")).eval()
    samples, _ = soundfile.read(recorded_speech / "spk1_snt1.wav", dtype="float32")
    log_probs, encoded_len, *_ = restored.forward(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    assert log_probs.isfinite().all() and encoded_len == 37  # 2.87 s: 287 feature frames


def test_presets_differ_on_a_recording_of_16_seconds(recorded_speech, recorded_samples, tiny_config, tmp_path):
    joined = np.concatenate(recorded_samples)
    assert 15 < len(joined) / 16000 < 17
    soundfile.write(tmp_path / "joined.wav", joined, 16000)
    entry = {"audio_filepath": "joined.wav", "duration": len(joined) / 16000, "text": ""}
    (tmp_path / "joined.json").write_text("".join(json.dumps(entry) + "\n" for _ in range(4)))
    model = pretrain_on(tmp_path / "joined.json", recorded_speech / "noise.json", demo_sized(tiny_config))
    model.save_to(str(tmp_path / "model.nemo"))
    restored = EncDecDenoiseMaskedTokenPredModel.restore_from(str(tmp_path / "model.nemo")).eval()
    audio, lengths = torch.from_numpy(joined)[None], torch.tensor([len(joined)])
    outputs = {}
    for preset in CONTEXT_PRESETS:
        set_dynamic_context(restored, preset)
        outputs[preset] = restored.forward(audio, lengths, apply_mask=False)[0]
    assert outputs["low"].shape[1] < 240  # so medium, high and unlimited see all of it, low and very_low do not
    rounding = (outputs["high"] - outputs["unlimited"]).abs().max()
    torch.testing.assert_close(outputs["high"], outputs["unlimited"])
    for preset, left in (("very_low", 80), ("low", 160)):
        difference = (outputs[preset] - outputs["unlimited"]).abs()
        assert difference[:, : left + 1].max() <= max(rounding, 1e-5)  # until here it sees all of the past too
        assert difference[:, left + 1 :].max() > 10 * max(rounding, 1e-6), (left, rounding)
