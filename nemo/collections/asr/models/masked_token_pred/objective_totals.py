"""What validation and test know of a batch or of an epoch: the sums of each term, and the tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nemo.collections.asr.models.masked_token_pred.future_totals import FutureTotals
from nemo.collections.asr.models.masked_token_pred.objective import Objective
from nemo.collections.asr.models.masked_token_pred.token_baselines import Baselines
from nemo.collections.asr.parts.attention_context import ContextTotals
from nemo.collections.asr.parts.utils.markdown import markdown_table

__all__ = ["ObjectiveTotals"]


@dataclass(frozen=True)
class ObjectiveTotals:
    """Sums of the terms that an objective has, for each context."""

    objective: Objective

    masked: ContextTotals | None
    """Of masked prediction; None where nothing is masked."""

    future: FutureTotals | None
    """Of future-token prediction; None where the objective has no part for it."""

    @classmethod
    def sum(cls, totals: Sequence["ObjectiveTotals"]) -> "ObjectiveTotals":
        """Adds up batches; all of them must have the same objective and contexts."""
        masked = [total.masked for total in totals if total.masked is not None]
        future = [total.future for total in totals if total.future is not None]
        return cls(
            totals[0].objective,
            ContextTotals.sum(masked) if masked else None,
            FutureTotals.sum(future) if future else None,
        )

    def reduced_over_ranks(self) -> "ObjectiveTotals":
        """Adds up the ranks' sums, where there are several."""
        masked = None if self.masked is None else self.masked.reduced_over_ranks()
        future = None if self.future is None else self.future.reduced_over_ranks()
        return ObjectiveTotals(self.objective, masked, future)

    @property
    def has_targets(self) -> bool:
        """Whether anything was evaluated; waits for the device."""
        masked = self.masked is not None and self.masked.has_targets
        return masked or (self.future is not None and bool(self.future.has_targets.any()))

    @property
    def losses(self) -> Tensor:
        """`[contexts]`: the objective's loss, its terms weighted as in training; 0 where there is no target."""
        masked = torch.zeros((), dtype=torch.float64) if self.masked is None else self.masked.losses
        if self.future is None:
            return masked
        left = self.future.has_targets
        both, alone = self.objective.shares(), self.objective.shares(future_left=False)
        return torch.where(left, both.masked * masked + both.future * self.future.losses, alone.masked * masked)

    @property
    def mean_loss(self) -> Tensor:
        """The mean of the contexts' losses, float32; without those that leave nothing to predict."""
        if self.masked is not None or self.future is None:
            return self.losses.mean().float()
        left = self.future.has_targets
        return (self.losses.sum() / left.sum().clamp(min=1)).float()

    def metrics(self, mode: str) -> dict[str, Tensor]:
        """What to log.

        `{mode}_loss`, and for each context `{mode}_loss_80_0`, the objective's; `{mode}_acc_80_0` of masked tokens;
        with future tokens also `{mode}_masked_loss_80_0`, and what `FutureTotals.metrics` has.
        """
        metrics = {} if self.masked is None else self.masked.metrics(mode)
        if self.future is None:
            return metrics
        for context, loss, left in zip(self.future.contexts, self.losses, self.future.has_targets, strict=True):
            name = f"{mode}_loss_{context.label}"
            if name in metrics:
                metrics[f"{mode}_masked_loss_{context.label}"] = metrics[name]
            if self.masked is not None or left:
                metrics[name] = loss.float()
        return metrics | self.future.metrics(mode) | {f"{mode}_loss": self.mean_loss}

    def table(self, baselines: Baselines | None = None) -> str:
        """Markdown: a row for each context, and what a model can be expected to beat."""
        parts = []
        if self.masked is not None:
            parts.append(self.masked.table())
        if self.future is not None:
            parts.append(_table_of_future(self.future, baselines))
        if baselines is not None:
            parts.append(
                f"Entropy of the tokens in nats: {baselines.entropy:.4f} by frequency, {baselines.bigram:.4f} given "
                f"the token before; the most frequent one makes {100 * baselines.most_frequent:.2f} % of them."
            )
        return "\n\n".join(parts)


def _table_of_future(totals: FutureTotals, baselines: Baselines | None) -> str:
    steps = range(1, totals.sums.shape[1] + 1)
    names = [f"accuracy, step {step}" for step in steps]
    rows = []
    figures = (totals.losses.tolist(), totals.accuracies.tolist(), totals.sums[:, :, 2].tolist())
    for context, loss, accuracies, targets in zip(totals.contexts, *figures, strict=True):
        cells = [f"{100 * share:.2f} %" if n else "" for share, n in zip(accuracies, targets, strict=True)]
        rows.append([context, f"{loss:.4f}" if any(targets) else "left out", *cells, f"{sum(targets):.0f}"])
    if baselines is not None:
        frequent = [f"{100 * baselines.most_frequent:.2f} %" for _ in steps]
        rows.append(["tokens by frequency", f"{baselines.entropy:.4f}", *frequent, ""])
        empty = ["" for _ in steps]
        rows.append(["tokens given an earlier one", f"{baselines.mean_given_earlier:.4f}", *empty, ""])
    return markdown_table(["context", "loss of future tokens", *names, "targets"], rows)
