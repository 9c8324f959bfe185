"""The models of the arms, and how they are compared: on the same masks and tokens, and by a phone probe."""

from collections.abc import Sequence
from typing import Any

import torch
from nest_tools.audio import AudioReader
from nest_tools.corpus import Corpus
from nest_tools.probe import LabelledAudio, probe, read_labelled
from torch import Tensor
from trainings.data import SAMPLE_RATE
from trainings.models import MASKED_PREDICTION, demo_model

from ablation_parts.arms import BASE, BASE_ARM, CONTEXTS, MASK_SETS, PROBE_MINUTES, Arm, Size
from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.models.masked_token_pred.speech_features import SpeechFeatures
from nemo.collections.asr.modules.ssl_modules.token_distribution import TokenDistribution
from nemo.collections.asr.parts.attention_context import AttentionContext, ContextTotals


def build_model(arm: Arm, size: Size, seed: int) -> EncDecDenoiseMaskedTokenPredModel:
    """The arm's model: weights from the seed, a tokenizer that is the same for all seeds."""
    changes = {
        **MASKED_PREDICTION,
        "encoder.att_context_size": [list(context) for context in CONTEXTS],
        "encoder.att_context_probs": None,
        "context_seed": seed,
        **{f"encoder.{key}": value for key, value in size.encoder.items()},
        **BASE,
        **arm.config,
    }
    torch.manual_seed(0)
    quantizer = demo_model(changes).quantizer.state_dict()
    torch.manual_seed(seed + 1)
    model = demo_model(changes)
    model.quantizer.load_state_dict(quantizer)
    return model


def fixed_masks(size: Size, speech: SpeechFeatures) -> list[Tensor]:
    """The masks [B, T] of evaluation, those of the base arm for seed 0."""
    base = build_model(BASE_ARM, size, seed=0)
    return [base.evaluation_mask(speech, batch_idx=index) for index in range(MASK_SETS)]


@torch.no_grad()
def evaluate(
    model: EncDecDenoiseMaskedTokenPredModel, speech: SpeechFeatures, masks: Sequence[Tensor]
) -> dict[str, dict[str, float]]:
    """Loss and accuracy at each context on masks [B, T], and the frequencies of the tokens."""
    model.eval()
    contexts = [AttentionContext.parse(context) for context in CONTEXTS]
    totals = ContextTotals.sum([model.evaluate_contexts(speech, mask, contexts) for mask in masks])
    figures = {}
    for context, (nll, correct, targets) in zip(contexts, totals.sums.tolist(), strict=True):
        figures[str(context)] = {"loss": nll / targets, "accuracy": correct / targets, "targets": targets}
    tokens = TokenDistribution.of(*model.tokenize(speech), model.quantizer.num_classes)
    figures["tokens"] = {"entropy": tokens.entropy, "most_frequent": tokens.largest_share}
    model.train()
    return figures


class PhoneProbe:
    """The phone probe of frozen models on the ablation's corpus."""

    def __init__(self, corpus: Corpus):
        reader = AudioReader(SAMPLE_RATE)
        self._train, _ = read_labelled(corpus.train_manifest, reader, PROBE_MINUTES)
        self._test: list[LabelledAudio]
        self._test, _ = read_labelled(corpus.validation_manifest, reader)

    def __call__(self, model: EncDecDenoiseMaskedTokenPredModel, baselines: bool = False) -> dict[str, Any]:
        """Accuracies on all layers and on the last one, by context; with `baselines` also those of `probe`."""
        contexts = [list(context) for context in CONTEXTS]
        rows = probe(model, self._train, self._test, contexts, online=False, baselines=baselines, progress=False)
        return {row["frames"]: {"all_layers": row["offline"], "last_layer": row["last_layer"]} for row in rows}
