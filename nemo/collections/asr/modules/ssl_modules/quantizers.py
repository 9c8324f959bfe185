"""Random-projection tokenizer: nearest code by dot product, features of any length, targets that do not collapse.

NeMo's class subtracts every code from every vector, `[B, T', code_dim, num_classes]` in float64. Both sides are unit
vectors, so the nearest code is the one with the largest dot product, and a matrix product finds it in `[rows,
num_classes]` at a time.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.block_masks import check_whole_number
from nemo.collections.asr.modules.ssl_modules.quantizers import (
    RandomProjectionVectorQuantizer as NemoRandomProjectionVectorQuantizer,
)
from nemo.core.classes import typecheck
from nemo.core.neural_types import LengthsType, NeuralType

# Bytes of one piece of work: on a CPU what its caches hold (features are passed over several times, scores twice),
# elsewhere enough to keep the device busy.
_FEATURE_BYTES = {"cpu": 2 << 20}
_SCORE_BYTES = {"cpu": 16 << 20}
_BYTES_ELSEWHERE = 32 << 20

# Added to a standard deviation, as NeMo's preprocessor adds it for `normalize: per_feature`.
_STD_FLOOR = 1e-5


class RandomProjectionVectorQuantizer(NemoRandomProjectionVectorQuantizer):
    """The tokenizer of BEST-RQ (Chiu et al., 2022, https://arxiv.org/abs/2202.01855), one id per group of frames.

    Each group of `combine_time_steps` frames is one stacked vector; a fixed random projection and a fixed random
    codebook give its id. The last group may be partial: it is padded with zeros, after normalisation.

    From the projection on, everything is computed in float64, the codebook's own type: nothing that lowers float32
    products (autocast, TF32, bfloat16 products on a CPU) reaches it, ids are the same on every device, and they equal
    those of NeMo's search; save for ties within 1e-6, since NeMo projects, and `per_feature` takes its statistics, in
    float32. The vectors are short (`code_dim`), so that float64 costs little. A vector of zeros is equally near to all
    codes and has id 0 (NeMo's search leaves it to rounding).

    Args:
        feat_in: channels of the features.
        code_dim: size of a projected vector and of a code.
        num_classes: codes in a codebook.
        num_books: codebooks, each with its own projection and its own id per group.
        dist_fn: `l2` or `cosine`; on unit vectors both name the same code.
        time_ahead: whether the input is `[B, T, D]`; otherwise it is `[B, D, T]`.
        freeze: whether projection and codebooks stay as drawn.
        squeeze_single: whether the dimension of the codebooks is dropped where there is one codebook.
        combine_time_steps: frames in a group; the subsampling factor of the encoder, or 1 for features taken after it.
        normalize: what is done to the features before the projection, for the tokens alone.
            `none`: nothing (NeMo's behaviour). Log-mel features that are not normalised have a large mean, which
            rules the projection, and nearly all groups get the same few tokens.
            `layer_norm`: LayerNorm, without weights, of each stacked vector.
            `per_feature`: mean and variance of each channel over the utterance's valid frames are removed, by the
            formula of NeMo's preprocessor (`normalize: per_feature`), so that tokens are those of NeMo's offline
            recipe while the encoder's own features stay streamable. Frames past the length become 0.

    Attributes:
        check_inputs: features of a CPU tensor are always checked for NaN; True checks them on other devices as well,
            which waits for the device at every call.

    Raises:
        ValueError: an unknown `normalize` or `dist_fn`, or a size below 1.
        TypeError: a size that is not a whole number.
    """

    NORMALIZE_LIST: ClassVar[list[str]] = ["none", "layer_norm", "per_feature"]

    check_inputs: bool = False

    def __init__(
        self,
        feat_in: int,
        code_dim: int,
        num_classes: int,
        num_books: int,
        dist_fn: str = "cosine",
        time_ahead: bool = False,
        freeze: bool = True,
        squeeze_single: bool = False,
        combine_time_steps: int = 1,
        normalize: str = "none",
    ):
        sizes = {
            "feat_in": feat_in,
            "code_dim": code_dim,
            "num_classes": num_classes,
            "num_books": num_books,
            "combine_time_steps": combine_time_steps,
        }
        for name, size in sizes.items():
            check_whole_number(name, size, 1, "a whole number >= 1")
        if normalize not in self.NORMALIZE_LIST:
            raise ValueError(f"Unknown normalize {normalize!r}, must be one of {self.NORMALIZE_LIST}")

        super().__init__(
            feat_in=feat_in,
            code_dim=code_dim,
            num_classes=num_classes,
            num_books=num_books,
            dist_fn=dist_fn,
            time_ahead=time_ahead,
            freeze=freeze,
            squeeze_single=squeeze_single,
            combine_time_steps=combine_time_steps,
        )
        self.normalize = normalize

    @property
    def input_types(self) -> dict[str, NeuralType]:
        """Returns definitions of module input ports."""
        return {**super().input_types, "input_lengths": NeuralType(tuple("B"), LengthsType(), optional=True)}

    @typecheck()
    def forward(self, input_signal: Tensor, input_lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokenize features; `T' = ceil(T / combine_time_steps)`.

        Args:
            input_signal: features `[B, D, T]`, or `[B, T, D]` with `time_ahead`.
            input_lengths: valid frames of `input_signal` per utterance, `[B]`; only `per_feature` needs it. None: all.

        Returns:
            xq: the codes, in the codebooks' type, `[B, code_dim, T', num_books]`, or `[B, T', code_dim, num_books]`
                with `time_ahead`.
            xid: their ids, int64, `[B, T', num_books]`. Both lose the last dimension with `squeeze_single` and one
                codebook. Neither has a gradient graph, unless the codebooks are trained (`xq` alone).

        Raises:
            ValueError: another number of channels than `feat_in`; lengths that are not `[B]` or (on a CPU) not in
                `0 .. T`; NaN or infinite features (on a CPU, and wherever `check_inputs` is True).
            TypeError: features that are not floating point.
        """
        frames = input_signal if self.time_ahead else input_signal.transpose(1, 2)
        self._check(frames, input_lengths)
        with torch.no_grad(), torch.autocast(frames.device.type, enabled=False):
            vectors = self._project(frames, input_lengths)
            if frames.device.type == "cpu" or self.check_inputs:
                _refuse_non_finite(vectors)
            xid = self._nearest(vectors.flatten(0, 1)).view(vectors.shape[:3])
        xq = self._codes(xid)

        if not self.time_ahead:
            xq = xq.transpose(1, 2)
        if self.num_books == 1 and self.squeeze_single:
            xq, xid = xq.squeeze(-1), xid.squeeze(-1)
        return xq, xid

    def _check(self, frames: Tensor, lengths: Tensor | None) -> None:
        batch, num_frames, channels = frames.shape
        if channels != self.feat_in:
            layout = "[B, T, D]" if self.time_ahead else "[B, D, T]"
            raise ValueError(
                f"input_signal has {channels} channels, but the quantizer was built with feat_in={self.feat_in}; "
                f"the layout expected is {layout} (time_ahead={self.time_ahead})"
            )
        if not frames.is_floating_point():
            raise TypeError(f"input_signal must be floating point, but is {frames.dtype}")
        if lengths is not None:
            if lengths.shape != (batch,):
                raise ValueError(f"input_lengths must have shape [{batch}], but has {list(lengths.shape)}")
            if lengths.device.type == "cpu" and ((lengths < 0) | (lengths > num_frames)).any():
                raise ValueError(
                    f"input_lengths must lie in 0 .. {num_frames}, the frames of input_signal, "
                    f"but are {lengths.tolist()}"
                )

    def _project(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        """`[B, T, D]` to projected vectors `[B, T', num_books, code_dim]`, float64, of any length."""
        batch, num_frames, channels = frames.shape
        group = self.combine_time_steps
        tokens = -(-num_frames // group)
        vectors = frames.new_empty(batch, tokens, self.proj.weight.shape[0], dtype=torch.float64)

        # A quarter is stacked at once, in float64; half is normalised at once, in float32, by whole utterances.
        budget = _FEATURE_BYTES.get(frames.device.type, _BYTES_ELSEWHERE)
        at_once = _piece(batch * tokens, group * channels * 8, budget)
        utterances = max(1, 2 * at_once // max(1, tokens))
        valid = _valid_frames(frames, lengths) if self.normalize == "per_feature" else ()
        for some in zip(*(x.split(utterances) for x in (vectors, frames, *valid)), strict=True):
            self._project_into(*some, step=max(1, at_once // utterances))
        return vectors.view(batch, tokens, self.num_books, self.code_dim)

    def _project_into(self, vectors: Tensor, frames: Tensor, *valid: Tensor, step: int) -> None:
        """Writes projections to `vectors` `[B, T', ...]`, `step` tokens at a time; `valid` as from `_valid_frames`."""
        group = self.combine_time_steps
        weight = self.proj.weight.double()
        if valid:
            frames, std = _centred(frames, *valid)
            # The weights are divided, each utterance's own, because there are fewer of them than features.
            weight = (weight.unflatten(1, (group, -1)) / (std + _STD_FLOOR).unsqueeze(1)).flatten(2)
        for start in range(0, vectors.shape[1], step):
            piece = frames[:, start * group : (start + step) * group]
            vectors[:, start : start + step] = torch.matmul(self._stack(piece), weight.mT)

    def _stack(self, frames: Tensor) -> Tensor:
        """`[B, T, D]` to stacked vectors `[B, T', combine_time_steps * D]`, float64."""
        batch, num_frames, channels = frames.shape
        tokens = -(-num_frames // self.combine_time_steps)
        padded = frames.new_empty(batch, tokens * self.combine_time_steps, channels, dtype=torch.float64)
        padded[:, :num_frames] = frames
        padded[:, num_frames:] = 0
        stacked = padded.view(batch, tokens, -1)
        if self.normalize == "layer_norm":
            # The search sees directions alone, so what LayerNorm divides by does not matter. In float64 the mean of
            # equal numbers is exact, and a constant vector (digital silence) becomes zero, not rounding noise.
            sizes = stacked.new_full((tokens, 1), stacked.shape[-1])
            sizes[-1:] -= (padded.shape[1] - num_frames) * channels
            stacked -= stacked.sum(dim=-1, keepdim=True) / sizes
            padded[:, num_frames:] = 0
        return stacked

    def _nearest(self, vectors: Tensor) -> Tensor:
        """Ids `[N, num_books]` of the codes nearest to `vectors` `[N, num_books, code_dim]`; of equals, the first."""
        # Codes are drawn as unit vectors, but a model cast to a shorter type rounds them.
        codes = F.normalize(self.codebooks.double(), dim=-1).transpose(1, 2)
        total = vectors.shape[0]
        ids = torch.empty(total, self.num_books, dtype=torch.long, device=vectors.device)
        budget = _SCORE_BYTES.get(vectors.device.type, _BYTES_ELSEWHERE)
        step = _piece(total, self.num_classes * 8, budget)
        buffer = vectors.new_empty(step, self.num_classes)
        for start in range(0, total, step):
            scores = buffer[: min(step, total - start)]
            for book in range(self.num_books):
                torch.mm(vectors[start : start + step, book], codes[book], out=scores)
                ids[start : start + step, book] = scores.max(dim=1).indices
        return ids

    def _codes(self, ids: Tensor) -> Tensor:
        """Ids `[B, T', num_books]` to their codes `[B, T', code_dim, num_books]`."""
        offsets = self.num_classes * torch.arange(self.num_books, device=ids.device)
        return F.embedding(ids + offsets, self.codebooks.view(-1, self.code_dim)).transpose(2, 3)


def _piece(total: int, bytes_each: int, budget: int) -> int:
    """Items to work on at once: within the budget, and at most a quarter, so that small batches stay lean."""
    return max(1, min(budget // bytes_each, -(-total // 4)))


def _valid_frames(frames: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """What statistics over the first `lengths` frames of `[B, T, D]` need, all float32.

    Returns:
        `[B, T, 1]`, 1 for a valid frame, else 0 (a CPU is slow with bools); `1 / n` for n valid frames, `[B, 1, 1]`;
        and `1 / sqrt(n - 1)`, likewise. Where these would be infinite, they are 1. The first is `[B, 0, 1]` where all
        frames are known to be valid.
    """
    batch, num_frames, _ = frames.shape
    if num_frames > 1 and (lengths is None or lengths.device.type == "cpu" and bool((lengths == num_frames).all())):
        count = frames.new_full((batch, 1, 1), num_frames, dtype=torch.float32)
        return count[:, :0], count.reciprocal(), (count - 1).rsqrt()
    if lengths is None:
        lengths = torch.full((batch,), num_frames, device=frames.device)
    valid = (torch.arange(num_frames, device=frames.device) < lengths.unsqueeze(1)).float().unsqueeze(-1)
    count = valid.sum(dim=1, keepdim=True)
    return valid, count.clamp(min=1).reciprocal(), (count - 1).clamp(min=1).rsqrt()


def _centred(frames: Tensor, valid: Tensor, per_frame: Tensor, per_degree: Tensor) -> tuple[Tensor, Tensor]:
    """`frames` `[B, T, D]` less their mean over valid frames, 0 elsewhere, and the standard deviation `[B, 1, D]`.

    The other arguments are what `_valid_frames` returns.
    """
    if valid.shape[1] == 0:
        out = frames.float()
        out = out - out.sum(dim=1, keepdim=True) * per_frame
    else:
        out = frames.float() * valid
        out.addcmul_(out.sum(dim=1, keepdim=True) * per_frame, valid, value=-1)
    return out, torch.linalg.vector_norm(out, dim=1, keepdim=True) * per_degree


def _refuse_non_finite(vectors: Tensor) -> None:
    """Looks for what NaN or infinite features leave in every vector `[B, ...]` that they are part of."""
    bad = (~vectors.sum(dim=(1, 2, 3)).isfinite()).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"input_signal has NaN or infinite features in utterance(s) {bad} of the batch (counted from 0); "
            "look for broken audio there, or for a logarithm of zero in the preprocessor"
        )
