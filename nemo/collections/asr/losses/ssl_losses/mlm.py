"""Masked-prediction losses that are aligned to what the encoder has seen, and never NaN.

Token k is made of feature frames `k * combine_time_steps` onwards. A decoder frame can be asked for it only once the
encoder has seen those frames: decoder frame `k + target_shift` predicts token k.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nemo.collections.asr.losses.ssl_losses.mlm import MLMLoss as NemoMLMLoss
from nemo.collections.asr.losses.ssl_losses.mlm import MultiMLMLoss as NemoMultiMLMLoss
from nemo.core import typecheck

__all__ = ["MLMLoss", "MLMStatistics", "MultiMLMLoss", "target_mask", "token_predictions"]


class MLMStatistics(NamedTuple):
    """Sums over the targets of a batch, float64 on the batch's device; they add up over batches, contexts and ranks.

    With several codebooks each book's target counts once, so that `loss_sum / targets` is the mean that the loss
    gives, and `correct / targets` the accuracy.
    """

    loss_sum: Tensor
    """Negative log-likelihood of the targets, in nats."""

    correct: Tensor
    """Targets to which the decoder gives the highest probability."""

    targets: Tensor
    """Targets."""


def target_mask(
    masks: Tensor,
    combine_time_steps: int = 1,
    mask_threshold: float = 0.8,
    decoder_lengths: Tensor | None = None,
    target_shift: int = 0,
) -> Tensor:
    """Which tokens are targets: those masked enough, and asked for before the utterance ends.

    Args:
        masks: 1 where features were hidden, `[B, D, T]`, float or bool, any T. A stride-0 `expand` over D is read
            once, not D times.
        combine_time_steps: frames of `masks` in a token; T is padded with zeros to a multiple of it.
        mask_threshold: a token is masked if the mean of `masks` over its frames and channels is larger than this.
        decoder_lengths: valid decoder frames per utterance, `[B]`; None: all.
        target_shift: decoder frame `k + target_shift` predicts token k.

    Returns:
        `[B, ceil(T / combine_time_steps)]`, bool.
    """
    if masks.stride(1) == 0:
        masks = masks[:, :1]
    tokens = -(-masks.shape[2] // combine_time_steps)
    padded = F.pad(masks, (0, tokens * combine_time_steps - masks.shape[2]))
    groups = padded.unflatten(2, (tokens, combine_time_steps))
    masked = groups.to(torch.promote_types(masks.dtype, torch.float32)).mean(dim=(1, 3)) > mask_threshold
    return masked & _has_decoder_frame(masked, decoder_lengths, target_shift)


def token_predictions(decoder_outputs: Tensor, num_tokens: int, target_shift: int = 0) -> Tensor:
    """The id that the decoder gives the highest probability, for each token.

    Args:
        decoder_outputs: log-probabilities `[B, To, C]`, or `[B, To, C, H]` of several decoders.
        num_tokens: tokens wanted; those without a decoder frame get id 0.
        target_shift: decoder frame `k + target_shift` predicts token k.

    Returns:
        int64 ids `[B, num_tokens]`, or `[B, num_tokens, H]`.
    """
    ids = decoder_outputs.detach()[:, target_shift : target_shift + num_tokens].argmax(dim=2)
    return F.pad(ids, (0, 0) * (ids.dim() - 2) + (0, num_tokens - ids.shape[1]))


class MLMLoss(NemoMLMLoss):
    """Mean negative log-likelihood of the masked tokens; 0, with a gradient graph, where there is none.

    Equal to NeMo's where NeMo's is defined, that is where decoder, targets and masks have the same number of frames,
    some token is masked, and none past an utterance's length. Sums are taken in float32 whatever the decoder's type.

    Args:
        combine_time_steps: frames of `masks` in a token: the subsampling factor where masking comes before the
            convolutions, else 1.
        mask_threshold: a token is a target if more than this share of its features is masked.
        target_shift: encoder frames; decoder frame `k + target_shift` predicts token k.

    Raises:
        ValueError, TypeError: `target_shift` is no whole number >= 0, or `combine_time_steps` none >= 1.
    """

    def __init__(self, combine_time_steps: int = 1, mask_threshold: float = 0.8, target_shift: int = 0):
        _require_whole("combine_time_steps", combine_time_steps, least=1)
        _require_whole("target_shift", target_shift, least=0)
        super().__init__(combine_time_steps, mask_threshold)
        self.target_shift = target_shift

    @typecheck()
    def forward(
        self,
        decoder_outputs: Tensor,
        targets: Tensor,
        decoder_lengths: Tensor | None = None,
        target_lengths: Tensor | None = None,
        spec_masks: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """The loss of one batch.

        Args:
            decoder_outputs: log-probabilities `[B, To, C]`.
            targets: ids `[B, Tq]`; those that are no target may hold anything.
            decoder_lengths: valid decoder frames `[B]`; None: all To.
            target_lengths: taken for NeMo's sake, and not read.
            spec_masks: another name of `masks`, used where that is None.
            masks: `[B, D, T]` as for `target_mask`; None: every token is a target.

        Returns:
            A scalar, float32 (float64 for float64 log-probabilities).

        Raises:
            ValueError: shapes that do not fit together, or (on a CPU) a target outside `0 .. C - 1`.
        """
        masks = spec_masks if masks is None else masks
        nll, counted, _ = self._likelihoods(decoder_outputs[..., None], targets[..., None], masks, decoder_lengths)
        return nll.sum() / counted.sum().clamp(min=1)

    @torch.no_grad()
    def statistics(
        self,
        decoder_outputs: Tensor,
        targets: Tensor,
        decoder_lengths: Tensor | None = None,
        target_lengths: Tensor | None = None,
        spec_masks: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> MLMStatistics:
        """What `forward` averages, as sums: takes the same arguments and does not wait for the device."""
        masks = spec_masks if masks is None else masks
        return self._statistics(decoder_outputs[..., None], targets[..., None], masks, decoder_lengths)

    def locate(
        self, masks: Tensor, decoder_frames: int, decoder_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Where the targets of a batch are; waits for the device, to learn how many there are.

        Args:
            masks: `[B, D, T]` as for `target_mask`.
            decoder_frames: To.
            decoder_lengths: valid decoder frames `[B]`; None: all.

        Returns:
            Utterance and token of each of the N targets, both `[N]`, int64. Its decoder frame is `target_shift` later.
        """
        counted = target_mask(masks, self.combine_time_steps, self.mask_threshold, decoder_lengths, self.target_shift)
        return counted[:, : max(0, decoder_frames - self.target_shift)].nonzero(as_tuple=True)

    def _statistics(
        self, decoder_outputs: Tensor, targets: Tensor, masks: Tensor | None, decoder_lengths: Tensor | None
    ) -> MLMStatistics:
        nll, counted, aligned = self._likelihoods(decoder_outputs, targets, masks, decoder_lengths)
        correct = (decoder_outputs.argmax(dim=2) == aligned) & counted
        return MLMStatistics(*(values.sum(dtype=torch.float64) for values in (nll, correct, counted)))

    def _likelihoods(
        self,
        decoder_outputs: Tensor,
        targets: Tensor,
        masks: Tensor | None,
        decoder_lengths: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All of it, for H decoders: log-probabilities `[B, To, C, H]` and targets `[B, Tq, H]`.

        Returns:
            Three tensors `[B, To, H]` over decoder frames: the negative log-likelihood (0 where nothing counts), what
            counts, and the targets (0 where nothing counts).
        """
        _check_shapes(decoder_outputs, targets, masks, decoder_lengths)
        frames, classes = decoder_outputs.shape[1:3]
        if masks is None:
            counted = torch.ones(targets.shape[:2], dtype=torch.bool, device=targets.device)
            counted &= _has_decoder_frame(counted, decoder_lengths, self.target_shift)
        else:
            counted = target_mask(
                masks, self.combine_time_steps, self.mask_threshold, decoder_lengths, self.target_shift
            )
        # The few ids move to the decoder's frames, rather than a slice of the many log-probabilities to the tokens'.
        shift = min(self.target_shift, frames)
        tokens = min(counted.shape[1], targets.shape[1], frames - shift)
        around = (0, 0, shift, frames - shift - tokens)
        counted = F.pad(counted[:, :tokens, None].expand(-1, -1, targets.shape[2]), around)
        targets = torch.where(counted, F.pad(targets[:, :tokens], around), 0).long()
        _check_targets(targets, classes)

        nll = -decoder_outputs.gather(2, targets.unsqueeze(2)).squeeze(2)
        nll = nll.to(torch.promote_types(nll.dtype, torch.float32))
        return torch.where(counted, nll, 0), counted, targets


class MultiMLMLoss(NemoMultiMLMLoss):
    """`MLMLoss` of several decoders, one for each codebook: the mean of their losses.

    Args:
        combine_time_steps, mask_threshold, target_shift: as in `MLMLoss`.
        num_decoders: H; log-probabilities are `[B, To, C, H]` and targets `[B, Tq, H]`.
        squeeze_single: whether H is left out where `num_decoders` is 1.

    Raises:
        ValueError, TypeError: as `MLMLoss`, or `num_decoders` is no whole number >= 1.
    """

    def __init__(
        self,
        combine_time_steps: int = 1,
        mask_threshold: float = 0.8,
        num_decoders: int = 1,
        squeeze_single: bool = False,
        target_shift: int = 0,
    ):
        _require_whole("num_decoders", num_decoders, least=1)
        super().__init__(combine_time_steps, mask_threshold, num_decoders, squeeze_single)
        self.mlm_loss = MLMLoss(combine_time_steps, mask_threshold, target_shift)

    @property
    def target_shift(self) -> int:
        """Encoder frames; decoder frame `k + target_shift` predicts token k."""
        return self.mlm_loss.target_shift

    @typecheck()
    def forward(
        self,
        masks: Tensor | None,
        decoder_outputs: Tensor,
        targets: Tensor,
        decoder_lengths: Tensor | None = None,
        target_lengths: Tensor | None = None,
    ) -> Tensor:
        """The loss of one batch: arguments, result and errors as `MLMLoss.forward`, with H last."""
        decoder_outputs, targets = self._with_decoders(decoder_outputs, targets)
        nll, counted, _ = self.mlm_loss._likelihoods(decoder_outputs, targets, masks, decoder_lengths)
        return nll.sum() / counted.sum().clamp(min=1)

    @torch.no_grad()
    def statistics(
        self,
        masks: Tensor | None,
        decoder_outputs: Tensor,
        targets: Tensor,
        decoder_lengths: Tensor | None = None,
        target_lengths: Tensor | None = None,
    ) -> MLMStatistics:
        """What `forward` averages, as sums: takes the same arguments and does not wait for the device."""
        decoder_outputs, targets = self._with_decoders(decoder_outputs, targets)
        return self.mlm_loss._statistics(decoder_outputs, targets, masks, decoder_lengths)

    def _with_decoders(self, decoder_outputs: Tensor, targets: Tensor):
        if self.squeeze_single and self.num_decoders == 1:
            return decoder_outputs[..., None], targets[..., None]
        if decoder_outputs.shape[-1] != self.num_decoders:
            raise ValueError(
                f"decoder_outputs has {decoder_outputs.shape[-1]} decoders in its last dimension, "
                f"but the loss was built with num_decoders={self.num_decoders}"
            )
        return decoder_outputs, targets


def _has_decoder_frame(tokens: Tensor, decoder_lengths: Tensor | None, target_shift: int) -> Tensor:
    """Which of `tokens` `[B, Tq]` are predicted by a frame before the decoder's length."""
    if decoder_lengths is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    frames = torch.arange(tokens.shape[1], device=tokens.device) + target_shift
    return frames < decoder_lengths.to(tokens.device).unsqueeze(1)


def _check_shapes(
    decoder_outputs: Tensor, targets: Tensor, masks: Tensor | None, decoder_lengths: Tensor | None
) -> None:
    batch, decoders = decoder_outputs.shape[0], decoder_outputs.shape[3]
    if targets.shape[0] != batch or targets.shape[2] != decoders:
        raise ValueError(
            f"targets must be ids of {batch} utterance(s) and {decoders} codebook(s), as decoder_outputs has, "
            f"but are of {targets.shape[0]} and {targets.shape[2]}"
        )
    if masks is not None and masks.shape[0] != batch:
        raise ValueError(f"masks must be of {batch} utterance(s), as decoder_outputs, but has {masks.shape[0]}")
    if decoder_lengths is not None and decoder_lengths.shape != (batch,):
        raise ValueError(f"decoder_lengths must have shape [{batch}], but has {list(decoder_lengths.shape)}")


def _check_targets(targets: Tensor, classes: int) -> None:
    if targets.device.type != "cpu":
        return  # reading the values would wait for the device; there, gather itself asserts
    outside = (targets < 0) | (targets >= classes)
    if outside.any():
        raise ValueError(
            f"targets holds {targets[outside].unique().tolist()[:8]} where tokens are masked, "
            f"but ids must lie in 0 .. {classes - 1}, the classes of decoder_outputs; "
            "num_classes of quantizer and decoder must agree"
        )


def _require_whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number >= {least}, but is {value!r}")
    if value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, but is {value}")
