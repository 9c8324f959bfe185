"""Ways to mask for a limited left context, and masks sampled in each of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules import block_masks
from nemo.collections.asr.modules.ssl_modules.mask_audit import MaskAudit, audit_masks, blind_frames
from nemo.collections.asr.modules.ssl_modules.masking import CausalDraw, RandomBlockMasking

# TODO(lead): WayOfMasking, WAYS and the recipe's numbers in MaskSettings are stand-ins for the shared list of ways and
# for MaskRecipe; CausalDraw and draw_causal become CausalSample and sample_causal.


@dataclass(frozen=True)
class WayOfMasking:
    """One answer to the question which blocks may be masked where a layer sees `left` encoder frames."""

    name: str
    meaning: str
    causal_window: str | None
    """As in `RandomBlockMasking`; None for masking that is not causal."""
    in_feature_frames: bool = False
    """Takes `left` for a number of feature frames."""


WAYS = (
    WayOfMasking("none", "NeMo's masks: blocks anywhere, whatever attention sees", None),
    WayOfMasking(
        "literal", "blocks in the last `left` feature frames: the number is taken over, its unit is not", "tail", True
    ),
    WayOfMasking("tail", "blocks in the last `left` encoder frames", "tail"),
    WayOfMasking("random", "blocks in `left` encoder frames that are chosen anew for each utterance", "random"),
    WayOfMasking("sliding", "NeMo's masks, opened where a target would be blind", "sliding"),
)


def way_named(name: str) -> WayOfMasking:
    """The way of masking of this name."""
    return next(way for way in WAYS if way.name == name)


@dataclass(frozen=True)
class MaskSettings:
    """What a model says of masking, from which masks of every way can be sampled."""

    mask_prob: float
    block_size: int
    """In frames of the mask: feature frames, or encoder frames where masking comes after the convolutions."""
    allow_overlap: bool
    max_mask_ratio: float
    frames_per_encoder_frame: int
    """Frames of the mask in an encoder frame: 1 where masking comes after the convolutions."""
    target_threshold: float
    own_way: str
    """The name of the way in which the model itself masks."""

    @classmethod
    def of(cls, masking: RandomBlockMasking, frames_per_encoder_frame: int, threshold: float) -> "MaskSettings":
        """Reads them off a mask processor."""
        own_way = masking.causal_window if masking.causal else "none"
        if own_way == "tail" and masking.subsampling_factor < frames_per_encoder_frame:
            own_way = "literal"
        return cls(
            mask_prob=masking.mask_prob,
            block_size=masking.block_size,
            allow_overlap=masking.allow_overlap,
            max_mask_ratio=masking.max_mask_ratio,
            frames_per_encoder_frame=frames_per_encoder_frame,
            target_threshold=threshold,
            own_way=own_way,
        )

    def sample(self, way: WayOfMasking, lengths: Tensor, left: int, generator: torch.Generator) -> CausalDraw:
        """Samples masks as training would.

        Args:
            lengths: of the utterances [B], in frames of the mask.
            left: left context, in encoder frames.

        Returns:
            The masks [B, T] in frames of the mask, with what an audit of them needs to know.
        """
        processor = RandomBlockMasking(
            feat_in=1,
            mask_prob=self.mask_prob,
            block_size=self.block_size,
            allow_overlap=self.allow_overlap,
            max_mask_ratio=self.max_mask_ratio,
            left_context_size=left,
            subsampling_factor=1 if way.in_feature_frames else self.frames_per_encoder_frame,
            causal_window=way.causal_window or "tail",
        )
        longest = int(lengths.max())
        if way.causal_window is None:
            mask = processor.sample(lengths, longest, generator=generator)
            return CausalDraw(mask, block_masks.whole_utterance(lengths), None)
        return processor.draw_causal(lengths, longest, generator=generator)

    def audit(self, sampled: CausalDraw, lengths: Tensor, left: int) -> MaskAudit:
        """What masks ask of an encoder that sees `left` encoder frames."""
        return audit_masks(
            sampled.mask,
            lengths,
            left,
            self.frames_per_encoder_frame,
            window=sampled.window,
            opened=sampled.opened,
            target_threshold=self.target_threshold,
        )

    def blind(self, mask: Tensor, lengths: Tensor, left: int) -> Tensor:
        """Which encoder frames `audit_masks` counts as blind targets, bool [B, S]."""
        return blind_frames(mask, lengths, left, self.frames_per_encoder_frame)

    def wholly_masked(self, mask: Tensor) -> Tensor:
        """Which encoder frames have masked frames alone, bool [B, S], of a mask [B, T]."""
        return block_masks.encoder_frames(mask, self.frames_per_encoder_frame, False).all(dim=2)
