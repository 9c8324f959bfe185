"""Statistics, components and codes that are fitted to features, against scikit-learn and plain sums."""

import numpy as np
import pytest
import torch

from nemo.collections.asr.modules.ssl_modules.quantizers import RandomProjectionVectorQuantizer
from nemo.collections.asr.modules.ssl_modules.target_fitting import (
    ChannelStatistics,
    fit_codebooks,
    fit_targets,
    fit_to_corpus,
    sampled_vectors,
)


def quantizer(**changes) -> RandomProjectionVectorQuantizer:
    sizes = dict(feat_in=4, code_dim=3, num_classes=8, num_books=2, combine_time_steps=2, normalize="per_feature")
    return RandomProjectionVectorQuantizer(**{**sizes, **changes})


def corpus(seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([1.0, 2.0, 0.5, 3.0]).view(1, 4, 1)
    batches = []
    for frames in (31, 8, 120):
        lengths = torch.tensor([frames, frames // 2])
        batches.append((torch.randn(2, 4, frames, generator=generator) * scale - 10, lengths))
    return batches


def test_statistics_are_those_of_all_valid_frames_at_once():
    statistics = ChannelStatistics()
    for batch in corpus():
        statistics.add(*batch)
    statistics.add(torch.zeros(1, 4, 5), torch.tensor([0]))
    rows = [(features[row], lengths[row]) for features, lengths in corpus() for row in range(2)]
    frames = torch.cat([row[:, :count].T for row, count in rows])
    mean, std = statistics.result()
    assert mean == pytest.approx(frames.double().mean(0).tolist())
    assert std == pytest.approx(frames.double().std(0).tolist())


def test_statistics_of_nothing_or_of_a_constant_are_refused():
    statistics = ChannelStatistics()
    with pytest.raises(ValueError, match="at least 2 feature frames; got 0"):
        statistics.result()
    features = torch.randn(1, 4, 9)
    features[:, 2] = 1.0
    statistics.add(features, torch.tensor([9]))
    with pytest.raises(ValueError, match="channel 2, which is the same in all 9 frames"):
        statistics.result()


@pytest.mark.parametrize("normalize", ["none", "layer_norm", "per_feature"])
def test_the_vectors_are_those_that_the_tokenizer_projects(normalize):
    tokenizer = quantizer(normalize=normalize)
    for features, lengths in corpus():
        vectors = tokenizer.stacked(features, lengths)
        expected = tokenizer._project(features.transpose(1, 2), lengths)
        projected = (vectors @ tokenizer.proj.weight.double().T).unflatten(2, (2, 3))
        ids = tokenizer._nearest(projected.flatten(0, 1))
        assert torch.equal(ids, tokenizer._nearest(expected.flatten(0, 1)))
        if normalize != "layer_norm":
            torch.testing.assert_close(projected, expected, rtol=1e-4, atol=1e-4)


def test_a_sample_is_of_whole_tokens_and_uniform():
    tokenizer = quantizer()
    every = sampled_vectors(tokenizer, corpus(), most=10**6)
    inside = [
        tokenizer.stacked(features, lengths)[row, : lengths[row] // 2]
        for features, lengths in corpus()
        for row in range(2)
    ]
    everything = torch.cat(inside).float().numpy()
    assert every.shape == everything.shape == (sum(map(len, inside)), 8)
    assert sorted(map(tuple, every.tolist())) == sorted(map(tuple, everything.tolist()))
    some = sampled_vectors(tokenizer, corpus(), most=20, seed=1)
    assert len(some) == 20 and {tuple(row) for row in some.tolist()} < {tuple(row) for row in everything.tolist()}
    assert not np.array_equal(some, sampled_vectors(tokenizer, corpus(), most=20, seed=2))
    np.testing.assert_array_equal(some, sampled_vectors(tokenizer, corpus(), most=20, seed=1))
    assert sampled_vectors(tokenizer, [], most=20).shape[0] == 0


def clustered(clusters: int = 8, each: int = 40, features: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around some directions, and which of them each is around."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(clusters, features))
    centres -= centres.mean(0)
    labels = np.repeat(np.arange(clusters), each)
    return centres[labels] + 0.05 * generator.normal(size=(len(labels), features)), labels


@pytest.mark.parametrize("whiten", [False, True])
def test_codes_find_the_clusters_that_are_there(whiten):
    vectors, labels = clustered()
    projection, codebooks = fit_codebooks(vectors, num_books=1, num_classes=8, code_dim=7, whiten=whiten)
    assert projection.shape == (7, 24) and codebooks.shape == (1, 8, 7)
    torch.testing.assert_close(codebooks.norm(dim=-1), torch.ones(1, 8, dtype=torch.float64))
    ids = (torch.from_numpy(vectors) @ projection.double().T @ codebooks[0].T).argmax(1).numpy()
    found = {label: set(ids[labels == label].tolist()) for label in range(8)}
    assert all(len(codes) == 1 for codes in found.values())
    assert len(set.union(*found.values())) == 8


def test_books_share_the_components_in_turn():
    from sklearn.decomposition import PCA

    vectors, _ = clustered()
    projection, _ = fit_codebooks(vectors, num_books=2, num_classes=4, code_dim=3)
    components = PCA(6).fit(vectors).components_
    for row, component in zip(projection.numpy(), components[[0, 2, 4, 1, 3, 5]], strict=True):
        assert abs(row @ component) / np.linalg.norm(row) == pytest.approx(1, abs=1e-4)


def test_large_corpora_are_fitted_in_small_batches(monkeypatch):
    monkeypatch.setattr("nemo.collections.asr.modules.ssl_modules.target_fitting._EXACT", 10)
    vectors, labels = clustered()
    projection, codebooks = fit_codebooks(vectors, num_books=1, num_classes=8, code_dim=7)
    ids = (torch.from_numpy(vectors) @ projection.double().T @ codebooks[0].T).argmax(1).numpy()
    assert len(set(ids.tolist())) > 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1000}, "at least 1000 tokens, .*got 320"),
        ({"code_dim": 13, "num_books": 2}, "num_books . code_dim must be at most 24, .*got 26"),
        ({"shift": 10.0}, "quantizer.normalize must be 'per_feature' or 'layer_norm'"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(arguments, message):
    vectors, _ = clustered()
    sizes = {"num_books": 1, "num_classes": 8, "code_dim": 7, **arguments}
    with pytest.raises(ValueError, match=message):
        fit_codebooks(vectors + sizes.pop("shift", 0.0), **sizes)


def test_fitted_targets_use_more_of_the_codebook_than_random_ones():
    tokenizer = quantizer(num_classes=32, num_books=1)
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.avg_pool1d(torch.randn(8, 4, 800, generator=generator), 9, 1, 4)
    batches = [(smooth, torch.full((8,), 800))]

    def perplexity() -> float:
        _, ids = tokenizer(input_signal=smooth, input_lengths=batches[0][1])
        shares = ids.flatten().bincount(minlength=32).double()
        return float(torch.special.entr(shares / shares.sum()).sum().exp())

    random = perplexity()
    statistics = ChannelStatistics()
    statistics.add(*batches[0])
    vectors = sampled_vectors(tokenizer, batches, most=10**5)
    fit_targets(tokenizer, statistics.result(), vectors).write_into(tokenizer, fixed_features=False)
    assert perplexity() > random


@pytest.mark.parametrize("fixed", [False, True])
def test_a_corpus_is_read_twice_and_fitted_as_its_parts_are(fixed):
    statistics = ChannelStatistics()
    for batch in corpus():
        statistics.add(*batch)
    mean, std = statistics.result()
    normalised = [
        ((features - torch.tensor(mean)[:, None]) / torch.tensor(std)[:, None] if fixed else features, lengths)
        for features, lengths in corpus()
    ]
    expected = fit_targets(
        quantizer(), (mean, std), sampled_vectors(quantizer(), normalised, 60, seed=3), fixed_features=fixed, seed=3
    )
    fitted = fit_to_corpus(quantizer(), corpus, 60, fixed_features=fixed, seed=3)
    assert (fitted.mean, fitted.std, fitted.fixed_features) == (mean, std, fixed)
    torch.testing.assert_close(fitted.projection, expected.projection, atol=1e-4, rtol=1e-4)
    assert fitted.codebooks.shape == expected.codebooks.shape


def test_statistics_are_fitted_without_a_tokenizer():
    fitted = fit_to_corpus(quantizer(), corpus, None)
    assert fitted.codebooks is None and fitted.projection is None and len(fitted.mean) == 4
