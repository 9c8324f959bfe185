"""Loss and accuracy of future-token prediction for several attention contexts, as sums that can be added up."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor

from nemo.collections.asr.parts.attention_context import AttentionContext

__all__ = ["FutureTotals"]


@dataclass(frozen=True)
class FutureTotals:
    """Sums over targets, a row for each context and step."""

    contexts: tuple[AttentionContext, ...]
    """The contexts of the rows."""

    sums: Tensor
    """`[contexts, N, 3]`, float64: negative log-likelihood in nats, correct predictions, targets."""

    @classmethod
    def sum(cls, totals: Sequence["FutureTotals"]) -> "FutureTotals":
        """Adds up batches; all of them must have the same contexts."""
        return cls(totals[0].contexts, torch.stack([total.sums for total in totals]).sum(0))

    def reduced_over_ranks(self) -> "FutureTotals":
        """Adds up the ranks' sums, where there are several."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self
        sums = self.sums.clone()
        torch.distributed.all_reduce(sums)
        return FutureTotals(self.contexts, sums)

    @property
    def has_targets(self) -> Tensor:
        """`[contexts]`, bool: where anything was left to predict."""
        return self.sums[:, :, 2].sum(1) > 0

    @property
    def losses(self) -> Tensor:
        """`[contexts]`: mean negative log-likelihood over steps, frames and codebooks; 0 where there is no target."""
        return self.sums[:, :, 0].sum(1) / self.sums[:, :, 2].sum(1).clamp_min(1)

    @property
    def accuracies(self) -> Tensor:
        """`[contexts, N]`: share of right predictions by step, 0 where there is no target."""
        return self.sums[:, :, 1] / self.sums[:, :, 2].clamp_min(1)

    def metrics(self, mode: str) -> dict[str, Tensor]:
        """What to log: `{mode}_future_loss_80_0`, and `{mode}_future_acc_step1_80_0`, ... where there are targets."""
        metrics = {}
        rows = zip(self.contexts, self.losses, self.accuracies, self.sums[:, :, 2].tolist(), strict=True)
        for context, loss, accuracies, targets in rows:
            if not any(targets):
                continue
            metrics[f"{mode}_future_loss_{context.label}"] = loss.float()
            for step, (accuracy, number) in enumerate(zip(accuracies, targets, strict=True), start=1):
                if number:
                    metrics[f"{mode}_future_acc_step{step}_{context.label}"] = accuracy.float()
        return metrics
