"""A head for each step and codebook, none of which knows of the others."""

import pytest
import torch

from nemo.collections.asr.losses.ssl_losses.future import FutureTargets
from nemo.collections.asr.models.masked_token_pred.future_heads import FutureHeads


def test_each_step_and_codebook_has_a_head_of_its_own():
    heads = FutureHeads(feat_in=5, num_classes=7, num_books=2, steps=3)
    assert {name: tuple(value.shape) for name, value in heads.state_dict().items()} == {
        "weight": (3, 2, 7, 5),
        "bias": (3, 2, 7),
    }
    ids, counted = torch.zeros(4, 3, 2, dtype=torch.long), torch.zeros(4, 3, dtype=torch.bool)
    counted[:, 1] = True
    sums, predictions = heads(torch.randn(4, 5), FutureTargets(ids, counted))
    sums.mean.backward()
    assert heads.weight.grad[1].abs().sum() > 0
    assert heads.weight.grad[0].abs().sum() == heads.weight.grad[2].abs().sum() == 0
    assert predictions.shape == (4, 3, 2)


def test_the_loss_is_that_of_the_scores():
    torch.manual_seed(0)
    heads = FutureHeads(feat_in=5, num_classes=7, num_books=2, steps=3)
    frames = torch.randn(4, 5)
    ids, counted = torch.randint(7, (4, 3, 2)), torch.ones(4, 3, dtype=torch.bool)
    sums, predictions = heads(frames, FutureTargets(ids, counted))
    scores = heads.scores(frames)
    expected = torch.nn.functional.cross_entropy(scores.flatten(0, 2), ids.flatten())
    torch.testing.assert_close(sums.mean, expected)
    assert torch.equal(predictions, scores.argmax(3))


@pytest.mark.parametrize("size", ["feat_in", "num_classes", "num_books", "steps"])
def test_sizes_below_one_are_named(size):
    sizes = {"feat_in": 4, "num_classes": 4, "num_books": 1, "steps": 1}
    with pytest.raises(ValueError, match=f"{size} must be a whole number >= 1; got 0"):
        FutureHeads(**{**sizes, size: 0})
