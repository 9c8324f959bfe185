"""What a mask asks of an encoder with a limited left context: how much to predict, and from what."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.block_masks import (
    Window,
    blank_frames,
    check_left,
    check_subsampling_factor,
    encoder_frames,
    reach_within,
    steps_from_visible,
    whole_utterance,
)


@dataclass(frozen=True)
class MaskAudit:
    """Counts for each utterance of a batch, all `[B]` and on the device of the masks."""

    masked_fraction: Tensor
    """Masked frames in proportion to the utterance's length; 0 for an empty utterance. float32."""
    targets: Tensor
    """Encoder frames that the loss counts: more than `target_threshold` of their frames are masked. int64."""
    blind_targets: Tensor
    """Wholly masked encoder frames for which one attention layer shows no other: none of the `left` encoder frames
    before them has a visible frame. int64."""
    opened_runs: Tensor
    """Runs of wholly masked encoder frames that were opened, in one or more places; 0 where `opened` is not given."""
    frames_outside: Tensor
    """Masked frames outside the window; where no window is given, at or past the length. int64."""


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
    """Count, per utterance, what a mask means under a left context, without making the host wait.

    Args:
        masks: `[B, T]`, or `[B, D, T]` with equal rows as a masking module returns it; bool, or numbers 0 and 1.
        lengths: `[B]`, in frames of the mask.
        left: left context in encoder frames; -1 for no limit.
        subsampling_factor: frames of the mask to an encoder frame.
        window: where masking was to stay, such as `CausalDraw.window`.
        opened: bool `[B, G]`, the encoder frames that were unmasked, such as `CausalDraw.opened`.
        target_threshold: the share of an encoder frame's frames that must be exceeded to make it a target. Frames that
            the last encoder frame lacks count as not masked.

    Raises:
        TypeError, ValueError: an argument is not what is said above; the message names it.
    """
    left = check_left("left", left)
    subsampling_factor = check_subsampling_factor(subsampling_factor)
    mask = _one_row(masks)
    if lengths.shape != mask.shape[:1]:
        raise ValueError(f"lengths must be [B] = [{mask.shape[0]}] as masks; got {list(lengths.shape)}")

    frame = torch.arange(mask.shape[1], device=mask.device)
    window = whole_utterance(lengths) if window is None else window
    outside = frame >= window.end()
    if window.start is not None:
        outside |= frame < window.start

    masked_share = encoder_frames(mask, subsampling_factor, False).float().mean(dim=2)
    wholly_masked = wholly_masked_frames(mask, lengths, subsampling_factor)
    blind = blind_frames(mask, lengths, left, subsampling_factor)
    if opened is not None:
        opened = opened & (frame[::subsampling_factor] < lengths.unsqueeze(1))

    return MaskAudit(
        masked_fraction=mask.sum(dim=1) / lengths.clamp_min(1),
        targets=(masked_share > target_threshold).sum(dim=1),
        blind_targets=blind.sum(dim=1),
        opened_runs=torch.zeros_like(lengths) if opened is None else _runs_with(opened, wholly_masked | opened),
        frames_outside=(mask & outside).sum(dim=1),
    )


def wholly_masked_frames(mask: Tensor, lengths: Tensor, subsampling_factor: int) -> Tensor:
    """Which encoder frames of the utterance have nothing but masked frames; mask bool `[B, T]`, bool `[B, G]` out."""
    # An encoder frame that belongs to the utterance at all has its first frame there.
    return blank_frames(mask, lengths, subsampling_factor) & mask[:, ::subsampling_factor]


def blind_frames(mask: Tensor, lengths: Tensor, left: int, subsampling_factor: int) -> Tensor:
    """Which wholly masked encoder frames have no visible one among the `left` before them, bool `[B, G]`."""
    wholly_masked = wholly_masked_frames(mask, lengths, subsampling_factor)
    reach = reach_within(left, wholly_masked.shape[1])
    return wholly_masked & (steps_from_visible(wholly_masked, reach) > reach)


def _one_row(masks: Tensor) -> Tensor:
    if masks.dim() not in (2, 3):
        raise ValueError(f"masks must be [B, T] or [B, D, T]; got {list(masks.shape)}")
    row = masks if masks.dim() == 2 else masks[:, 0]
    return row if row.dtype == torch.bool else row > 0


def _runs_with(marked: Tensor, running: Tensor) -> Tensor:
    """How many runs of `running` hold a frame that is `marked`; bool `[B, G]` both, int64 `[B]`."""
    begins = running.clone()
    begins[:, 1:] &= ~running[:, :-1]
    marked_before = marked.cumsum(dim=1) - marked.long()
    before_run = torch.where(begins, marked_before, 0).cummax(dim=1).values
    return (marked & (marked_before == before_run)).sum(dim=1)
