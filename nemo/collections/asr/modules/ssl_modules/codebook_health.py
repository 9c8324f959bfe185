"""How much of the codebook is in use: targets that have collapsed make the loss look good, and show here."""

import torch
import torch.distributed
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.block_masks import check_whole_number
from nemo.collections.asr.parts.utils.warn_once import warn_once

__all__ = ["CodebookHealth"]


class CodebookHealth:
    """Codes used and perplexity, of targets and of predictions, over the last `window` batches.

        health = CodebookHealth(num_classes=8192)
        health.update(tokens, predictions, mask)      # every step; does not wait for the device
        metrics = health.compute()                    # when logging, on every rank

    Perplexity is `exp` of the entropy of the ids' frequencies: `num_classes` if all codes are used alike, 1 if there
    is but one. Where the loss stays near `log(target_perplexity)`, the model has learned the frequencies and no more.
    A low perplexity of the targets says that there is little to learn, and of the predictions alone, that the model
    has collapsed.

    Each batch's counts are one row of a ring, so that what is reported is exactly the last `window` calls of
    `update`. The ring takes `2 * window * num_books * num_classes * 4` bytes on the device of the first targets.

    It is no `nn.Module`, on purpose: buffers would enter checkpoints, or be overwritten by rank 0's under DDP.

    Args:
        num_classes: codes in a codebook.
        num_books: codebooks; what is reported is their mean.
        window: batches (calls of `update`) that count.
        min_perplexity: a warning, once, when `compute` finds the targets' perplexity (of any book) below it, provided
            that at least ten times as many targets were seen. None: 16, or a quarter of `num_classes` if that is less.
            Tokens of NeMo's tokenizer on features that are not normalised have about 4 with 8192 codes, healthy ones
            several hundred.

    Raises:
        ValueError, TypeError: a number that is not a whole one >= 1, or `min_perplexity` outside `1 .. num_classes`.
    """

    def __init__(self, num_classes: int, num_books: int = 1, window: int = 100, min_perplexity: float | None = None):
        for name, value in {"num_classes": num_classes, "num_books": num_books, "window": window}.items():
            check_whole_number(name, value, 1, "a whole number >= 1")
        if min_perplexity is None:
            min_perplexity = max(1.0, min(16.0, num_classes / 4))
        if not 1 <= min_perplexity <= num_classes:
            raise ValueError(f"min_perplexity must lie in 1 .. {num_classes} (num_classes), but is {min_perplexity}")
        self.num_classes = num_classes
        self.num_books = num_books
        self.window = window
        self.min_perplexity = min_perplexity
        self._ring: Tensor | None = None  # [window, 2, num_books, num_classes]: targets, predictions
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
            targets: ids `[B, T]`, or `[B, T, num_books]`.
            predictions: predicted ids, of the same shape; None: there are none.
            mask: `[B, T]`, bool: the tokens to count; None: all.

        Raises:
            ValueError: shapes that do not fit, or (on a CPU) counted ids outside the codebook. Nothing is counted.
        """
        seen = self._counts("targets", targets, targets, mask)
        predicted = None if predictions is None else self._counts("predictions", predictions, targets, mask)
        if self._ring is None:
            # An ordinary tensor even where a first batch comes from validation, which may run in inference mode.
            with torch.inference_mode(False):
                self._ring = torch.zeros(self.window, 2, *seen.shape, dtype=seen.dtype, device=seen.device)
        row = self._ring[self._updates % self.window]
        row[0] = seen
        row[1] = 0 if predicted is None else predicted
        self._updates += 1

    @torch.no_grad()
    def compute(self) -> dict[str, float]:
        """The state of the codebook over the window, of all ranks together.

        Waits for the device. Where `torch.distributed` is initialised it is a collective: every rank must call it,
        after the same number of updates.

        Returns:
            `target_perplexity`, `target_codes_used` (a fraction of the codebook), `prediction_perplexity` and
            `prediction_codes_used`; 0 where nothing was counted. Empty before the first `update`.
        """
        if self._ring is None:
            return {}
        counts = self._ring.sum(dim=0, dtype=torch.int64)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        totals = counts.sum(dim=-1)
        shares = counts.double() / totals.clamp(min=1).unsqueeze(-1)
        perplexity = torch.special.entr(shares).sum(dim=-1).exp() * (totals > 0)
        used = (counts > 0).double().mean(dim=-1)
        self._warn_of_collapse(perplexity[0].tolist(), totals[0].tolist())
        values = torch.stack([perplexity, used], dim=1).mean(dim=-1).flatten().tolist()
        names = ("target_perplexity", "target_codes_used", "prediction_perplexity", "prediction_codes_used")
        return dict(zip(names, values, strict=True))

    def reset(self) -> None:
        """Forgets all batches, not the warning."""
        self._ring, self._updates = None, 0

    def _counts(self, name: str, ids: Tensor, like: Tensor, mask: Tensor | None) -> Tensor:
        """Histograms `[num_books, num_classes]` of the ids that count."""
        books = ids.unsqueeze(-1) if ids.dim() == 2 else ids
        if books.dim() != 3 or books.shape[-1] != self.num_books or ids.shape != like.shape:
            raise ValueError(
                f"{name} must have shape [B, T] or [B, T, {self.num_books}] (num_books={self.num_books}), "
                f"and predictions that of targets, but {name} has {list(ids.shape)}"
            )
        if mask is None:
            mask = torch.ones(ids.shape[:2], dtype=torch.bool, device=ids.device)
        if mask.shape != ids.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(
                f"mask must be bool of shape {list(ids.shape[:2])}, but is {mask.dtype} of {list(mask.shape)}"
            )
        counted = mask.unsqueeze(-1).expand_as(books)
        books = torch.where(counted, books, 0).long()
        if ids.device.type == "cpu" and ((books < 0) | (books >= self.num_classes)).any():
            raise ValueError(f"{name} holds ids outside 0 .. {self.num_classes - 1} (num_classes={self.num_classes})")
        # bincount would wait for the device to learn the largest id.
        counts = torch.zeros(self.num_books, self.num_classes, dtype=torch.int32, device=ids.device)
        return counts.scatter_add_(1, books.flatten(0, 1).t(), counted.flatten(0, 1).t().to(torch.int32))

    def _warn_of_collapse(self, perplexities: list[float], totals: list[int]) -> None:
        seen = [value for value, total in zip(perplexities, totals, strict=True) if total >= 10 * self.min_perplexity]
        if not seen or min(seen) >= self.min_perplexity:
            return
        warn_once(
            self,
            "collapse",
            f"The targets have collapsed: over the last {min(self._updates, self.window)} batches their perplexity is "
            f"{min(seen):.1f}, below {self.min_perplexity:g}, of {self.num_classes} codes. There is little to learn "
            "from them. Features that are not normalised do this: set `quantizer.normalize: per_feature`.",
        )
