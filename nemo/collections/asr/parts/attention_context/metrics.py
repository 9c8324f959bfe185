"""Loss and accuracy of masked prediction for several attention contexts, kept as sums that can be added up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from nemo.collections.asr.parts.attention_context.context import AttentionContext
from nemo.collections.asr.parts.utils.markdown import markdown_table

__all__ = ["ContextTotals"]


@dataclass(frozen=True)
class ContextTotals:
    """Sums over targets, one row for each context."""

    contexts: tuple[AttentionContext | None, ...]
    """The contexts of the rows; None for an encoder that has none."""

    sums: Tensor
    """[contexts, 3], float64: negative log-likelihood in nats, correct predictions, targets."""

    @classmethod
    def gather(cls, contexts: Sequence[AttentionContext | None], statistics: Sequence[Any]) -> "ContextTotals":
        """From what the loss's `statistics` gave for each context."""
        rows = [torch.stack([torch.as_tensor(value).double() for value in row]) for row in statistics]
        return cls(tuple(contexts), torch.stack(rows))

    @classmethod
    def sum(cls, totals: Sequence["ContextTotals"]) -> "ContextTotals":
        """Adds up batches; all of them must have the same contexts."""
        return cls(totals[0].contexts, torch.stack([total.sums for total in totals]).sum(0))

    def reduced_over_ranks(self) -> "ContextTotals":
        """Adds up the ranks' sums, where there are several."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self
        sums = self.sums.clone()
        torch.distributed.all_reduce(sums)
        return ContextTotals(self.contexts, sums)

    @property
    def has_targets(self) -> bool:
        """Whether anything was evaluated; waits for the device."""
        return bool(self.sums[:, 2].any())

    @property
    def losses(self) -> Tensor:
        """[contexts]: mean negative log-likelihood of a target, 0 where there is none."""
        return self.sums[:, 0] / self.sums[:, 2].clamp_min(1)

    @property
    def accuracies(self) -> Tensor:
        """[contexts]: share of the targets that were predicted rightly, 0 where there is none."""
        return self.sums[:, 1] / self.sums[:, 2].clamp_min(1)

    @property
    def mean_loss(self) -> Tensor:
        """The mean of the contexts' losses, float32."""
        return self.losses.mean().float()

    def metrics(self, mode: str) -> dict[str, Tensor]:
        """What to log: `{mode}_loss`, and `{mode}_loss_80_0`, `{mode}_acc_80_0` for each context."""
        metrics = {f"{mode}_loss": self.mean_loss}
        for context, loss, accuracy in zip(self.contexts, self.losses.float(), self.accuracies.float(), strict=True):
            if context is not None:
                metrics[f"{mode}_loss_{context.label}"] = loss
                metrics[f"{mode}_acc_{context.label}"] = accuracy
        return metrics

    def table(self) -> str:
        """Markdown: a row for each context."""
        figures = (self.losses.tolist(), self.accuracies.tolist(), self.sums[:, 2].tolist())
        return markdown_table(
            ["context", "loss", "accuracy", "targets"],
            (
                (context or "none", f"{loss:.4f}", f"{100 * accuracy:.2f} %", f"{targets:.0f}")
                for context, loss, accuracy, targets in zip(self.contexts, *figures, strict=True)
            ),
        )
