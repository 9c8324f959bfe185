"""What a training step logs besides its loss: what was masked, and how much of the codebook is in use."""

import torch
from torch import Tensor, nn

from nemo.collections.asr.losses.ssl_losses.future import FutureTargets
from nemo.collections.asr.losses.ssl_losses.mlm import MLMLoss, target_mask, token_predictions
from nemo.collections.asr.modules.ssl_modules.codebook_health import CodebookHealth
from nemo.collections.asr.modules.ssl_modules.mask_audit import audit_masks
from nemo.collections.asr.parts.attention_context import AttentionContext

__all__ = ["CodebookLogs", "mask_logs"]


@torch.no_grad()
def mask_logs(
    mask_processor: nn.Module, masks: Tensor, lengths: Tensor, context: AttentionContext | None
) -> dict[str, Tensor]:
    """What causal masking hid in a batch under its context, on the device of the masks: nothing waits for it.

    Args:
        mask_processor: a `RandomBlockMasking`, or another.
        masks: `[B, D, T]` as it returned them.
        lengths: `[B]`, in frames of the masks.
        context: of the forward; None where the encoder has none.
    """
    if context is None or not getattr(mask_processor, "causal", False):
        return {}
    audit = audit_masks(masks, lengths, context.left, mask_processor.subsampling_factor)
    return {
        f"masked_fraction_{context.label}": audit.masked_fraction.mean(),
        f"targets_per_utterance_{context.label}": audit.targets.float().mean(),
    }


class CodebookLogs:
    """Codes used and perplexity of targets and predictions, over the last training batches.

    Args:
        health: what counts them.
    """

    def __init__(self, health: CodebookHealth):
        self.health = health
        self._updates = 0
        self._metrics: dict[str, float] = {}

    def update_targets(self, targets: Tensor, log_probs: Tensor) -> None:
        """Counts targets `[B, K]` or `[B, K, Q]`, each with its prediction `[B, K, C]` or `[B, K, C, Q]`."""
        self.health.update(targets, log_probs.detach().argmax(dim=2))
        self._updates += 1

    def update_frames(
        self, loss: MLMLoss, log_probs: Tensor, encoded_len: Tensor, masks: Tensor, tokens: Tensor
    ) -> None:
        """Counts the targets among what a model's `forward` returns."""
        targets = target_mask(masks, loss.combine_time_steps, loss.mask_threshold, encoded_len, loss.target_shift)
        targets = targets[:, : tokens.shape[1]]
        predictions = token_predictions(log_probs, targets.shape[1], loss.target_shift)
        self.health.update(tokens[:, : targets.shape[1]], predictions, targets)
        self._updates += 1

    def update_future(self, targets: FutureTargets, predictions: Tensor) -> None:
        """Counts the targets of future-token prediction, `[F, N, Q]`, each with its predicted id."""
        ids, counted = targets.ids.flatten(0, 1), targets.counted.flatten(0, 1)
        self.health.update(ids[None], predictions.flatten(0, 1)[None], counted[None])
        self._updates += 1

    def metrics(self, every: int) -> dict[str, float]:
        """The figures, computed (and reduced over ranks) at every `every`-th batch, and kept in between.

        Nothing is computed where `every` is 0, which is Lightning's way to log no steps.
        """
        if every > 0 and self._updates % every == 0:
            self._metrics = self.health.compute()
        return self._metrics
