"""One arm with one seed: pretraining, probes and fine-tuning, each of which is kept when it is finished."""

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from nest_tools.command import write_text, written_whole
from nest_tools.probe.labels import FrameLabels
from trainings.data import RandomCrops, features_of
from trainings.results import run_folder, write_result

from nemo.utils import logging
from objective_parts.arms import Arm, Size
from objective_parts.fine_tuning import fine_tune, labelled_features
from objective_parts.models import build_model, fit
from objective_parts.pretraining import Pretraining, objective_figures
from objective_parts.probing import probe_encoder, probe_log_mels
from objective_parts.speech import LabelledAudio, Speech, read_speech, up_to


def run_arm(arm: Arm, seed: int, size: Size, corpus: Path, out: Path, device: torch.device) -> None:
    """Runs all that is missing of one arm and seed, and writes its result."""
    logging.setLevel(logging.ERROR)
    torch.set_num_threads(1)
    folder = run_folder(out, arm.name, seed)
    folder.mkdir(parents=True, exist_ok=True)
    speech = read_speech(corpus)
    model = build_model(arm, size, seed, fit(arm, size, speech, out))
    parts = {"pretraining": _pretrain(model, arm, seed, size, speech, folder, device)}
    number = FrameLabels(model, speech.labels)

    def part(name: str, measure: Any) -> None:
        file = folder / f"{name}.json"
        if not file.is_file():
            write_text(file, json.dumps(measure()))
            print(f"{arm.name} {seed}: {name} {file.read_text(encoding='utf-8')[:150]}", flush=True)
        parts[name] = json.loads(file.read_text(encoding="utf-8"))

    def of_labels(minutes: int, tested_on: list[LabelledAudio], peak: float | None = None) -> dict[str, float]:
        train, test = (labelled_features(part, model, number) for part in (up_to(speech.train, minutes), tested_on))
        return fine_tune(copy.deepcopy(model).to(device), train, test, number, size, seed, peak)

    for minutes in arm.label_minutes:
        part(f"fine_tuned_{minutes}", partial(of_labels, minutes, speech.test))
    part("probe", lambda: probe_encoder(model, speech, number, size))
    for peak in (size.fine_tuning_peak, *arm.other_peaks) if arm.other_peaks and seed == 0 else ():
        part(f"fine_tuned_at_{peak:g}", partial(of_labels, 5, speech.validation, peak))
    if not arm.pretrained and seed == 0:
        part("log_mels", lambda: probe_log_mels(model, speech, number, size))
    write_result(out, arm.name, seed, parts)


def _pretrain(
    model: Any, arm: Arm, seed: int, size: Size, speech: Speech, folder: Path, device: torch.device
) -> dict[str, Any]:
    """Pretrains the model, or restores it; the figures of its objective."""
    if not arm.pretrained:
        return {}
    steps = max(1, round(arm.share_of_steps * size.steps))
    weights, figures, checkpoint = folder / "weights.pt", folder / "pretraining.json", folder / "checkpoint.pt"
    if not figures.is_file():
        model.eval()
        train, validation = (
            features_of((utterance.audio for utterance in part), model.preprocessor)
            for part in (speech.train, speech.validation)
        )
        crops = RandomCrops(train, size.batch, size.crop_seconds, seed)
        torch.manual_seed(seed + 1)
        pretraining = Pretraining(model.to(device).train(), crops, steps, size.peak)
        pretraining.run(checkpoint, f"{arm.name} {seed}")
        found = objective_figures(model.cpu(), validation)
        with written_whole(weights) as temporary:
            torch.save(model.state_dict(), temporary)
        write_text(figures, json.dumps({"steps": steps, "seconds": pretraining.seconds, **found}))
        checkpoint.unlink(missing_ok=True)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return json.loads(figures.read_text(encoding="utf-8"))
