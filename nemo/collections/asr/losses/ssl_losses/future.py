"""The loss of future-token prediction: every encoder frame predicts the tokens that come after what it has heard.

(NEST-RQ: Han et al., "NEST-RQ: Next Token Prediction for Speech Self-Supervised Pre-Training", 2024,
https://arxiv.org/abs/2409.08680.) With target shift `s`, encoder frame `k` has heard all of token `k - s`, and its
step `n` of N predicts token `k - s + n`. Shapes: F frames that predict, N steps, Q codebooks, C codes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nemo.collections.asr.parts.utils.checks import check_whole_number

__all__ = ["FutureSums", "FutureTargets", "FutureTokenLoss", "linear_cross_entropy"]

_SCORE_BYTES = {"cpu": 4 << 20}
_SCORE_BYTES_ELSEWHERE = 256 << 20
"""Bytes of scores that are computed at once."""


class FutureTargets(NamedTuple):
    """What the frames of a batch are asked for."""

    ids: Tensor
    """Tokens, int64; `[B, S, N, Q]`, or `[F, N, Q]` of chosen frames. 0 where nothing counts."""

    counted: Tensor
    """Which of them count, bool; `[B, S, N]`, or `[F, N]`. All codebooks of a step count alike."""


class FutureSums(NamedTuple):
    """Sums over the targets of a batch; they add up over batches and ranks. Each codebook's target counts once."""

    total: Tensor
    """Negative log-likelihood of all targets, in nats; float32, with a gradient graph."""

    by_step: Tensor
    """`[N, 3]`, float64: negative log-likelihood, correct predictions, targets."""

    @property
    def mean(self) -> Tensor:
        """The loss: the mean over frames, steps and codebooks; 0 where nothing counts."""
        return self.total / self.by_step[:, 2].sum().clamp(min=1).to(self.total.dtype)


class FutureTokenLoss:
    """Which tokens each frame is asked for, without one that it has heard.

    Args:
        steps: N, the tokens that a frame predicts.
        target_shift: `s`, in encoder frames: step `n` of frame `k` predicts token `k - s + n`.
        heard_shift: encoder frame `k + heard_shift` is the first that has heard the whole of token `k`, without any
            look-ahead; None for `target_shift`. Where the two differ, steps within what was heard do not count.

    Raises:
        ValueError, TypeError: `steps` is no whole number >= 1, or a shift none >= 0.
    """

    def __init__(self, steps: int, target_shift: int = 0, heard_shift: int | None = None):
        self.steps = check_whole_number("steps", steps, minimum=1)
        self.target_shift = check_whole_number("target_shift", target_shift, minimum=0)
        heard_shift = target_shift if heard_shift is None else heard_shift
        self.heard_shift = check_whole_number("heard_shift", heard_shift, minimum=0)

    def first_step(self, ahead: int) -> int:
        """The first step that a position with a look-ahead of `ahead` encoder frames has not heard; may exceed N."""
        return max(1, ahead + self.target_shift - self.heard_shift + 1)

    def leaves_something(self, ahead: Sequence[int] | None) -> bool:
        """Whether any position of a chunk has a step to predict; `ahead` as from `frames_ahead`."""
        return ahead is not None and self.first_step(min(ahead)) <= self.steps

    def targets(
        self,
        tokens: Tensor,
        token_lengths: Tensor,
        frames: int,
        frame_lengths: Tensor,
        ahead: Sequence[int] = (0,),
    ) -> FutureTargets:
        """The targets of a batch.

        Args:
            tokens: ids `[B, K, Q]`.
            token_lengths: tokens inside each utterance, `[B]`.
            frames: S, the encoder frames of the batch.
            frame_lengths: encoder frames inside each utterance, `[B]`.
            ahead: encoder frames heard after each position of a chunk, as `frames_ahead` returns them.

        Raises:
            ValueError: tokens that are not `[B, K, Q]`, or lengths that are not `[B]`.
        """
        if tokens.dim() != 3:
            raise ValueError(f"tokens must be [B, K, Q]; got the shape {list(tokens.shape)}")
        for name, lengths in (("token_lengths", token_lengths), ("frame_lengths", frame_lengths)):
            if lengths.shape != tokens.shape[:1]:
                raise ValueError(f"{name} must be [B] = [{len(tokens)}]; got the shape {list(lengths.shape)}")
        device = tokens.device
        place = torch.arange(frames, device=device)
        steps = torch.arange(1, self.steps + 1, device=device)
        wanted = place.unsqueeze(1) - self.target_shift + steps  # [S, N]
        first = torch.tensor([self.first_step(count) for count in ahead]).to(device, non_blocking=True)
        unheard = steps >= first[place % len(ahead)].unsqueeze(1)
        inside = place < frame_lengths.to(device).unsqueeze(1)
        exists = (wanted >= 0) & (wanted < token_lengths.to(device).clamp(max=tokens.shape[1])[:, None, None])
        counted = inside.unsqueeze(2) & exists & unheard
        if tokens.shape[1] == 0:
            return FutureTargets(tokens.new_zeros(*counted.shape, tokens.shape[2]).long(), counted)
        ids = tokens[:, wanted.clamp(0, tokens.shape[1] - 1)]
        return FutureTargets(torch.where(counted.unsqueeze(3), ids, 0).long(), counted)


