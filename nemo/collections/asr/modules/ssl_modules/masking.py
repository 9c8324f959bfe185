"""Block masking that can be limited to the left context of a streaming encoder's attention."""

import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.mask_arguments import (
    check_current_frame,
    check_features,
    check_left,
    check_lengths,
)
from nemo.collections.asr.modules.ssl_modules.mask_recipe import MaskRecipe
from nemo.collections.asr.modules.ssl_modules.masking import ConvFeatureMaksingWrapper as NemoConvFeatureMaksingWrapper
from nemo.collections.asr.modules.ssl_modules.masking import RandomBlockMasking as NemoRandomBlockMasking
from nemo.collections.asr.modules.ssl_modules.masking_ways import (
    CAUSAL_WINDOWS,
    MASKING_WAYS,
    CausalSample,
    MaskingWay,
    sample_mask,
)
from nemo.collections.asr.modules.ssl_modules.post_conv_masking import PostConvMasking
from nemo.collections.asr.parts.utils.checks import check_choice, check_whole_number
from nemo.core.neural_types import AcousticEncodedRepresentation, IntType, LengthsType, NeuralType

__all__ = [
    "CAUSAL_WINDOWS",
    "CausalSample",
    "ConvFeatureMaksingWrapper",
    "NemoConvFeatureMaksingWrapper",
    "NemoRandomBlockMasking",
    "RandomBlockMasking",
]


