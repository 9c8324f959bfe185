"""Masks of every way to mask, as a model's recipe would give them, and what they ask of its encoder."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.block_masks import encoder_frames
from nemo.collections.asr.modules.ssl_modules.mask_audit import MaskAudit, audit_masks, blind_frames
from nemo.collections.asr.modules.ssl_modules.mask_recipe import MaskRecipe
from nemo.collections.asr.modules.ssl_modules.masking import RandomBlockMasking
from nemo.collections.asr.modules.ssl_modules.masking_ways import CausalSample, MaskingWay, sample_mask


@dataclass(frozen=True)
class MaskSettings:
    """What a model says of masking, from which masks of every way can be sampled."""

    recipe: MaskRecipe
    """Blocks in frames of the mask: feature frames, or encoder frames where masking comes after the convolutions."""
    frames_per_encoder_frame: int
    """Frames of the mask in an encoder frame: 1 where masking comes after the convolutions."""
    target_threshold: float
    own_way: str
    """The name of the way in which the model itself masks."""

    @classmethod
    def of(cls, masking: RandomBlockMasking, frames_per_encoder_frame: int, threshold: float) -> "MaskSettings":
        """Reads them off a mask processor."""
        return cls(
            recipe=masking.recipe,
            frames_per_encoder_frame=frames_per_encoder_frame,
            target_threshold=threshold,
            own_way=masking.way(frames_per_encoder_frame).name,
        )

    def sample(self, way: MaskingWay, lengths: Tensor, left: int, generator: torch.Generator) -> CausalSample:
        """Samples masks as training would.

        Args:
            way: one of `MASKING_WAYS`.
            lengths: of the utterances `[B]`, in frames of the mask.
            left: left context, in encoder frames.
            generator: where the random numbers come from.

        Returns:
            The masks `[B, T]` in frames of the mask, with what an audit of them needs to know.
        """
        return sample_mask(
            self.recipe,
            way.name,
            lengths,
            int(lengths.max()),
            left=left,
            subsampling_factor=self.frames_per_encoder_frame,
            generator=generator,
        )

    def audit(self, sampled: CausalSample, lengths: Tensor, left: int) -> MaskAudit:
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
        """Which encoder frames `audit_masks` counts as blind targets, bool `[B, S]`."""
        return blind_frames(mask, lengths, left, self.frames_per_encoder_frame)

    def wholly_masked(self, mask: Tensor) -> Tensor:
        """Which encoder frames have masked frames alone, bool `[B, S]`, of a mask `[B, T]`."""
        return encoder_frames(mask, self.frames_per_encoder_frame, False).all(dim=2)
