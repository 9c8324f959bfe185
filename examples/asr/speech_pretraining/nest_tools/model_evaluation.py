"""What the models are to offer publicly: features, tokens, masks of evaluation, and evaluation on given masks.

TODO(lead): stand-ins until `model.speech_features`, `model.evaluation_mask`, `model.evaluate_contexts`,
`model.tokenize` and `TokenDistribution` are there; callers then take those, and this file goes.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nemo.collections.asr.models.ssl_models import SpeechFeatures
from nemo.collections.asr.parts.attention_context import AttentionContext, ContextTotals


@torch.no_grad()
def speech_features(model: Any, batch: Any) -> SpeechFeatures:
    """The features of a batch of the model's data sets, or of its signals by name."""
    return model._features(**(batch if isinstance(batch, dict) else model._signals(batch)))


@torch.no_grad()
def evaluation_mask(model: Any, features: SpeechFeatures, batch_idx: int = 0, dataloader_idx: int = 0) -> Tensor:
    """The mask [B, T] of an evaluation batch, which never changes."""
    return model._evaluation_mask(features, batch_idx=batch_idx, dataloader_idx=dataloader_idx)


@torch.no_grad()
def evaluate_contexts(
    model: Any, features: SpeechFeatures, mask: Tensor, contexts: Sequence[AttentionContext]
) -> ContextTotals:
    """Sums of loss and accuracy under each context, all on one mask [B, T]."""
    statistics, tokens = [], None
    for context in contexts:
        with model.encoder.evaluating_context(context):
            encoded, encoded_lengths, masks = model._encode(features, True, context, mask)
        tokens = model._tokens(features, encoded_lengths) if tokens is None else tokens
        log_probs = model.decoder(encoder_output=encoded)
        statistics.append(
            model.loss.statistics(
                masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_lengths
            )
        )
    return ContextTotals.gather(contexts, statistics)


@torch.no_grad()
def tokenize(model: Any, features: SpeechFeatures) -> tuple[Tensor, Tensor]:
    """Tokens [B, K, Q] of the clean features, and how many whole ones there are, [B]."""
    _, tokens = model.quantizer(input_signal=features.clean, input_lengths=features.clean_lengths)
    return tokens, features.clean_lengths // model.encoder.subsampling_factor


class TokenDistribution:
    """How often each code occurs among tokens."""

    def __init__(self, counts: Tensor | None = None):
        self._counts = torch.zeros(0, dtype=torch.int64) if counts is None else counts

    @classmethod
    def of(cls, tokens: Tensor, lengths: Tensor) -> "TokenDistribution":
        """Of tokens [B, K, Q], the first `lengths` [B] of each utterance; of the first codebook."""
        distribution = cls()
        distribution.update(tokens, lengths)
        return distribution

    def update(self, tokens: Tensor, lengths: Tensor) -> None:
        """Adds tokens to the count."""
        ids = torch.cat([row[:length, 0] for row, length in zip(tokens, lengths, strict=True)])
        counts = torch.bincount(ids, minlength=len(self._counts)).cpu()
        counts[: len(self._counts)] += self._counts
        self._counts = counts

    @property
    def entropy(self) -> float:
        """Nats."""
        return float(torch.special.entr(self._shares).sum())

    @property
    def perplexity(self) -> float:
        """How many equally frequent codes would have this entropy."""
        return math.exp(self.entropy)

    @property
    def largest_share(self) -> float:
        """That of the most frequent code."""
        return float(self._shares.max())

    @property
    def codes_used(self) -> int:
        """How many codes occur."""
        return int((self._counts > 0).sum())

    @property
    def _shares(self) -> Tensor:
        return self._counts.double() / self._counts.sum()
