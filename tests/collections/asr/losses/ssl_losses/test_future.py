"""The loss of future tokens: the right targets, and every head's cross-entropy without keeping its scores."""

import pytest
import torch
import torch.nn.functional as F

from nemo.collections.asr.losses.ssl_losses import future
from nemo.collections.asr.losses.ssl_losses.future import FutureTargets, FutureTokenLoss, linear_cross_entropy


def slow_targets(loss, tokens, token_lengths, frames, frame_lengths, ahead):
    """The rule, word by word: `{(utterance, frame, step): token}` of all that counts."""
    targets = {}
    for utterance in range(len(tokens)):
        for frame in range(min(frames, int(frame_lengths[utterance]))):
            heard = frame + ahead[frame % len(ahead)] - loss.heard_shift  # the last token that was heard whole
            for step in range(1, loss.steps + 1):
                token = frame - loss.target_shift + step
                if heard < token < int(token_lengths[utterance]) and token >= 0:
                    targets[utterance, frame, step] = tokens[utterance, token].tolist()
    return targets


@pytest.mark.parametrize("ahead", [(0,), (1,), (3, 2, 1, 0), (2, 1, 0)], ids=str)
@pytest.mark.parametrize(("shift", "heard"), [(0, 0), (1, 1), (0, 1), (3, 1)])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_each_frame_is_asked_for_the_tokens_after_those_it_has_heard(steps, shift, heard, ahead):
    tokens = torch.randint(50, (3, 9, 2), generator=torch.Generator().manual_seed(0))
    token_lengths, frame_lengths = torch.tensor([9, 5, 0]), torch.tensor([10, 6, 1])
    loss = FutureTokenLoss(steps, shift, heard)
    ids, counted = loss.targets(tokens, token_lengths, 10, frame_lengths, ahead)
    expected = slow_targets(loss, tokens, token_lengths, 10, frame_lengths, ahead)
    ours = {(b, s, n + 1): ids[b, s, n].tolist() for b, s, n in counted.nonzero().tolist()}
    assert ours == expected
    assert (ids[~counted] == 0).all()
    assert loss.leaves_something(ahead) == any(loss.first_step(count) <= steps for count in ahead)
    if steps == 4:
        assert expected


def test_with_causal_striding_frame_k_predicts_token_k_first():
    tokens = torch.arange(10).view(1, 10, 1)
    lengths = torch.tensor([10])
    ids, counted = FutureTokenLoss(steps=2, target_shift=1).targets(tokens, lengths, 11, torch.tensor([11]))
    assert ids[0, :10, 0, 0].tolist() == list(range(10))
    assert ids[0, :9, 1, 0].tolist() == list(range(1, 10))
    assert counted[0, :, 0].tolist() == [True] * 10 + [False]
    assert counted[0, :, 1].tolist() == [True] * 9 + [False] * 2


