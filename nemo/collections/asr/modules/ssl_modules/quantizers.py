"""Random-projection tokenizer: nearest code by dot product, features of any length, targets that do not collapse.

NeMo's class subtracts every code from every vector, `[B, K, code_dim, C]` in float64. Both sides are unit vectors, so
the nearest code is the one with the largest dot product, and a matrix product finds it with `[rows, C]` at a time.
Shapes: `T` frames, `D` channels, `K` tokens, `C` codes in a codebook, `Q` codebooks.
"""

from collections.abc import Iterable
from itertools import repeat
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.frame_statistics import ValidFrames, centre
from nemo.collections.asr.modules.ssl_modules.quantizers import (
    RandomProjectionVectorQuantizer as NemoRandomProjectionVectorQuantizer,
)
from nemo.collections.asr.parts.utils.checks import check_choice, check_whole_number
from nemo.core.classes import typecheck
from nemo.core.neural_types import LengthsType, NeuralType

# Bytes of one piece of work: on a CPU what its caches hold (features are read several times, scores twice), elsewhere
# enough to keep the device busy.
_FEATURE_BYTES = {"cpu": 2 << 20}
_SCORE_BYTES = {"cpu": 16 << 20}
_BYTES_ELSEWHERE = 32 << 20


class RandomProjectionVectorQuantizer(NemoRandomProjectionVectorQuantizer):
    """The tokenizer of BEST-RQ (Chiu et al., 2022, https://arxiv.org/abs/2202.01855), one id per group of frames.

    Each group of `combine_time_steps` frames is stacked to one vector. A fixed random projection and a fixed random
    codebook give its id. The last group may be partial: it is padded with zeros, after normalisation.

    Projection and search are computed in float64, the type of the codebook. Settings that lower the precision of
    float32 products (autocast, TF32, bfloat16 products on a CPU) do not change them, and ids are the same on every
    device. They equal those of NeMo's search, except for ties within 1e-6, since NeMo's projection and the statistics
    of `per_feature` are float32. Vectors are short (`code_dim`), so float64 costs little. A vector of zeros is equally
    near to all codes and has id 0 (NeMo's search leaves it to rounding).

    Args:
        feat_in: `D`, channels of the features.
        code_dim: size of a projected vector and of a code.
        num_classes: `C`, codes in a codebook.
        num_books: `Q`, codebooks, each with its own projection and its own id per group.
        dist_fn: `l2` or `cosine`; on unit vectors both name the same code.
        time_ahead: whether the input is `[B, T, D]`; otherwise it is `[B, D, T]`.
        freeze: whether projection and codebooks keep their initial random values.
        squeeze_single: whether the dimension of the codebooks is dropped where there is one codebook.
        combine_time_steps: frames in a group; the encoder's subsampling factor, or 1 for features taken after it.
        normalize: how features are normalised for the tokens; the encoder's features stay as they are.
            `none`: not at all, as in NeMo. The mean of log-mel features is large and dominates the projection, so
            nearly all groups get the same few tokens.
            `layer_norm`: LayerNorm, without weights, of each stacked vector.
            `per_feature`: mean and variance of each channel over the utterance's valid frames are removed, by the
            formula of NeMo's preprocessor (`normalize: per_feature`). Tokens are then those of NeMo's offline recipe.
            Frames past the length become 0.

    Attributes:
        check_inputs: whether features that are not on a CPU are checked for NaN, which waits for the device at every
            call. Features on a CPU are always checked.

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
            check_whole_number(name, size, 1)
        check_choice("normalize", normalize, self.NORMALIZE_LIST)

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
        """Types of the arguments of `forward`."""
        return {**super().input_types, "input_lengths": NeuralType(tuple("B"), LengthsType(), optional=True)}

    @typecheck()
    def forward(self, input_signal: Tensor, input_lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Turns features into tokens, `K = ceil(T / combine_time_steps)` for each utterance.

        Args:
            input_signal: features `[B, D, T]`, or `[B, T, D]` with `time_ahead`.
            input_lengths: `[B]`, the valid frames of `input_signal`; only `per_feature` needs them. None: all.

        Returns:
            xq: the codes, in the codebooks' type, `[B, code_dim, K, Q]`, or `[B, K, code_dim, Q]` with `time_ahead`.
            xid: their ids, int64, `[B, K, Q]`.
                With `squeeze_single` and one codebook, both lose the last dimension. Only `xq` can have a gradient
                graph, and only where the codebooks are trained.

        Raises:
            ValueError: another number of channels than `feat_in`; lengths that are not `[B]` or (on a CPU) not from 0
                to `T`; NaN or infinite features (on a CPU, and wherever `check_inputs` is True).
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

    @torch.no_grad()
    def stacked(self, input_signal: Tensor, input_lengths: Tensor | None = None) -> Tensor:
        """The vectors that are projected: normalised frames, stacked. Arguments and errors as for `forward`.

        Returns:
            float64 `[B, K, combine_time_steps * D]`. With `layer_norm`, which leaves out its division here, they are
            unit vectors.
        """
        frames = input_signal if self.time_ahead else input_signal.transpose(1, 2)
        self._check(frames, input_lengths)
        if self.normalize == "per_feature":
            frames, scale = centre(frames, ValidFrames.of(frames, input_lengths))
            frames = frames / scale
        vectors = self._stack(frames)
        return F.normalize(vectors, dim=-1) if self.normalize == "layer_norm" else vectors

    def _check(self, frames: Tensor, lengths: Tensor | None) -> None:
        batch, num_frames, channels = frames.shape
        if channels != self.feat_in:
            layout = "[B, T, D]" if self.time_ahead else "[B, D, T]"
            raise ValueError(
                f"input_signal must be {layout} with D = feat_in = {self.feat_in} (time_ahead={self.time_ahead}); "
                f"got D = {channels}"
            )
        if not frames.is_floating_point():
            raise TypeError(f"input_signal must be floating point; got {frames.dtype}")
        if lengths is None:
            return
        if lengths.shape != (batch,):
            raise ValueError(f"input_lengths must be [B] = [{batch}]; got {list(lengths.shape)}")
        if lengths.device.type == "cpu" and ((lengths < 0) | (lengths > num_frames)).any():
            raise ValueError(f"input_lengths must be from 0 to T = {num_frames} frames; got {lengths.tolist()}")

    def _project(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        """Frames `[B, T, D]` to projected vectors `[B, K, Q, code_dim]`, float64, of any length."""
        batch, num_frames, channels = frames.shape
        group = self.combine_time_steps
        tokens = -(-num_frames // group)
        vectors = frames.new_empty(batch, tokens, self.proj.weight.shape[0], dtype=torch.float64)

        # In float64, at most a quarter is stacked at a time. In float32, at most half is normalised at a time, by
        # whole utterances.
        budget = _FEATURE_BYTES.get(frames.device.type, _BYTES_ELSEWHERE)
        at_once = _piece(batch * tokens, group * channels * 8, budget)
        utterances = max(1, 2 * at_once // max(1, tokens))
        valid: Iterable[ValidFrames | None] = repeat(None)
        if self.normalize == "per_feature":
            valid = ValidFrames.of(frames, lengths).split(utterances)
        parts = zip(vectors.split(utterances), frames.split(utterances), valid, strict=False)
        for vectors_part, frames_part, valid_part in parts:
            self._project_into(vectors_part, frames_part, valid_part, step=max(1, at_once // utterances))
        return vectors.view(batch, tokens, self.num_books, self.code_dim)

    def _project_into(self, vectors: Tensor, frames: Tensor, valid: ValidFrames | None, step: int) -> None:
        """Writes projections to `vectors` `[B, K, Q * code_dim]`, `step` tokens at a time; `valid` to normalise."""
        group = self.combine_time_steps
        weight = self.proj.weight.double()
        if valid is not None:
            frames, scale = centre(frames, valid)
            # Each utterance's own weights are divided, because there are fewer of them than features.
            weight = (weight.unflatten(1, (group, -1)) / scale.unsqueeze(1)).flatten(2)
        for start in range(0, vectors.shape[1], step):
            piece = frames[:, start * group : (start + step) * group]
            vectors[:, start : start + step] = torch.matmul(self._stack(piece), weight.mT)

    def _stack(self, frames: Tensor) -> Tensor:
        """Frames `[B, T, D]` to stacked vectors `[B, K, combine_time_steps * D]`, float64."""
        batch, num_frames, channels = frames.shape
        tokens = -(-num_frames // self.combine_time_steps)
        padded = frames.new_empty(batch, tokens * self.combine_time_steps, channels, dtype=torch.float64)
        padded[:, :num_frames] = frames
        padded[:, num_frames:] = 0
        stacked = padded.view(batch, tokens, -1)
        if self.normalize == "layer_norm":
            # The search depends on directions alone, so LayerNorm's division can be left out. In float64 the mean of
            # equal numbers is exact: a constant vector (digital silence) becomes zero, not rounding noise.
            sizes = stacked.new_full((tokens, 1), stacked.shape[-1])
            sizes[-1:] -= (padded.shape[1] - num_frames) * channels
            stacked -= stacked.sum(dim=-1, keepdim=True) / sizes
            padded[:, num_frames:] = 0
        return stacked

    def _nearest(self, vectors: Tensor) -> Tensor:
        """Ids `[rows, Q]` of the codes nearest to `vectors` `[rows, Q, code_dim]`; the first of several equal ones."""
        # Codes are made as unit vectors, but a model cast to a shorter type rounds them.
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
        """Ids `[B, K, Q]` to their codes `[B, K, code_dim, Q]`."""
        offsets = self.num_classes * torch.arange(self.num_books, device=ids.device)
        return F.embedding(ids + offsets, self.codebooks.view(-1, self.code_dim)).transpose(2, 3)


def _piece(total: int, bytes_each: int, budget: int) -> int:
    """Items to work on at a time: within the budget, and at most a quarter, to save memory for small batches too."""
    return max(1, min(budget // bytes_each, -(-total // 4)))


def _refuse_non_finite(vectors: Tensor) -> None:
    """Refuses projected vectors `[B, K, Q, code_dim]` of NaN or infinite features, which are not finite either."""
    bad = (~vectors.sum(dim=(1, 2, 3)).isfinite()).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"input_signal must be finite; got NaN or infinite features in utterance(s) {bad} of the batch "
            "(counted from 0); look for broken audio there, or for a logarithm of zero in the preprocessor"
        )
