"""How much of the codebook is in use: targets that have collapsed make the loss look good, and show here."""

import torch
import torch.distributed
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.token_distribution import codes_used, count_tokens, perplexity
from nemo.collections.asr.parts.utils.checks import check_number, check_whole_number
from nemo.collections.asr.parts.utils.warn_once import warn_once

__all__ = ["CodebookHealth"]


class CodebookHealth:
    """Codes used and perplexity, of targets and of predictions, over the last `window` batches.

        health = CodebookHealth(num_classes=8192)
        health.update(tokens, predictions, mask)      # every step; does not wait for the device
        metrics = health.compute()                    # when logging, on every rank

    Perplexity is `exp` of the entropy of the ids' frequencies: `num_classes` if all codes are used alike, 1 if there
    is only one. Where the loss stays near `log(target_perplexity)`, the model has learned the frequencies and no more.
    A low perplexity of the targets says that there is little to learn. A low perplexity of the predictions alone says
    that the model has collapsed.

    Each batch's counts are one row of a ring, so what is reported is exactly the last `window` calls of `update`. The
    ring takes `2 * window * num_books * num_classes * 4` bytes on the device of the first targets.

    It is deliberately no `nn.Module`: its buffers would enter checkpoints, and DDP would overwrite them by rank 0's.

    Args:
        num_classes: `C`, codes in a codebook.
        num_books: `Q`, codebooks; their mean is reported, and the lowest perplexity among them.
        window: batches (calls of `update`) that count.
        min_perplexity: `compute` warns, once, when the targets' perplexity in any codebook is below it and at least
            ten times as many targets were counted. From 1 to `num_classes`. None: 16, or a quarter of `num_classes`
            if that is less. With 8192 codes, tokens of features that are not normalised have about 4, healthy ones
            several hundred.

    Raises:
        ValueError, TypeError: an argument is not a whole number >= 1, or `min_perplexity` is out of bounds.
    """

    def __init__(self, num_classes: int, num_books: int = 1, window: int = 100, min_perplexity: float | None = None):
        self.num_classes = check_whole_number("num_classes", num_classes, 1)
        self.num_books = check_whole_number("num_books", num_books, 1)
        self.window = check_whole_number("window", window, 1)
        if min_perplexity is None:
            min_perplexity = max(1.0, min(16.0, num_classes / 4))
        allowed = f"a number from 1 to num_classes = {num_classes}"
        self.min_perplexity = check_number("min_perplexity", min_perplexity, 1, num_classes, allowed=allowed)
        self._ring: Tensor | None = None  # [window, 2, Q, C]: targets, predictions
        self._updates = 0

    @torch.no_grad()
    def update(
        self,
        targets: Tensor,
        predictions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Counts one batch, in place of the one `window` calls ago.

        Args:
            targets: ids `[B, K]`, or `[B, K, Q]`.
            predictions: predicted ids, of the same shape; None: there are none.
            mask: the tokens to count, bool `[B, K]`; None: all.

        Raises:
            ValueError: shapes that do not fit, or (on a CPU) counted ids outside the codebook. Nothing is counted.
        """
        if predictions is not None and predictions.shape != targets.shape:
            raise ValueError(f"predictions must be {list(targets.shape)}, as targets; got {list(predictions.shape)}")
        if mask is not None and (mask.shape != targets.shape[:2] or mask.dtype != torch.bool):
            allowed = f"a bool tensor [B, K] = {list(targets.shape[:2])}"
            raise ValueError(f"mask must be {allowed}; got {mask.dtype} {list(mask.shape)}")
        counts = count_tokens("targets", targets, mask, self.num_classes, self.num_books)
        predicted: Tensor | int = 0
        if predictions is not None:
            predicted = count_tokens("predictions", predictions, mask, self.num_classes, self.num_books)
        if self._ring is None:
            # An ordinary tensor even where the first batch is one of validation, which may run in inference mode.
            with torch.inference_mode(False):
                self._ring = torch.zeros(self.window, 2, *counts.shape, dtype=counts.dtype, device=counts.device)
        row = self._ring[self._updates % self.window]
        row[0], row[1] = counts, predicted
        self._updates += 1

    @torch.no_grad()
    def compute(self) -> dict[str, float]:
        """The state of the codebook over the window, of all ranks together.

        Waits for the device. Where `torch.distributed` is initialised it is a collective: every rank must call it,
        after the same number of updates.

        Returns:
            `target_perplexity`, `target_codes_used` (a fraction of the codebook), `prediction_perplexity` and
            `prediction_codes_used`, means over the codebooks; with several of them also `target_perplexity_lowest`
            and `prediction_perplexity_lowest`, those of the worst one. 0 where nothing was counted. Empty before the
            first `update`.
        """
        if self._ring is None:
            return {}
        counts = self._ring.sum(dim=0, dtype=torch.int64)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        perplexities = perplexity(counts)
        self._warn_of_collapse(perplexities[0].tolist(), counts[0].sum(dim=-1).tolist())
        values = torch.stack([perplexities, codes_used(counts)], dim=1).mean(dim=-1).flatten().tolist()
        names = ("target_perplexity", "target_codes_used", "prediction_perplexity", "prediction_codes_used")
        metrics = dict(zip(names, values, strict=True))
        if self.num_books > 1:
            lowest = perplexities.min(dim=-1).values.tolist()
            metrics |= {"target_perplexity_lowest": lowest[0], "prediction_perplexity_lowest": lowest[1]}
        return metrics

    def reset(self) -> None:
        """Forgets all batches, but not that the warning was given."""
        self._ring, self._updates = None, 0

    def _warn_of_collapse(self, perplexities: list[float], totals: list[int]) -> None:
        """Warns if a codebook with enough targets is below the bound; both lists have one entry for each codebook."""
        least = 10 * self.min_perplexity
        enough = [value for value, total in zip(perplexities, totals, strict=True) if total >= least]
        if not enough or min(enough) >= self.min_perplexity:
            return
        warn_once(
            self,
            "collapse",
            f"The targets have collapsed: over the last {min(self._updates, self.window)} batches their perplexity is "
            f"{min(enough):.1f}, below {self.min_perplexity:g}, of {self.num_classes} codes. There is little to learn "
            "from them. Features that are not normalised do this: set `quantizer.normalize: per_feature`.",
        )
