"""One training of one arm, which goes on where it was ended.

The loop is written here and is not Lightning's. It trains on features that were computed once, counts blind targets at
every step, evaluates in between, and a training that was killed gives the same numbers, to the last bit, as one that
was not: its checkpoint holds torch's random state and the order of the crops. Lightning keeps neither, so callbacks
would have to do all of that, and its training step rounds otherwise than the committed figures.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from nest_tools.corpus import make_corpus
from torch import Tensor
from trainings.data import RandomCrops, features_of, padded, read_audio
from trainings.results import run_folder, write_result
from trainings.training import ResumableTraining

from ablation_parts.arms import BASE_ARM, CONTEXTS, EVALUATIONS, Arm, Size
from ablation_parts.evaluation import PhoneProbe, build_model, evaluate, fixed_masks
from nemo.collections.asr.losses.ssl_losses.mlm import target_mask
from nemo.collections.asr.models.ssl_models import SpeechFeatures
from nemo.collections.asr.modules.ssl_modules.mask_audit import audit_masks
from nemo.utils import logging

PEAK_LEARNING_RATE = 2e-3


class Training(ResumableTraining):
    """An arm's model while it trains: what it has seen, and all that is needed to go on.

    Args:
        model: the arm's, on its device and in training mode.
        crops: what it is trained on.
        steps: of the whole training, which the learning rate follows.
    """

    kept = ("step", "targets", "history", "blind")

    def __init__(self, model: Any, crops: RandomCrops, steps: int, batch: int):
        super().__init__(model, crops, steps, PEAK_LEARNING_RATE)
        self.batch = batch
        self.targets = 0.0
        """Targets so far, for an utterance of the batch."""
        self.history: list[dict[str, Any]] = []
        """The figures of each evaluation."""
        self.blind = {str(context): [0, 0] for context in CONTEXTS}
        """By context: blind targets, and the utterances that they were in."""

    def train_step(self) -> float:
        """Trains on one batch, and returns its loss."""
        model = self.model
        features, lengths = (tensor.to(model.device) for tensor in self.crops.next())
        log_probs, encoded_lengths, masks, tokens = model.forward(
            processed_signal=features, processed_signal_length=lengths, apply_mask=True
        )
        loss = model.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_lengths)
        self.learn(loss)
        self._count(masks, lengths, encoded_lengths)
        return float(loss.detach())

    def _count(self, masks: Tensor, lengths: Tensor, encoded_lengths: Tensor) -> None:
        model = self.model
        loss = getattr(model.loss, "mlm_loss", model.loss)
        counted = target_mask(masks, loss.combine_time_steps, loss.mask_threshold, encoded_lengths, loss.target_shift)
        self.targets += float(counted.sum()) / self.batch
        context = model.current_att_context
        audit = audit_masks(masks, lengths, context[0], model.encoder.subsampling_factor)
        of_context = self.blind[str(context)]
        of_context[0] += int(audit.blind_targets.sum())
        of_context[1] += self.batch

    def blind_per_utterance(self) -> Mapping[str, float]:
        """Blind targets of a training utterance, by context."""
        return {context: count / max(1, utterances) for context, (count, utterances) in self.blind.items()}


def train(arm: Arm, seed: int, size: Size, out: Path, device: torch.device) -> None:
    """Trains one arm with one seed, and writes its result; goes on from its checkpoint where there is one."""
    logging.setLevel(logging.ERROR)
    torch.set_num_threads(1)
    corpus = make_corpus(
        out / "corpus", minutes=size.minutes, validation_minutes=size.validation_minutes, progress=False
    )
    model = build_model(arm, size, seed).eval()
    utterances = features_of(read_audio(corpus.train_manifest), model.preprocessor)
    features, lengths = padded(features_of(read_audio(corpus.validation_manifest), model.preprocessor))
    # This sets torch's seed, so that training's masks are made of the same random numbers for all seeds.
    masks = [mask.to(device) for mask in fixed_masks(size, SpeechFeatures(features, lengths, features, lengths))]
    features, lengths = features.to(device), lengths.to(device)
    held_out = SpeechFeatures(features, lengths, features, lengths)

    crops = RandomCrops(utterances, size.batch, size.crop_seconds, seed)
    training = Training(model.to(device).train(), crops, size.steps, size.batch)
    checkpoint = run_folder(out, arm.name, seed) / "checkpoint.pt"
    if checkpoint.is_file():
        training.restore(checkpoint)
    every = max(1, size.steps // EVALUATIONS)
    while training.step < size.steps:
        loss = training.train_step()
        if training.step % every == 0 or training.step == size.steps:
            figures = evaluate(model, held_out, masks)
            training.history.append({"step": training.step, "targets": training.targets, **figures})
            training.save(checkpoint)
            line = f"{arm.name} {seed}: step {training.step} of {size.steps}, train {loss:.3f}, "
            print(line + ", ".join(f"{c} {figures[str(c)]['loss']:.3f}" for c in CONTEXTS), flush=True)

    result = {"history": training.history, "steps": size.steps, "blind": training.blind_per_utterance()}
    probe = PhoneProbe(corpus)
    result["probe"] = probe(model.cpu(), baselines=arm is BASE_ARM)
    if arm is BASE_ARM:
        result["untrained_probe"] = probe(build_model(arm, size, seed))
    write_result(out, arm.name, seed, result)
    checkpoint.unlink()
