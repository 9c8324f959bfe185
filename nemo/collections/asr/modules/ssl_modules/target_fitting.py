"""Fits a tokenizer to a corpus: principal components for its projection, k-means for its codebooks.

A random projection spends most of its few dimensions on what hardly varies. (Fitted tokenizers of masked prediction:
HuBERT, Hsu et al., 2021, https://arxiv.org/abs/2106.07447.) Needs scikit-learn.
Shapes: `M` vectors, each of the stacked frames of a token; `D` channels, `C` codes in a codebook, `Q` codebooks.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.fitted_targets import FittedTargets
from nemo.collections.asr.modules.ssl_modules.quantizers import RandomProjectionVectorQuantizer
from nemo.collections.asr.parts.preprocessing.fixed_statistics import normalize_by

__all__ = ["ChannelStatistics", "fit_codebooks", "fit_targets", "fit_to_corpus", "sampled_vectors"]

_EXACT = 3e8
"""Up to so many distances in a pass k-means takes all vectors, above it small batches of them."""


class ChannelStatistics:
    """Mean and standard deviation of each channel over all valid frames of a corpus, added up in float64."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._squares = torch.zeros(())

    def add(self, features: Tensor, lengths: Tensor) -> None:
        """Adds features `[B, D, T]` with lengths `[B]`, in frames."""
        inside = torch.arange(features.shape[2], device=features.device) < lengths.to(features.device).unsqueeze(1)
        frames = features.transpose(1, 2)[inside].double().cpu()
        if len(frames) == 0:
            return
        mean = frames.mean(0)
        apart = mean - self._mean
        total = self._count + len(frames)
        # Chan et al., "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
        self._squares = self._squares + (frames - mean).square().sum(0) + apart**2 * self._count * len(frames) / total
        self._mean = self._mean + apart * len(frames) / total
        self._count = total

    def result(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel.

        Raises:
            ValueError: fewer than two frames, or a channel that never changes.
        """
        if self._count < 2:
            raise ValueError(f"the corpus must have at least 2 feature frames; got {self._count}")
        std = (self._squares / (self._count - 1)).sqrt()
        if not bool((std > 0).all()):
            raise ValueError(
                f"the features must vary in every channel; got channel {int(std.argmin())}, which is the same in all "
                f"{self._count} frames"
            )
        return tuple(self._mean.tolist()), tuple(std.tolist())


def sampled_vectors(
    quantizer: RandomProjectionVectorQuantizer, batches: Iterable[tuple[Tensor, Tensor]], most: int, seed: int = 0
) -> np.ndarray:
    """A random sample of the vectors that a tokenizer would project.

    Args:
        quantizer: says how frames are normalised and stacked.
        batches: features `[B, D, T]` and lengths `[B]`, in frames.
        most: the largest M; all vectors are equally likely to be among them.
        seed: of the choice.

    Returns:
        float32 `[M, combine_time_steps * D]`.
    """
    generator = np.random.default_rng(seed)
    kept, keys = [], []
    total = 0
    for features, lengths in batches:
        vectors = quantizer.stacked(features, lengths)
        inside = torch.arange(vectors.shape[1]) < (lengths.cpu() // quantizer.combine_time_steps).unsqueeze(1)
        kept.append(vectors[inside.to(vectors.device)].float().cpu().numpy())
        keys.append(generator.random(len(kept[-1])))
        total += len(kept[-1])
        if total > 2 * most:
            kept, keys = _smallest(kept, keys, most)
            total = most
    kept, keys = _smallest(kept, keys, most)
    return kept[0]


def _smallest(kept: list[np.ndarray], keys: list[np.ndarray], most: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The vectors with the `most` smallest keys: a uniform sample of all that were ever added."""
    if not kept:
        return [np.zeros((0, 0), dtype=np.float32)], [np.zeros(0)]
    vectors, key = np.concatenate(kept), np.concatenate(keys)
    chosen = np.argsort(key, kind="stable")[:most]
    return [vectors[chosen]], [key[chosen]]


def fit_codebooks(
    vectors: np.ndarray, num_books: int, num_classes: int, code_dim: int, whiten: bool = False, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Projection and codebooks for vectors `[M, features]`.

    The principal components go to the books in turn, so that each has its share of the variance and no two say the
    same. In each book the projected vectors are put on the unit sphere, where the tokenizer searches, and k-means
    finds the codes.

    Args:
        vectors: M of them, at least one for each code.
        num_books: Q.
        num_classes: C.
        code_dim: components of a book.
        whiten: whether all components get the same variance.
        seed: of k-means.

    Returns:
        The projection, float32 `[Q * code_dim, features]`, and the codebooks, float64 `[Q, C, code_dim]`.

    Raises:
        ValueError: fewer vectors than codes, more components than features, or vectors whose mean is larger than
            their deviation from it: the tokenizer subtracts no mean after the projection.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.decomposition import PCA

    components = num_books * code_dim
    if len(vectors) < max(num_classes, components):
        raise ValueError(
            f"the corpus must have at least {max(num_classes, components)} tokens, as many as codes (num_classes) and "
            f"components (num_books * code_dim); got {len(vectors)}"
        )
    if components > vectors.shape[1]:
        raise ValueError(
            f"num_books * code_dim must be at most {vectors.shape[1]}, the features in a token; got {components}"
        )
    mean = vectors.mean(0, dtype=np.float64)
    if np.square(mean).sum() > vectors.var(0, dtype=np.float64).sum():
        raise ValueError(
            "quantizer.normalize must be 'per_feature' or 'layer_norm', or preprocessor.normalize fixed statistics, "
            "to fit a tokenizer; got features whose mean is larger than their deviation, which would hide them"
        )
    pca = PCA(n_components=components, random_state=seed).fit(vectors)
    rows = pca.components_.astype(np.float64)
    if whiten:
        rows /= np.sqrt(pca.explained_variance_)[:, None]
    rows /= np.abs(rows).max()  # the search depends on directions alone
    books = np.stack([rows[book::num_books] for book in range(num_books)])
    codebooks = []
    kind = KMeans if len(vectors) * num_classes <= _EXACT else MiniBatchKMeans
    options = {} if kind is KMeans else {"batch_size": max(4096, 2 * num_classes)}
    for book, projection in enumerate(books):
        projected = vectors @ projection.T
        projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
        means = kind(num_classes, n_init=1, random_state=seed + book, **options).fit(projected)
        codebooks.append(torch.from_numpy(means.cluster_centers_.astype(np.float64)))
    codes = torch.nn.functional.normalize(torch.stack(codebooks), dim=-1)
    return torch.from_numpy(books.reshape(components, -1)).float(), codes


def fit_targets(
    quantizer: RandomProjectionVectorQuantizer,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    vectors: np.ndarray | None,
    fixed_features: bool = False,
    whiten: bool = False,
    seed: int = 0,
) -> FittedTargets:
    """All that is fitted to a corpus.

    Args:
        quantizer: the tokenizer for which it is; it stays as it is.
        statistics: mean and deviation of each channel, of features that are not normalised.
        vectors: as from `sampled_vectors`; None to fit the statistics alone.
        fixed_features: whether the vectors are of features normalised by the statistics.
        whiten: as in `fit_codebooks`.
        seed: of k-means.

    Raises:
        ValueError: as `fit_codebooks`.
    """
    projection = codebooks = None
    if vectors is not None:
        sizes = quantizer.num_books, quantizer.num_classes, quantizer.code_dim
        projection, codebooks = fit_codebooks(vectors, *sizes, whiten=whiten, seed=seed)
    mean, std = statistics
    return FittedTargets(
        mean=mean,
        std=std,
        projection=projection,
        codebooks=codebooks,
        normalize=quantizer.normalize,
        fixed_features=fixed_features,
        combine_time_steps=quantizer.combine_time_steps,
    )


def fit_to_corpus(
    quantizer: RandomProjectionVectorQuantizer,
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    tokens: int | None,
    fixed_features: bool = False,
    whiten: bool = False,
    seed: int = 0,
) -> FittedTargets:
    """All that is fitted to a corpus, from its features.

    Args:
        quantizer: the tokenizer for which it is; it stays as it is.
        batches: gives the corpus from its beginning: features `[B, D, T]` that are not normalised, and lengths `[B]`.
        tokens: at most so many go into PCA and k-means; None to fit the statistics alone.
        fixed_features: whether the tokenizer is to see features that are normalised by the statistics.
        whiten: as in `fit_codebooks`.
        seed: of the choice of tokens and of k-means.

    Raises:
        ValueError: as `ChannelStatistics.result` and `fit_codebooks`.
    """
    statistics = ChannelStatistics()
    for features, lengths in batches():
        statistics.add(features, lengths)
    mean_and_std = statistics.result()
    vectors = None
    if tokens is not None:
        seen = ((normalize_by(mean_and_std, frames) if fixed_features else frames, n) for frames, n in batches())
        vectors = sampled_vectors(quantizer, seen, tokens, seed)
    return fit_targets(quantizer, mean_and_std, vectors, fixed_features=fixed_features, whiten=whiten, seed=seed)