class RandomBlockMasking(NemoRandomBlockMasking):
    """Masks random blocks of frames, anywhere in an utterance or within a left context.

    With `causal=False`, masks have the distribution of NeMo's class. With `causal=True`, the left context `L` of
    attention, in encoder frames, limits what is masked. `causal_window` says how; `W` is `L * subsampling_factor`
    frames and `end` is the length, or `current_frame` where that is less:

    - `"tail"`: blocks lie in the last `W` frames, `[end - W, end)`.
    - `"random"`: blocks lie in `W` consecutive frames, at a place sampled for each utterance. In evaluation, or where
      `current_frame` is given, as `tail`.
    - `"sliding"`: blocks lie anywhere in `[0, end)`. Then runs that cover all that an attention layer could see are
      opened: each wholly masked encoder frame keeps, among the `L` encoder frames before it, one that is not
      wholly masked. Attention windows slide with the position, so this masks about as much as no limit would.

    A window of `2 <= n <= block_size` frames gets one block of `max(1, min(n - 1, floor(max_mask_ratio * n)))` frames.
    A left context of 0 masks nothing. Nothing is masked at or past an utterance's length.

    Every option below but `feat_in`, `mask_value` and `freeze` is an attribute that may be set later; it is checked
    at the next call.

    Args:
        feat_in: `D`, the channels of a frame.
        mask_prob, block_size, allow_overlap, max_mask_ratio: how much to mask, in frames of `input_feats`; see
            `MaskRecipe`.
        mask_value: the value that masked features take; None for a random embedding.
        freeze: whether the mask embedding is kept from training.
        causal: whether masking is limited to the left context.
        left_context_size: `L`, in encoder frames: -1 for no limit, 0 for no masking. A model keeps it equal to the
            left attention context of its encoder.
        subsampling_factor: frames of `input_feats` in an encoder frame, >= 1. With 1, `L` counts frames of
            `input_feats`. A model sets it by the position of its masking.
        causal_window: `"tail"`, `"random"` or `"sliding"`.

    Raises:
        TypeError, ValueError: an argument is not what is said above; the message names it.
    """

    def __init__(
        self,
        feat_in: int,
        mask_prob: float = 0.5,
        block_size: int = 48,
        mask_value: float | None = None,
        freeze: bool = True,
        allow_overlap: bool = False,
        max_mask_ratio: float = 0.8,
        causal: bool = False,
        left_context_size: int = -1,
        subsampling_factor: int = 1,
        causal_window: str = "tail",
    ):
        recipe = MaskRecipe(mask_prob, block_size, allow_overlap, max_mask_ratio)
        left_context_size = check_left("left_context_size", left_context_size)
        subsampling_factor = check_whole_number("subsampling_factor", subsampling_factor, 1)
        check_choice("causal_window", causal_window, CAUSAL_WINDOWS)
        super().__init__(
            feat_in=feat_in,
            mask_prob=recipe.mask_prob,
            block_size=recipe.block_size,
            mask_value=mask_value,
            freeze=freeze,
            allow_overlap=recipe.allow_overlap,
            max_mask_ratio=recipe.max_mask_ratio,
        )
        # Freezing the embedding puts a NeMo module in evaluation mode, where `random` would act as `tail`.
        self.train()
        self._recipe = recipe
        self.causal = causal
        self.left_context_size = left_context_size
        self.subsampling_factor = subsampling_factor
        self.causal_window = causal_window

    @property
    def recipe(self) -> MaskRecipe:
        """How much is masked, from the attributes as they are now."""
        recipe, now = self._recipe, (self.mask_prob, self.block_size, self.allow_overlap, self.max_mask_ratio)
        # Checked only after an attribute was set: a forward's checks would take a tenth of the time to sample a mask.
        if now != (recipe.mask_prob, recipe.block_size, recipe.allow_overlap, recipe.max_mask_ratio):
            recipe = self._recipe = MaskRecipe(*now)
        return recipe

    def way(self, frames_per_encoder_frame: int) -> MaskingWay:
        """In which of the `MASKING_WAYS` training masks, for an encoder with so many masked frames in one of its own.

        A `tail` with a smaller `subsampling_factor` than that does not convert its left context: it is `literal`.
        """
        if not self.causal:
            return MASKING_WAYS["none"]
        if self.causal_window == "tail" and self.subsampling_factor < frames_per_encoder_frame:
            return MASKING_WAYS["literal"]
        return MASKING_WAYS[self.causal_window]

    @property
    def input_types(self) -> dict[str, NeuralType]:
        """Types of the arguments of `forward`."""
        return {
            "input_feats": NeuralType(("B", "D", "T"), AcousticEncodedRepresentation()),
            "input_lengths": NeuralType(tuple("B"), LengthsType()),
            "current_frame": NeuralType(tuple("B"), LengthsType(), optional=True),
            "effective_left_context": NeuralType(elements_type=IntType(), optional=True),
        }

    def forward(
        self,
        input_feats: Tensor,
        input_lengths: Tensor,
        current_frame: int | Tensor | None = None,
        effective_left_context: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Masks features.

        Args:
            input_feats: `[B, D, T]`.
            input_lengths: `[B]`, whole numbers, in frames of `input_feats`.
            current_frame: exclusive end of the window, in frames of `input_feats`: an int, a tensor `[B]`, or None for
                each utterance's length. Causal masking only.
            effective_left_context: replaces `left_context_size` in this call. Causal masking only.

        Returns:
            the features, with the mask embedding where masked, and the mask as 0 and 1; both `[B, D, T]`, of the dtype
            of `input_feats`. The mask is a view that repeats one row for all of `D`.
        """
        check_features(input_feats, input_lengths, channels=self.mask_embedding.shape[0])
        mask = self.sample(
            input_lengths,
            input_feats.shape[2],
            current_frame=current_frame,
            effective_left_context=effective_left_context,
        )
        return self.write(input_feats, mask)

    def forward_causal(
        self,
        input_feats: Tensor,
        input_lengths: Tensor,
        current_frame: int | Tensor | None = None,
        effective_left_context: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, and causal whatever `self.causal` says."""
        check_features(input_feats, input_lengths, channels=self.mask_embedding.shape[0])
        sample = self.sample_causal(
            input_lengths,
            input_feats.shape[2],
            current_frame=current_frame,
            effective_left_context=effective_left_context,
        )
        return self.write(input_feats, sample.mask)

    def sample(
        self,
        input_lengths: Tensor,
        max_time: int,
        *,
        current_frame: int | Tensor | None = None,
        effective_left_context: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Samples a mask, bool `[B, T]`, on the device of `input_lengths`; `write` puts it into features.

        Args:
            input_lengths, current_frame, effective_left_context: as in `forward`.
            max_time: `T`, in frames.
            generator: where the random numbers come from; torch's own generator if None. A CPU generator gives the
                same mask on every device.
        """
        if self.causal:
            return self.sample_causal(
                input_lengths,
                max_time,
                current_frame=current_frame,
                effective_left_context=effective_left_context,
                generator=generator,
            ).mask
        lengths = check_lengths(input_lengths, max_time)
        return sample_mask(self.recipe, "none", lengths, max_time, left=-1, generator=generator).mask

    def sample_causal(
        self,
        input_lengths: Tensor,
        max_time: int,
        *,
        current_frame: int | Tensor | None = None,
        effective_left_context: int | None = None,
        causal_window: str | None = None,
        generator: torch.Generator | None = None,
    ) -> CausalSample:
        """As `sample`, causal whatever `self.causal` says, and with the window and the opened encoder frames.

        Args:
            causal_window: replaces `self.causal_window` in this call.
        """
        if effective_left_context is None:
            left = check_left("left_context_size", self.left_context_size)
        else:
            left = check_left("effective_left_context", effective_left_context)
        causal_window = self.causal_window if causal_window is None else causal_window
        check_choice("causal_window", causal_window, CAUSAL_WINDOWS)
        lengths = check_lengths(input_lengths, max_time)
        return sample_mask(
            self.recipe,
            "tail" if causal_window == "random" and not self.training else causal_window,
            lengths,
            max_time,
            left=left,
            subsampling_factor=check_whole_number("subsampling_factor", self.subsampling_factor, 1),
            current_frame=check_current_frame(current_frame, lengths),
            generator=generator,
        )

    def write(self, input_feats: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Puts the mask embedding where `mask`, bool `[B, T]`, is True; returns what `forward` does."""
        mask = mask.unsqueeze(1)
        embedding = self.mask_embedding.to(input_feats.dtype).view(1, -1, 1)
        return torch.where(mask, embedding, input_feats), mask.to(input_feats.dtype).expand_as(input_feats)


class ConvFeatureMaksingWrapper(PostConvMasking, NemoConvFeatureMaksingWrapper):
    """Masks what an encoder's subsampling gives (`mask_position: post_conv`); see `PostConvMasking`."""
