"""What a mask means for an encoder with a limited left context: how many targets there are, and how many are blind."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.blind_runs import blind_frames, encoder_frames, wholly_masked_frames
from nemo.collections.asr.modules.ssl_modules.mask_arguments import check_left
from nemo.collections.asr.modules.ssl_modules.mask_windows import Window, whole_utterance
from nemo.collections.asr.parts.utils.checks import check_whole_number

__all__ = ["MaskAudit", "audit_masks", "blind_frames", "wholly_masked_frames"]


@dataclass(frozen=True)
class MaskAudit:
    """Counts for each utterance of a batch, all `[B]` and on the device of the masks."""

    masked_fraction: Tensor
    """Share of the utterance's frames that are masked; 0 for an empty utterance. float32."""

    targets: Tensor
    """Encoder frames that the loss counts: more than `target_threshold` of their frames are masked. int64."""

    blind_targets: Tensor
    """Wholly masked encoder frames with no visible frame within the left context: all of the `left` encoder frames
    before them are wholly masked too. int64."""

    opened_runs: Tensor
    """Runs of wholly masked encoder frames that were opened, in one or more places; 0 where `opened` is not given."""

    frames_outside: Tensor
    """Masked frames outside the window; without a window, those at or past the length. int64."""


def audit_masks(
    masks: Tensor,
    lengths: Tensor,
    left: int,
    subsampling_factor: int,
    *,
    window: Window | None = None,
    opened: Tensor | None = None,
    target_threshold: float = 0.8,
) -> MaskAudit:
    """Counts what masks mean under a left context, without waiting for the device.

        >>> mask = torch.zeros(1, 32, dtype=torch.bool)
        >>> mask[0, 8:24] = True
        >>> audit = audit_masks(mask, torch.tensor([32]), left=1, subsampling_factor=8)
        >>> audit.masked_fraction.tolist(), audit.targets.tolist(), audit.blind_targets.tolist()
        ([0.5], [2], [1])

    Args:
        masks: `[B, T]`, or `[B, D, T]` with equal rows as a masking module returns it; bool, or numbers 0 and 1.
        lengths: `[B]`, in frames of the mask.
        left: left context in encoder frames; -1 for no limit.
        subsampling_factor: frames of the mask in an encoder frame.
        window: where masking was to stay, such as `CausalSample.window`.
        opened: bool `[B, S]`, the encoder frames that were unmasked, such as `CausalSample.opened`.
        target_threshold: an encoder frame is a target if more than this share of its frames is masked. Frames that the
            last encoder frame lacks count as not masked.

    Raises:
        TypeError, ValueError: an argument is not what is said above; the message names it.
    """
    left = check_left("left", left)
    subsampling_factor = check_whole_number("subsampling_factor", subsampling_factor, 1)
    mask = _one_row(masks)
    if lengths.shape != mask.shape[:1]:
        raise ValueError(f"lengths must be [B] = [{mask.shape[0]}]; got {list(lengths.shape)}")

    frame = torch.arange(mask.shape[1], device=mask.device)
    window = whole_utterance(lengths) if window is None else window
    outside = frame >= window.end()
    if window.start is not None:
        outside |= frame < window.start

    masked_share = encoder_frames(mask, subsampling_factor, False).float().mean(dim=2)
    opened_runs = torch.zeros_like(lengths)
    if opened is not None:
        opened = opened & (frame[::subsampling_factor] < lengths.unsqueeze(1))
        opened_runs = _runs_with(opened, wholly_masked_frames(mask, lengths, subsampling_factor) | opened)

    return MaskAudit(
        masked_fraction=mask.sum(dim=1) / lengths.clamp_min(1),
        targets=(masked_share > target_threshold).sum(dim=1),
        blind_targets=blind_frames(mask, lengths, left, subsampling_factor).sum(dim=1),
        opened_runs=opened_runs,
        frames_outside=(mask & outside).sum(dim=1),
    )


def _one_row(masks: Tensor) -> Tensor:
    """`[B, T]` or `[B, D, T]` with equal rows to bool `[B, T]`."""
    if masks.dim() not in (2, 3):
        raise ValueError(f"masks must be [B, T] or [B, D, T]; got {list(masks.shape)}")
    row = masks if masks.dim() == 2 else masks[:, 0]
    return row if row.dtype == torch.bool else row > 0


def _runs_with(marked: Tensor, running: Tensor) -> Tensor:
    """How many runs of `running` hold a frame that is `marked`; bool `[B, S]` both, int64 `[B]`."""
    begins = running.clone()
    begins[:, 1:] &= ~running[:, :-1]
    marked_before = marked.cumsum(dim=1) - marked.long()
    before_run = torch.where(begins, marked_before, 0).cummax(dim=1).values
    return (marked & (marked_before == before_run)).sum(dim=1)
