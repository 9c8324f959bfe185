"""Block masking that can be confined to what a streaming encoder's attention sees."""

import inspect
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nemo.collections.asr.modules.ssl_modules import block_masks
from nemo.collections.asr.modules.ssl_modules.block_masks import Window
from nemo.collections.asr.modules.ssl_modules.masking import ConvFeatureMaksingWrapper as NemoConvFeatureMaksingWrapper
from nemo.collections.asr.modules.ssl_modules.masking import RandomBlockMasking as NemoRandomBlockMasking
from nemo.core.neural_types import AcousticEncodedRepresentation, IntType, LengthsType, NeuralType

CAUSAL_WINDOWS = ("tail", "random", "sliding")


class CausalDraw(NamedTuple):
    """What one causal draw gave: the mask, and what an audit of it needs to know."""

    mask: Tensor
    """bool `[B, T]`, True where a frame is hidden."""
    window: Window
    """The frames in which masking could happen, per utterance."""
    opened: Tensor | None
    """bool `[B, G]`: the encoder frames that `sliding` unmasked; None for the other windows."""


class RandomBlockMasking(NemoRandomBlockMasking):
    """Masks random blocks of frames, anywhere in an utterance or inside what a left context allows.

    With `causal=False` masks have the distribution of NeMo's class. With `causal=True` the left context `L` of
    attention, in encoder frames, bounds what is masked. `causal_window` says how; `W` is `L * subsampling_factor`
    frames and `end` is the length, or `current_frame` where that is less:

    - `"tail"`: blocks lie in the last `W` frames, `[end - W, end)`.
    - `"random"`: blocks lie in `W` consecutive frames that are drawn anew for each utterance. In evaluation, or where
      `current_frame` is given, as `tail`.
    - `"sliding"`: blocks lie anywhere in `[0, end)`. Then runs that hide everything an attention layer could see are
      opened: each wholly masked encoder frame keeps, among the `L` encoder frames before it, one that is not
      wholly masked. Attention windows slide with the position, so this masks as much as no limit would.

    A window of `2 <= n <= block_size` frames gets one block of `max(1, min(n - 1, floor(max_mask_ratio * n)))` frames.
    A left context of 0 masks nothing. Nothing is masked at or past an utterance's length.

    Args:
        feat_in: `D`, the size of a feature frame.
        mask_prob: with `allow_overlap`, the probability that a block begins at a frame; without, the share of frames
            to mask. In `[0, 1]`.
        block_size: frames of `input_feats` in a block, >= 1.
        mask_value: the value that masked features take; None for a random embedding.
        freeze: the mask embedding does not train.
        allow_overlap: blocks may overlap.
        max_mask_ratio: the most that is hidden of a window no longer than a block, in `[0, 1]`. Causal masking only.
        causal: confine masking to the left context.
        left_context_size: `L`, in encoder frames: -1 for no limit, 0 for no masking. May be set later; a
            model keeps it equal to its encoder's left attention context.
        subsampling_factor: frames of `input_feats` to an encoder frame, >= 1. With 1, `L` counts frames of
            `input_feats`. May be set later; a model does, by where its masking stands.
        causal_window: `"tail"`, `"random"` or `"sliding"`. May be set later.

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
        _check_share("mask_prob", mask_prob)
        _check_share("max_mask_ratio", max_mask_ratio)
        block_size = block_masks.check_whole_number("block_size", block_size, 1, "a whole number of frames >= 1")
        left_context_size = block_masks.check_left("left_context_size", left_context_size)
        subsampling_factor = block_masks.check_subsampling_factor(subsampling_factor)
        _check_causal_window(causal_window)
        super().__init__(
            feat_in=feat_in,
            mask_prob=mask_prob,
            block_size=block_size,
            mask_value=mask_value,
            freeze=freeze,
            allow_overlap=allow_overlap,
            max_mask_ratio=max_mask_ratio,
        )
        # Freezing the embedding puts a NeMo module in evaluation mode, where `random` would act as `tail`.
        self.train()
        self.causal = causal
        self.left_context_size = left_context_size
        self.subsampling_factor = subsampling_factor
        self.causal_window = causal_window

    @property
    def input_types(self) -> dict[str, NeuralType]:
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
        """Mask features.

        Args:
            input_feats: `[B, D, T]`.
            input_lengths: `[B]`, whole numbers, in frames of `input_feats`.
            current_frame: exclusive end of the window, in frames of `input_feats`: an int, a tensor `[B]`, or None for
                each utterance's length. Causal masking only.
            effective_left_context: takes the place of `left_context_size` in this call. Causal masking only.

        Returns:
            the features with the mask embedding where masked, and the mask as 0 and 1; both `[B, D, T]`, of the dtype
            of `input_feats`. The mask is a view that repeats one row for all of `D`.
        """
        _check_feats(input_feats, input_lengths, self.mask_embedding)
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
        _check_feats(input_feats, input_lengths, self.mask_embedding)
        draw = self.draw_causal(
            input_lengths,
            input_feats.shape[2],
            current_frame=current_frame,
            effective_left_context=effective_left_context,
        )
        return self.write(input_feats, draw.mask)

    def sample(
        self,
        input_lengths: Tensor,
        max_time: int,
        *,
        current_frame: int | Tensor | None = None,
        effective_left_context: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw a mask, bool `[B, T]`, on the device of `input_lengths`; `write` puts it into features.

        Args:
            max_time: `T`, in frames.
            generator: where the random numbers come from; torch's own generator if None. It may live on another device
                than the lengths, so that one CPU generator gives the same mask everywhere.
        """
        if self.causal:
            draw = self.draw_causal(
                input_lengths,
                max_time,
                current_frame=current_frame,
                effective_left_context=effective_left_context,
                generator=generator,
            )
            return draw.mask
        lengths = _checked_lengths(input_lengths, max_time)
        return block_masks.sample_blocks(
            block_masks.whole_utterance(lengths),
            max_time,
            mask_prob=self.mask_prob,
            block_size=self.block_size,
            allow_overlap=self.allow_overlap,
            generator=generator,
        )

    def draw_causal(
        self,
        input_lengths: Tensor,
        max_time: int,
        *,
        current_frame: int | Tensor | None = None,
        effective_left_context: int | None = None,
        causal_window: str | None = None,
        generator: torch.Generator | None = None,
    ) -> CausalDraw:
        """As `sample`, and causal whatever `self.causal` says, with the window and the opened encoder frames.

        Args:
            causal_window: takes the place of `self.causal_window` in this call.
        """
        causal_window = self.causal_window if causal_window is None else causal_window
        left = self._left(effective_left_context)
        factor = block_masks.check_subsampling_factor(self.subsampling_factor)
        lengths = _checked_lengths(input_lengths, max_time)
        current_frame = _checked_current_frame(current_frame, lengths)
        window = self._window(causal_window, lengths, left, factor, current_frame, generator)
        mask = block_masks.sample_causal_blocks(
            window,
            max_time,
            mask_prob=self.mask_prob,
            block_size=self.block_size,
            allow_overlap=self.allow_overlap,
            max_mask_ratio=self.max_mask_ratio,
            generator=generator,
        )
        if causal_window != "sliding":
            return CausalDraw(mask, window, None)
        opened = block_masks.frames_to_open(mask, lengths, left, factor)
        return CausalDraw(block_masks.unmask(mask, opened, factor), window, opened)

    def write(self, input_feats: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Put the mask embedding where `mask`, bool `[B, T]`, is True; returns what `forward` does."""
        mask = mask.unsqueeze(1)
        embedding = self.mask_embedding.to(input_feats.dtype).view(1, -1, 1)
        return torch.where(mask, embedding, input_feats), mask.to(input_feats.dtype).expand_as(input_feats)

    def _left(self, effective: int | None) -> int:
        """The left context of this call, in encoder frames; both numbers may have been set by hand."""
        if effective is None:
            return block_masks.check_left("left_context_size", self.left_context_size)
        return block_masks.check_left("effective_left_context", effective)

    def _window(
        self,
        causal_window: str,
        lengths: Tensor,
        left: int,
        factor: int,
        current_frame: int | Tensor | None,
        generator: torch.Generator | None,
    ) -> Window:
        _check_causal_window(causal_window)
        width = block_masks.window_width(left, factor)
        if causal_window == "sliding" and left > 0:
            width = block_masks.UNLIMITED
        if causal_window == "random" and self.training and current_frame is None:
            return block_masks.random_window(lengths, width, generator)
        return block_masks.tail_window(lengths, width, current_frame)


class ConvFeatureMaksingWrapper(NemoConvFeatureMaksingWrapper):
    """Stands in for an encoder's `pre_encode` and masks the features that come out of it.

    The subsampling is frozen, since its features are what targets are made from. Masked features keep their graph, so
    that a mask embedding that is not frozen trains. What callers read of `encoder.pre_encode` beside this
    class's own attributes (`get_sampling_frames`, `get_streaming_cache_size`, ...) is the wrapped module's.

    A state dict has NeMo's keys (`pre_encode.*`, `masking.*`). Loading also takes that of a plain subsampling module.

    Args:
        pre_encode_module: called with `x` and `lengths`, returns features `[B, T', D]` and lengths `[B]`.
        masking_module: called with `input_feats` `[B, D, T']` and `input_lengths`, returns masked features and masks.
    """

    def __init__(self, pre_encode_module: nn.Module, masking_module: nn.Module) -> None:
        super().__init__(pre_encode_module, masking_module)
        self.pre_encode.requires_grad_(False)
        self.set_masking_enabled(False)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As the wrapped module: `x` `[B, T, D_in]` and lengths `[B]` in, `[B, T', D]` and lengths out."""
        feats, lengths = self.pre_encode(x=x, lengths=lengths)
        self.curr_feat = feats.detach()
        feats = feats.transpose(1, 2)
        if not self.apply_mask:
            self.curr_mask = feats.new_zeros(()).expand_as(feats)
        elif self._ready_mask is not None:
            feats, self.curr_mask = self.masking.write(feats, _fitting(self._ready_mask, feats))
        else:
            feats, self.curr_mask = self.masking(input_feats=feats, input_lengths=lengths, **self._masking_args)
        return feats.transpose(1, 2), lengths

    def set_masking_enabled(
        self, apply_mask: bool, effective_left_context: int | None = None, mask: Tensor | None = None
    ) -> None:
        """Say how the coming forwards mask, until the next call of this method.

        Args:
            apply_mask: mask at all.
            effective_left_context: passed to the masking module, if its forward takes it; in encoder frames.
            mask: a ready mask, bool `[B, T']`, to write instead of drawing one.

        Raises:
            TypeError, ValueError: a left context that is none, or a mask that cannot be written. Nothing has changed.
        """
        if effective_left_context is not None:
            effective_left_context = block_masks.check_left("effective_left_context", effective_left_context)
        if mask is not None:
            self._check_ready_mask(apply_mask, mask)
        self.apply_mask = apply_mask
        self._ready_mask = mask
        # A masking module of another make has NeMo's two arguments only.
        takes_context = effective_left_context is not None and _takes(self.masking.forward, "effective_left_context")
        self._masking_args = {"effective_left_context": effective_left_context} if takes_context else {}

    def _check_ready_mask(self, apply_mask: bool, mask: Tensor) -> None:
        if not apply_mask:
            raise ValueError("mask was given together with apply_mask=False; pass one or the other")
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise TypeError(f"mask must be a boolean tensor [B, T]; got {getattr(mask, 'dtype', type(mask).__name__)}")
        if mask.dim() != 2:
            raise ValueError(f"mask must be a boolean tensor [B, T]; got the shape {list(mask.shape)}")
        if not hasattr(self.masking, "write"):
            raise TypeError(f"mask cannot be written: {type(self.masking).__name__} has no method write(feats, mask)")

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Special names are looked up by copy and pickle, before there is a wrapped module or to copy it alone.
            wrapped = self.__dict__.get("_modules", {}).get("pre_encode")
            if wrapped is None or name.startswith("__"):
                raise
            return getattr(wrapped, name)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        mine = [key for key in state_dict if key.startswith(prefix)]
        nested = tuple(f"{prefix}{name}." for name in self._modules)
        if mine and not any(key.startswith(nested) for key in mine):
            for key in mine:
                state_dict[f"{prefix}pre_encode.{key[len(prefix) :]}"] = state_dict.pop(key)
            # A plain subsampling module has no mask embedding to offer: this one's is kept.
            for name, value in self.masking.state_dict().items():
                state_dict[f"{prefix}masking.{name}"] = value
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _takes(function: Callable, argument: str) -> bool:
    parameters = inspect.signature(function).parameters
    return argument in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _fitting(mask: Tensor, feats: Tensor) -> Tensor:
    """A ready mask, which must be of the batch and time of `feats` `[B, D, T]`."""
    if mask.shape != (feats.shape[0], feats.shape[2]):
        raise ValueError(
            f"mask must be [B, T] = [{feats.shape[0]}, {feats.shape[2]}] for these features; got {list(mask.shape)}"
        )
    return mask


def _check_share(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number in [0, 1]; got {value!r} of type {type(value).__name__}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number in [0, 1]; got {value!r}")


def _check_causal_window(value: str) -> None:
    if value not in CAUSAL_WINDOWS:
        raise ValueError(f"causal_window must be one of {', '.join(map(repr, CAUSAL_WINDOWS))}; got {value!r}")


def _check_feats(feats: Tensor, lengths: Tensor, embedding: Tensor) -> None:
    if feats.dim() != 3 or feats.shape[1] != embedding.shape[0]:
        raise ValueError(f"input_feats must be [B, D, T] with D = {embedding.shape[0]}; got {list(feats.shape)}")
    if isinstance(lengths, Tensor) and lengths.shape != feats.shape[:1]:
        raise ValueError(f"input_lengths must be [B] = [{feats.shape[0]}]; got {list(lengths.shape)}")


def _check_frame_counts(name: str, value: Tensor) -> None:
    if not isinstance(value, Tensor) or value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a tensor of whole numbers [B], in frames; got {got}")


def _checked_lengths(lengths: Tensor, max_time: int) -> Tensor:
    """Lengths as int64, at most `T`: past it is an error, where values can be read, and is cut off elsewhere."""
    _check_frame_counts("input_lengths", lengths)
    if lengths.dim() != 1:
        raise ValueError(f"input_lengths must be [B]; got {list(lengths.shape)}")
    if not block_masks.readable(lengths):
        return lengths.long().clamp(0, max_time)
    values = lengths.tolist()
    shortest, longest = min(values), max(values)
    if shortest < 0 or longest > max_time:
        raise ValueError(
            f"input_lengths must be between 0 and T = {max_time} frames; got {shortest if shortest < 0 else longest}"
        )
    return lengths.long()


def _checked_current_frame(current_frame: int | Tensor | None, lengths: Tensor):
    """None, an int >= 0, or an int64 tensor `[B]` of numbers >= 0 on the device of `lengths`."""
    if current_frame is None:
        return None
    if not isinstance(current_frame, Tensor):
        meaning = "None, a whole number of frames >= 0, or a tensor of them [B]"
        return block_masks.check_whole_number("current_frame", current_frame, 0, meaning)
    _check_frame_counts("current_frame", current_frame)
    if current_frame.shape != lengths.shape:
        raise ValueError(f"current_frame must be [B] = {list(lengths.shape)}; got {list(current_frame.shape)}")
    if not block_masks.readable(current_frame):
        return current_frame.to(lengths).clamp_min(0)
    first = int(current_frame.min())
    if first < 0:
        raise ValueError(f"current_frame must be >= 0 in every utterance; got {first}")
    return current_frame.to(lengths)