def heads_and_targets(frames=37, channels=6, steps=2, books=3, classes=11, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(frames, channels, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(steps, books, classes, channels, generator=generator, dtype=dtype, requires_grad=True)
    bias = torch.randn(steps, books, classes, generator=generator, dtype=dtype, requires_grad=True)
    ids = torch.randint(classes, (frames, steps, books), generator=generator)
    counted = torch.rand(frames, steps, generator=generator) > 0.3
    return (inputs, weight, bias), FutureTargets(ids, counted)


def slow_loss(inputs, weight, bias, targets):
    """Cross-entropy over everything that counts, from scores that are all kept."""
    scores = torch.einsum("fd,nqcd->fnqc", inputs, weight) + bias
    nll = F.cross_entropy(scores.flatten(0, 2), targets.ids.flatten(), reduction="none").view(targets.ids.shape)
    counted = targets.counted.unsqueeze(2).expand_as(nll)
    return nll[counted], scores, counted


@pytest.mark.parametrize("budget", [1, 11 * 4 * 5, 1 << 20])
def test_loss_and_gradients_are_those_of_cross_entropy_whatever_the_piece(monkeypatch, budget):
    monkeypatch.setitem(future._SCORE_BYTES, "cpu", budget)
    tensors, targets = heads_and_targets()
    sums, predictions = linear_cross_entropy(*tensors, targets)
    nll, scores, counted = slow_loss(*tensors, targets)
    torch.testing.assert_close(sums.mean, nll.mean())
    for ours, theirs in zip(
        torch.autograd.grad(sums.mean, tensors), torch.autograd.grad(nll.mean(), tensors), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    best = scores.argmax(3)
    assert torch.equal(predictions, best)
    for step in range(2):
        right = (best == targets.ids)[:, step][counted[:, step]]
        assert sums.by_step[step, 1:].tolist() == [right.sum(), len(right)]
    torch.testing.assert_close(sums.by_step[:, 0].sum(), sums.total.detach().double())


def test_a_batch_without_targets_has_loss_zero_and_gradients_of_zero():
    tensors, targets = heads_and_targets()
    targets = FutureTargets(targets.ids, torch.zeros_like(targets.counted))
    sums, _ = linear_cross_entropy(*tensors, targets)
    assert sums.mean == 0
    assert all((gradient == 0).all() for gradient in torch.autograd.grad(sums.mean, tensors))


def test_no_frames_at_all_are_no_error():
    (inputs, weight, bias), targets = heads_and_targets()
    none = FutureTargets(targets.ids[:0], targets.counted[:0])
    sums, predictions = linear_cross_entropy(inputs[:0], weight, bias, none)
    assert sums.mean == 0 and predictions.shape == (0, 2, 3)
    sums.mean.backward()
    assert (weight.grad == 0).all()


def test_autocast_and_half_weights_take_their_sums_in_float32():
    tensors, targets = heads_and_targets(dtype=torch.float32)
    expected = slow_loss(*tensors, targets)[0].mean()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums, _ = linear_cross_entropy(*tensors, targets)
    assert sums.total.dtype == torch.float32
    torch.testing.assert_close(sums.mean, expected, rtol=0.02, atol=0)
    sums.mean.backward()
    assert all(tensor.grad.dtype == torch.float32 for tensor in tensors)
    halves = [tensor.detach().bfloat16().requires_grad_() for tensor in tensors]
    sums, _ = linear_cross_entropy(*halves, targets)
    torch.testing.assert_close(sums.mean, expected, rtol=0.02, atol=0)
    sums.mean.backward()
    assert all(tensor.grad.dtype == torch.bfloat16 for tensor in halves)


def test_it_runs_where_no_value_can_be_read():
    """On the `meta` device anything that waits for a value raises."""
    tensors, targets = heads_and_targets(dtype=torch.float32)
    tensors = [tensor.detach().to("meta").requires_grad_() for tensor in tensors]
    loss = FutureTokenLoss(2, target_shift=1)
    tokens, lengths = torch.zeros(3, 9, 3, dtype=torch.long, device="meta"), torch.zeros(3, device="meta")
    ids, counted = loss.targets(tokens, lengths, 10, lengths, ahead=(1, 0))
    frames = torch.zeros(30, 6, device="meta", requires_grad=True)
    sums, _ = linear_cross_entropy(frames, *tensors[1:], FutureTargets(ids.flatten(0, 1), counted.flatten(0, 1)))
    sums.mean.backward()
    assert frames.grad.shape == (30, 6)


def test_scores_are_not_kept():
    tensors, targets = heads_and_targets(frames=4000, classes=512, dtype=torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        linear_cross_entropy(*tensors, targets)
    assert sum(kept) == sum(tensor.numel() for tensor in tensors) < targets.ids.numel() * 512 / 10


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be a whole number >= 1; got 0"),
        ({"steps": 1.5}, TypeError, "steps must be a whole number >= 1; got 1.5"),
        ({"steps": 1, "target_shift": -1}, ValueError, "target_shift must be a whole number >= 0; got -1"),
        ({"steps": 1, "heard_shift": -1}, ValueError, "heard_shift must be a whole number >= 0; got -1"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        FutureTokenLoss(**arguments)


def test_tensors_that_do_not_fit_are_named():
    loss, tokens, lengths = FutureTokenLoss(1), torch.zeros(2, 5, 1, dtype=torch.long), torch.tensor([5, 5])
    with pytest.raises(ValueError, match=r"tokens must be \[B, K, Q\]"):
        loss.targets(tokens[..., 0], lengths, 5, lengths)
    with pytest.raises(ValueError, match=r"token_lengths must be \[B\] = \[2\]"):
        loss.targets(tokens, lengths[:1], 5, lengths)
    with pytest.raises(ValueError, match=r"frame_lengths must be \[B\] = \[2\]"):
        loss.targets(tokens, lengths, 5, lengths[:1])
