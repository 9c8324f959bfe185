"""The heads of future-token prediction."""

import torch
from torch import Tensor, nn

from nemo.collections.asr.losses.ssl_losses.future import FutureSums, FutureTargets, linear_cross_entropy
from nemo.collections.asr.parts.utils.checks import check_whole_number

__all__ = ["FutureHeads"]


class FutureHeads(nn.Module):
    """One linear head for each step and codebook, and their cross-entropy.

    Args:
        feat_in: D, channels of an encoder frame.
        num_classes: C, codes in a codebook.
        num_books: Q, codebooks.
        steps: N, the tokens that a frame predicts.

    Raises:
        ValueError, TypeError: a size that is no whole number >= 1.
    """

    def __init__(self, feat_in: int, num_classes: int, num_books: int, steps: int):
        super().__init__()
        sizes = {"feat_in": feat_in, "num_classes": num_classes, "num_books": num_books, "steps": steps}
        for name, size in sizes.items():
            check_whole_number(name, size, minimum=1)
        self.weight = nn.Parameter(torch.empty(steps, num_books, num_classes, feat_in))
        self.bias = nn.Parameter(torch.zeros(steps, num_books, num_classes))
        for head in self.weight.detach().flatten(0, 1):
            nn.init.xavier_uniform_(head)

    def forward(self, frames: Tensor, targets: FutureTargets) -> tuple[FutureSums, Tensor]:
        """The sums over the targets of frames `[F, D]`, and the predicted ids `[F, N, Q]`."""
        return linear_cross_entropy(frames, self.weight, self.bias, targets)

    def scores(self, frames: Tensor) -> Tensor:
        """Logits `[..., N, Q, C]` of frames `[..., D]`, for those who want more than the loss."""
        return torch.einsum("...d,nqcd->...nqc", frames, self.weight) + self.bias
