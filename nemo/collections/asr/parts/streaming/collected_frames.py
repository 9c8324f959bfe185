"""The encoder frames of the steps of one call, put together by stream."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["CollectedFrames"]


class CollectedFrames:
    """Collects the outputs of steps in which different streams take part.

    Args:
        batch_size: streams.
        frames_per_step: encoder frames that a step computes for each stream that takes part.
    """

    def __init__(self, batch_size: int, frames_per_step: int):
        self._frames_per_step = frames_per_step
        self._lengths = np.zeros(batch_size, dtype=np.int64)
        self._steps: list[tuple[np.ndarray, np.ndarray, list[Tensor]]] = []

    def add(self, members: np.ndarray, lengths: np.ndarray, outputs: list[Tensor]) -> None:
        """Adds a step: `lengths[i]` frames of stream `members[i]` are in row i of each of `outputs` `[rows, S, D]`.

        A stream with fewer than `frames_per_step` frames in a step has none in later ones.
        """
        self._steps.append((members, self._lengths[members], outputs))
        self._lengths[members] += lengths

    def frames(
        self, outputs: int, channels: int, device: torch.device, dtype: torch.dtype
    ) -> tuple[list[Tensor], Tensor]:
        """`outputs` tensors `[B, D, S]`, zero past each stream's own frames, and how many these are `[B]`.

        `channels`, `device` and `dtype` are those of the frames, for a call without any step.
        """
        lengths = torch.from_numpy(self._lengths).to(device)
        longest = int(self._lengths.max())
        if longest == 0:
            empty = (len(lengths), channels, 0)
            return [torch.zeros(empty, device=device, dtype=dtype) for _ in range(outputs)], lengths
        joined = [self._join(output)[:, :longest] for output in range(outputs)]
        if (self._lengths != longest).any():
            beyond = torch.arange(longest, device=device) >= lengths[:, None]
            joined = [frames.masked_fill(beyond[:, :, None], 0.0) for frames in joined]
        return [frames.transpose(1, 2) for frames in joined], lengths

    def _join(self, output: int) -> Tensor:
        """One output of all steps, `[B, S, D]`, with anything past each stream's own frames."""
        batch = len(self._lengths)
        if all(len(members) == batch for members, _, _ in self._steps):
            # A stream that takes part in a later step of the whole batch took part in the earlier ones.
            return torch.cat([outputs[output] for _, _, outputs in self._steps], dim=1)
        like = self._steps[0][2][output]
        frames = like.new_zeros(batch, int(self._lengths.max()) + self._frames_per_step, like.shape[-1])
        for members, begin, outputs in self._steps:
            place = begin[:, None] + np.arange(self._frames_per_step)
            frames[torch.from_numpy(members)[:, None], torch.from_numpy(place)] = outputs[output]
        return frames