def linear_cross_entropy(
    frames: Tensor, weight: Tensor, bias: Tensor, targets: FutureTargets
) -> tuple[FutureSums, Tensor]:
    """Cross-entropy of one linear head for each step and codebook, without keeping the scores `[F, N, Q, C]`.

    The gradients are computed in the forward pass, a piece of the scores at a time, so that memory depends on the
    piece alone. (Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", 2024,
    https://arxiv.org/abs/2411.09009.) Sums are taken in float32 whatever autocast makes of the products.

    Args:
        frames: `[F, D]`.
        weight: `[N, Q, C, D]`.
        bias: `[N, Q, C]`.
        targets: of the F frames.

    Returns:
        The sums, and the ids with the highest scores, `[F, N, Q]`.
    """
    total, by_step, predictions = _LinearCrossEntropy.apply(frames, weight, bias, targets.ids, targets.counted)
    return FutureSums(total, by_step), predictions


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, frames: Tensor, weight: Tensor, bias: Tensor, ids: Tensor, counted: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, books, classes = bias.shape
        predictions = torch.empty_like(ids)
        wide = torch.promote_types(frames.dtype, torch.float32)
        nll = frames.new_zeros(*ids.shape, dtype=wide)
        learns = any(ctx.needs_input_grad[:3])
        gradients = [torch.zeros_like(tensor, dtype=wide) for tensor in (frames, weight, bias)] * learns
        budget = _SCORE_BYTES.get(frames.device.type, _SCORE_BYTES_ELSEWHERE)
        rows = max(1, budget // (4 * classes))
        for start in range(0, len(frames), rows):
            piece = slice(start, start + rows)
            for step in range(steps):
                for book in range(books):
                    _one_head(piece, step, book, frames, weight, bias, ids, counted, nll, predictions, gradients)
        correct = (predictions == ids).sum(2, dtype=torch.float64) * counted
        sums = (nll.sum((0, 2), dtype=torch.float64), correct.sum(0), books * counted.sum(0, dtype=torch.float64))
        by_step = torch.stack(sums, dim=1)
        ctx.dtypes = [tensor.dtype for tensor in (frames, weight, bias)]
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(by_step, predictions)
        return nll.sum(), by_step, predictions

    @staticmethod
    def backward(ctx: Any, total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        gradients = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *((gradient * total).to(dtype) for gradient, dtype in gradients), None, None


def _one_head(
    piece: slice,
    step: int,
    book: int,
    frames: Tensor,
    weight: Tensor,
    bias: Tensor,
    ids: Tensor,
    counted: Tensor,
    nll: Tensor,
    predictions: Tensor,
    gradients: list[Tensor],
) -> None:
    """Writes a piece of `nll` and `predictions` of one head, and adds to the gradients, if there are any."""
    target, counts = ids[piece, step, book].unsqueeze(1), counted[piece, step].unsqueeze(1)
    scores = torch.nn.functional.linear(frames[piece], weight[step, book], bias[step, book]).to(nll.dtype)
    highest, best = scores.max(dim=1, keepdim=True)
    predictions[piece, step, book] = best.squeeze(1)
    chosen = scores.gather(1, target)
    scores = scores.sub_(highest).exp_()
    total = scores.sum(dim=1, keepdim=True)
    nll[piece, step, book] = torch.where(counts, highest + total.log() - chosen, 0).squeeze(1)
    if not gradients:
        return
    of_frames, of_weight, of_bias = gradients
    scores.mul_(counts / total).scatter_add_(1, target, -counts.to(scores.dtype))
    scores = scores.to(weight.dtype)
    of_frames[piece] += torch.mm(scores, weight[step, book])
    of_weight[step, book] += torch.mm(scores.T, frames[piece])
    of_bias[step, book] += scores.sum(dim=0)
