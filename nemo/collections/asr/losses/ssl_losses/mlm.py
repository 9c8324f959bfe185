"""Masked-prediction losses that are aligned to what the encoder has seen, and never NaN.

`masked_targets` says which tokens are targets and which decoder frame predicts each. Shapes: `T` frames of the mask,
`S` decoder frames (encoder frames), `K` tokens, `C` codes, `Q` codebooks (NeMo: decoders).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nemo.collections.asr.losses.ssl_losses.masked_targets import has_decoder_frame, target_mask, token_predictions
from nemo.collections.asr.losses.ssl_losses.mlm import MLMLoss as NemoMLMLoss
from nemo.collections.asr.losses.ssl_losses.mlm import MultiMLMLoss as NemoMultiMLMLoss
from nemo.core import typecheck

__all__ = ["MLMLoss", "MLMStatistics", "MultiMLMLoss", "target_mask", "token_predictions"]


class MLMStatistics(NamedTuple):
    """Sums over the targets of a batch, float64 on the batch's device; they add up over batches, contexts and ranks.

    The target of each codebook counts once, so `loss_sum / targets` is the mean that the loss gives, and
    `correct / targets` the accuracy.
    """

    loss_sum: Tensor
    """Negative log-likelihood of the targets, in nats."""

    correct: Tensor
    """Number of targets to which the decoder gives the highest probability."""

    targets: Tensor
    """Number of targets."""


class MLMLoss(NemoMLMLoss):
    """Mean negative log-likelihood of the masked tokens; 0, with a gradient graph, where there is none.

    Equal to NeMo's where NeMo's is defined: decoder, targets and masks have the same number of frames, some token is
    masked, and none past an utterance's length. Sums are computed in float32 whatever the decoder's type.

    Args:
        combine_time_steps: frames of `masks` in a token: the subsampling factor where masking comes before the
            convolutions, else 1.
        mask_threshold: a token is a target if more than this share of its features is masked.
        target_shift: encoder frames; decoder frame `k + target_shift` predicts token k.

    Raises:
        ValueError, TypeError: `target_shift` is not a whole number >= 0, or `combine_time_steps` not one >= 1.
    """

    def __init__(self, combine_time_steps: int = 1, mask_threshold: float = 0.8, target_shift: int = 0):
        _check_whole_numbers(1, combine_time_steps=combine_time_steps)
        _check_whole_numbers(0, target_shift=target_shift)
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
            decoder_outputs: log-probabilities `[B, S, C]`.
            targets: ids `[B, K]`; those that are no target may hold anything.
            decoder_lengths: valid decoder frames `[B]`; None: all S.
            target_lengths: accepted because NeMo's callers pass it, and not read.
            spec_masks: another name of `masks`, used where that is None.
            masks: `[B, D, T]` as for `target_mask`; None: every token is a target.

        Returns:
            A scalar, float32 (float64 for float64 log-probabilities).

        Raises:
            ValueError: shapes that do not fit together, or (on a CPU) a target that is not an id from 0 to C - 1.
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
        """The sums behind `forward`, which has the same arguments; does not wait for the device."""
        masks = spec_masks if masks is None else masks
        return self._statistics(decoder_outputs[..., None], targets[..., None], masks, decoder_lengths)

    def locate(
        self, masks: Tensor, decoder_frames: int, decoder_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Where the targets of a batch are; waits for the device, to learn how many there are.

        Args:
            masks: `[B, D, T]` as for `target_mask`.
            decoder_frames: S.
            decoder_lengths: valid decoder frames `[B]`; None: all.

        Returns:
            Utterance and token of each target, int64 `[targets]` both. Its decoder frame is `target_shift` later.
        """
        counted = target_mask(masks, self.combine_time_steps, self.mask_threshold, decoder_lengths, self.target_shift)
        with_frame = counted[:, : max(0, decoder_frames - self.target_shift)]
        utterances, tokens = with_frame.nonzero(as_tuple=True)
        return utterances, tokens

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
        """What loss and statistics are made of, for log-probabilities `[B, S, C, Q]` and targets `[B, K, Q]`.

        Returns:
            Three tensors `[B, S, Q]` over decoder frames: the negative log-likelihood (0 where nothing counts), what
            counts, and the targets (0 where nothing counts).
        """
        _check_shapes(decoder_outputs, targets, masks, decoder_lengths)
        frames, classes = decoder_outputs.shape[1:3]
        if masks is None:
            counted = torch.ones(targets.shape[:2], dtype=torch.bool, device=targets.device)
            counted &= has_decoder_frame(counted, decoder_lengths, self.target_shift)
        else:
            counted = target_mask(
                masks, self.combine_time_steps, self.mask_threshold, decoder_lengths, self.target_shift
            )
        # The few ids are moved to the decoder's frames, rather than a slice of the many log-probabilities to tokens.
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
        num_decoders: Q; log-probabilities are `[B, S, C, Q]` and targets `[B, K, Q]`.
        squeeze_single: whether Q is left out where `num_decoders` is 1.

    Raises:
        ValueError, TypeError: as `MLMLoss`, or `num_decoders` is not a whole number >= 1.
    """

    def __init__(
        self,
        combine_time_steps: int = 1,
        mask_threshold: float = 0.8,
        num_decoders: int = 1,
        squeeze_single: bool = False,
        target_shift: int = 0,
    ):
        _check_whole_numbers(1, num_decoders=num_decoders)
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
        """The loss of one batch: arguments, result and errors as `MLMLoss.forward`, with Q last."""
        decoder_outputs, targets = self._with_codebooks(decoder_outputs, targets)
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
        """The sums behind `forward`, which has the same arguments; does not wait for the device."""
        decoder_outputs, targets = self._with_codebooks(decoder_outputs, targets)
        return self.mlm_loss._statistics(decoder_outputs, targets, masks, decoder_lengths)

    def _with_codebooks(self, decoder_outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[B, S, C, Q]` and targets `[B, K, Q]`."""
        if self.squeeze_single and self.num_decoders == 1:
            return decoder_outputs[..., None], targets[..., None]
        if decoder_outputs.shape[-1] != self.num_decoders:
            raise ValueError(
                f"decoder_outputs must be [B, S, C, Q] with Q = num_decoders = {self.num_decoders}; "
                f"got {list(decoder_outputs.shape)}"
            )
        return decoder_outputs, targets


