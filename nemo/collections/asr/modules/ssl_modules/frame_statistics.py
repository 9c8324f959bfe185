"""Mean and standard deviation of features over each utterance's valid frames."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ValidFrames", "centre"]

# Added to a standard deviation, as NeMo's preprocessor adds it for `normalize: per_feature`.
_STD_FLOOR = 1e-5


class ValidFrames(NamedTuple):
    """Which frames of features `[B, T, D]` are valid, and the factors of their statistics; all float32."""

    weights: Tensor
    """`[B, T, 1]`: 1 for a valid frame, else 0 (a CPU is slow with bools). `[B, 0, 1]` where all are known to be."""

    per_frame: Tensor
    """`[B, 1, 1]`: 1 / n for n valid frames, 1 for none."""

    per_degree: Tensor
    """`[B, 1, 1]`: 1 / sqrt(n - 1) for n valid frames, 1 for fewer than two."""

    @classmethod
    def of(cls, frames: Tensor, lengths: Tensor | None) -> "ValidFrames":
        """The first `lengths` `[B]` frames of `[B, T, D]`; None: all of them."""
        batch, num_frames, _ = frames.shape
        all_valid = lengths is None or (lengths.device.type == "cpu" and bool((lengths == num_frames).all()))
        if all_valid and num_frames > 1:
            count = frames.new_full((batch, 1, 1), num_frames, dtype=torch.float32)
            return cls(count[:, :0], count.reciprocal(), (count - 1).rsqrt())
        if lengths is None:
            lengths = torch.full((batch,), num_frames, device=frames.device)
        weights = (torch.arange(num_frames, device=frames.device) < lengths.unsqueeze(1)).float().unsqueeze(-1)
        count = weights.sum(dim=1, keepdim=True)
        return cls(weights, count.clamp(min=1).reciprocal(), (count - 1).clamp(min=1).rsqrt())

    def split(self, utterances: int) -> list["ValidFrames"]:
        """Parts of so many utterances each."""
        return [ValidFrames(*part) for part in zip(*(field.split(utterances) for field in self), strict=True)]


def centre(frames: Tensor, valid: ValidFrames) -> tuple[Tensor, Tensor]:
    """The two halves of NeMo's `normalize: per_feature`: what is left of features without their mean, and its scale.

    Args:
        frames: `[B, T, D]`, floating point.
        valid: its valid frames.

    Returns:
        `frames` less their mean over valid frames, 0 in all others, float32 `[B, T, D]`; and what NeMo's preprocessor
        divides it by, the standard deviation + 1e-5, float32 `[B, 1, D]`.
    """
    if valid.weights.shape[1] == 0:
        centred = frames.float()
        centred = centred - centred.sum(dim=1, keepdim=True) * valid.per_frame
    else:
        centred = frames.float() * valid.weights
        mean = centred.sum(dim=1, keepdim=True) * valid.per_frame
        centred.addcmul_(mean, valid.weights, value=-1)
    return centred, torch.linalg.vector_norm(centred, dim=1, keepdim=True) * valid.per_degree + _STD_FLOOR