def _check_whole_numbers(minimum: int, **values: int) -> None:
    # Not imported above: NeMo imports its losses first, and its `parts.utils` cannot be imported before its models.
    from nemo.collections.asr.parts.utils.checks import check_whole_number

    for name, value in values.items():
        check_whole_number(name, value, minimum)


def _check_shapes(
    decoder_outputs: Tensor, targets: Tensor, masks: Tensor | None, decoder_lengths: Tensor | None
) -> None:
    batch, books = decoder_outputs.shape[0], decoder_outputs.shape[3]
    if targets.shape[0] != batch or targets.shape[2] != books:
        raise ValueError(
            f"targets must be of B = {batch} utterances and Q = {books} codebooks, as decoder_outputs; "
            f"got B = {targets.shape[0]} and Q = {targets.shape[2]}"
        )
    if masks is not None and masks.shape[0] != batch:
        raise ValueError(f"masks must be [B, D, T] with B = {batch}, as decoder_outputs; got {list(masks.shape)}")
    if decoder_lengths is not None and decoder_lengths.shape != (batch,):
        raise ValueError(f"decoder_lengths must be [B] = [{batch}]; got {list(decoder_lengths.shape)}")


def _check_targets(targets: Tensor, classes: int) -> None:
    if targets.device.type != "cpu":
        return  # reading the values would wait for the device; there, gather itself asserts
    outside = (targets < 0) | (targets >= classes)
    if outside.any():
        raise ValueError(
            f"targets must be ids from 0 to C - 1 = {classes - 1} where tokens are masked; "
            f"got {targets[outside].unique().tolist()[:8]}. Use the same num_classes for quantizer and decoder"
        )
