"""The loss is NeMo's where NeMo's works, is aligned elsewhere, never NaN, and adds up over batches and ranks."""

import pytest
import torch
import torch.nn.functional as F

from nemo.collections.asr import losses
from nemo.collections.asr.losses.ssl_losses import mlm
from nemo.collections.asr.losses.ssl_losses.mlm import (
    MLMLoss,
    MultiMLMLoss,
    NemoMLMLoss,
    NemoMultiMLMLoss,
    target_mask,
    token_predictions,
)

CLASSES = 11


def nemo_multi_loss(*arguments, **options):
    """NeMo's `MultiMLMLoss` around NeMo's own `MLMLoss`."""
    loss = NemoMultiMLMLoss(*arguments, **options)
    loss.mlm_loss = NemoMLMLoss(loss.mlm_loss.combine_time_steps, loss.mlm_loss.mask_threshold)
    return loss


def block_masks(batch, channels, frames, blocks, dtype=torch.float32):
    """1 on `[start, end)` of each utterance's blocks, the same in all channels, `[B, D, T]` with stride 0 over D."""
    mask = torch.zeros(batch, 1, frames, dtype=dtype)
    for utterance, start, end in blocks:
        mask[utterance, :, start:end] = 1
    return mask.expand(batch, channels, frames)


def batch(batch_size=3, tokens=10, frames=None, books=None, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    last = () if books is None else (books,)
    logits = torch.randn(batch_size, frames or tokens, CLASSES, *last, generator=generator, dtype=torch.float64)
    log_probs = torch.log_softmax(logits, dim=2).to(dtype).requires_grad_()
    targets = torch.randint(CLASSES, (batch_size, tokens, *last), generator=generator)
    return log_probs, targets


def reference(log_probs, targets, masked, lengths, shift):
    """Sum of the losses, number of right answers and number of targets, by the obvious loops; masked `[B, K]`."""
    total, correct, count = 0.0, 0, 0
    for b in range(log_probs.shape[0]):
        for k in range(min(masked.shape[1], targets.shape[1])):
            if masked[b, k] and k + shift < min(int(lengths[b]), log_probs.shape[1]):
                total -= log_probs[b, k + shift, targets[b, k]].item()
                correct += int(log_probs[b, k + shift].argmax() == targets[b, k])
                count += 1
    return total, correct, count


# ------------------------------------------------------------------------------------------------- the same as NeMo's


@pytest.mark.parametrize("combine_time_steps", [1, 4, 8])
@pytest.mark.parametrize("expanded", [True, False])
def test_value_and_gradient_equal_nemos(combine_time_steps, expanded):
    log_probs, targets = batch()
    frames = 10 * combine_time_steps
    masks = block_masks(3, 5, frames, [(0, 0, 30), (1, 7, frames - 3), (2, 2, 17)])
    masks = masks if expanded else masks.clone()
    options = {"masks": masks, "decoder_outputs": log_probs, "targets": targets}
    ours = MLMLoss(combine_time_steps)(**options)
    (gradient,) = torch.autograd.grad(ours, log_probs)
    theirs = NemoMLMLoss(combine_time_steps)(**options)
    (expected,) = torch.autograd.grad(theirs, log_probs)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-7)
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape == ()


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.8, 0.99])
def test_the_threshold_is_nemos_on_masks_that_differ_by_channel(threshold):
    log_probs, targets = batch(tokens=40)
    masks = (torch.rand(3, 5, 160, generator=torch.Generator().manual_seed(1)) < 0.8).float()
    masks[:, :, :40] = 1
    options = {"masks": masks, "decoder_outputs": log_probs, "targets": targets}
    torch.testing.assert_close(MLMLoss(4, threshold)(**options), NemoMLMLoss(4, threshold)(**options))
    grouped = masks.transpose(1, 2).reshape(3, 40, -1).mean(-1) > threshold
    assert torch.equal(target_mask(masks, 4, threshold), grouped)


@pytest.mark.parametrize("squeeze_single, num_decoders", [(True, 1), (False, 1), (False, 3), (True, 3)])
def test_several_decoders_give_nemos_mean(squeeze_single, num_decoders):
    log_probs, targets = batch(books=None if squeeze_single and num_decoders == 1 else num_decoders)
    masks = block_masks(3, 5, 80, [(0, 0, 24), (2, 20, 77)])
    options = {"masks": masks, "decoder_outputs": log_probs, "targets": targets}
    settings = {"combine_time_steps": 8, "num_decoders": num_decoders, "squeeze_single": squeeze_single}
    ours, theirs = MultiMLMLoss(**settings)(**options), nemo_multi_loss(**settings)(**options)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(ours, log_probs), torch.autograd.grad(theirs, log_probs), rtol=1e-6, atol=1e-7
    )


def test_the_call_of_nemos_older_model_works():
    """`SpeechEncDecSelfSupervisedModel` names the masks `spec_masks` and hands target lengths on."""
    log_probs, targets = batch()
    masks = block_masks(3, 5, 80, [(0, 0, 80), (1, 8, 40)])
    options = {
        "spec_masks": masks,
        "decoder_outputs": log_probs,
        "targets": targets,
        "decoder_lengths": torch.tensor([10, 10, 10]),
        "target_lengths": torch.tensor([10, 10, 10]),
    }
    torch.testing.assert_close(MLMLoss(8)(**options), NemoMLMLoss(8)(**options))
    torch.testing.assert_close(MLMLoss(8)(**options, masks=masks[:, :, :0]), torch.tensor(0.0))  # `masks` goes first


def test_the_packages_export_our_classes():
    assert losses.MLMLoss is MLMLoss and losses.MultiMLMLoss is MultiMLMLoss
    assert isinstance(MultiMLMLoss().mlm_loss, MLMLoss)
    assert not MultiMLMLoss().state_dict()
    assert {"MLMLoss", "MultiMLMLoss", "target_mask"} <= set(mlm.__all__)


# ---------------------------------------------------------------------------------------------- alignment and lengths


@pytest.mark.parametrize("shift", [0, 1, 2, 9, 10, 50])
@pytest.mark.parametrize("frames", [8, 10, 11, 13])
@pytest.mark.parametrize("mask_frames", [70, 77, 80, 81, 95])
def test_frames_shifts_and_lengths_that_differ_are_aligned(shift, frames, mask_frames):
    log_probs, targets = batch(tokens=10, frames=frames)
    masks = block_masks(3, 5, mask_frames, [(0, 0, mask_frames), (1, 16, 64), (2, 30, mask_frames)])
    lengths = torch.tensor([frames, 6, frames - 1])
    options = {"masks": masks, "decoder_outputs": log_probs, "targets": targets, "decoder_lengths": lengths}
    loss = MLMLoss(8, target_shift=shift)
    padded = F.pad(masks, (0, -mask_frames % 8))
    masked = padded.transpose(1, 2).reshape(3, padded.shape[2] // 8, -1).mean(-1) > 0.8
    total, correct, count = reference(log_probs, targets, masked, lengths, shift)
    statistics = loss.statistics(**options)
    assert statistics.targets == count
    assert statistics.correct == correct
    torch.testing.assert_close(statistics.loss_sum.item(), total)
    torch.testing.assert_close(loss(**options).item(), total / max(count, 1), rtol=1e-6, atol=1e-6)


def test_decoder_frame_k_plus_shift_predicts_token_k():
    targets = torch.tensor([[3, 1, 4, 1, 5]])
    log_probs = torch.full((1, 6, CLASSES), -20.0)
    for k, target in enumerate(targets[0]):
        log_probs[0, k + 1, target] = 0.0
    masks = torch.ones(1, 5, 40)
    options = {"masks": masks, "decoder_outputs": log_probs, "targets": targets}
    assert MLMLoss(8, target_shift=1)(**options) == 0
    assert MLMLoss(8, target_shift=0)(**options) > 10
    assert MLMLoss(8, target_shift=1).statistics(**options).correct == 5


def test_frames_past_an_utterances_length_never_count():
    log_probs, targets = batch()
    masks = torch.ones(3, 5, 80)
    lengths = torch.tensor([10, 4, 0])
    options = {"masks": masks, "targets": targets, "decoder_lengths": lengths}
    loss = MLMLoss(8)
    expected = loss(decoder_outputs=log_probs, **options)
    changed = log_probs.detach().clone()
    changed[1, 4:] = float("-inf")
    changed[2] = float("nan")
    assert loss(decoder_outputs=changed, **options) == expected
    (gradient,) = torch.autograd.grad(expected, log_probs)
    assert not gradient[1, 4:].any() and not gradient[2].any() and gradient[1, :4].any()


def test_a_shift_moves_the_gradient_with_it():
    log_probs, targets = batch(frames=12)
    masks = block_masks(3, 5, 80, [(0, 16, 32)])
    (gradient,) = torch.autograd.grad(
        MLMLoss(8, target_shift=2)(masks=masks, decoder_outputs=log_probs, targets=targets), log_probs
    )
    touched = gradient.abs().sum(-1).nonzero()
    assert touched.tolist() == [[0, 4], [0, 5]]


@pytest.mark.parametrize("shift", [0, 1, 20])
def test_located_targets_are_those_that_the_loss_averages(shift):
    log_probs, targets = batch(tokens=10, frames=9)
    masks, lengths = block_masks(3, 5, 80, [(0, 0, 40), (1, 16, 80), (2, 8, 24)]), torch.tensor([9, 7, 2])
    loss = MLMLoss(8, target_shift=shift)
    utterances, tokens = loss.locate(masks, decoder_frames=9, decoder_lengths=lengths)
    statistics = loss.statistics(masks=masks, decoder_outputs=log_probs, targets=targets, decoder_lengths=lengths)
    assert len(utterances) == len(tokens) == statistics.targets
    if len(utterances):
        nll = -log_probs[utterances, tokens + shift, targets[utterances, tokens]].sum()
        torch.testing.assert_close(nll.double(), statistics.loss_sum)


def test_without_masks_every_token_is_a_target():
    log_probs, targets = batch()
    expected = F.nll_loss(log_probs.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(MLMLoss(8)(decoder_outputs=log_probs, targets=targets), expected)
    lengths = torch.tensor([10, 3, 1])
    expected, _, count = reference(log_probs, targets, torch.ones(3, 10), lengths, 1)
    options = {"decoder_outputs": log_probs, "targets": targets, "decoder_lengths": lengths}
    torch.testing.assert_close(MLMLoss(8, target_shift=1)(**options).item(), expected / count)


def test_ids_of_tokens_that_are_no_targets_may_be_anything():
    log_probs, targets = batch()
    masks = block_masks(3, 5, 80, [(0, 0, 40)])
    options = {"masks": masks, "decoder_outputs": log_probs}
    expected = MLMLoss(8)(targets=targets, **options)
    targets[0, 5:], targets[1] = -1, 10**6
    assert MLMLoss(8)(targets=targets, **options) == expected


# ---------------------------------------------------------------------------------------------------------- no target


@pytest.mark.parametrize("case", ["nothing masked", "no valid frame", "no frame", "no token", "shift past the end"])
def test_no_target_gives_zero_with_a_graph(case):
    log_probs, targets = batch(frames=0 if case == "no frame" else 10)
    if case == "no frame":
        log_probs = torch.zeros(3, 0, CLASSES, requires_grad=True)
    masks = torch.zeros(3, 5, 80) if case == "nothing masked" else torch.ones(3, 5, 80)
    lengths = torch.zeros(3, dtype=torch.long) if case == "no valid frame" else torch.tensor([10, 10, 10])
    loss = MLMLoss(8, target_shift=10 if case == "shift past the end" else 0)
    options = {
        "masks": masks,
        "decoder_outputs": log_probs,
        "targets": targets[:, :0] if case == "no token" else targets,
        "decoder_lengths": lengths,
    }
    value = loss(**options)
    assert value == 0
    value.backward()
    assert log_probs.grad.shape == log_probs.shape and not log_probs.grad.any()
    assert [statistic.item() for statistic in loss.statistics(**options)] == [0, 0, 0]


# ---------------------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_summed_in_float32(dtype):
    log_probs, targets = batch(batch_size=8, tokens=600, dtype=dtype)
    masks = torch.ones(8, 1, 4800, dtype=dtype)
    loss = MLMLoss(8)(masks=masks, decoder_outputs=log_probs, targets=targets)
    expected = F.nll_loss(log_probs.detach().double().flatten(0, 1), targets.flatten())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    loss.backward()
    assert log_probs.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bool, torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_masks_of_any_type_give_the_same_targets(dtype):
    masks = block_masks(3, 5, 77, [(0, 0, 33), (1, 7, 71), (2, 2, 77)])
    assert torch.equal(target_mask(masks.to(dtype), 8), target_mask(masks, 8))
    assert torch.equal(target_mask(masks.clone(), 8), target_mask(masks, 8))


def test_integer_targets_of_any_width_work():
    log_probs, targets = batch()
    masks = torch.ones(3, 5, 80)
    options = {"masks": masks, "decoder_outputs": log_probs}
    assert MLMLoss(8)(targets=targets.int(), **options) == MLMLoss(8)(targets=targets, **options)


# --------------------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize("books", [None, 3])
def test_statistics_are_the_sums_behind_the_loss(books):
    log_probs, targets = batch(books=books)
    masks = block_masks(3, 5, 80, [(0, 0, 24), (2, 20, 77)])
    options = {"masks": masks, "decoder_outputs": log_probs, "targets": targets}
    loss = MLMLoss(8) if books is None else MultiMLMLoss(8, num_decoders=books)
    statistics = loss.statistics(**options)
    torch.testing.assert_close((statistics.loss_sum / statistics.targets).float(), loss(**options).detach())
    assert statistics.targets == target_mask(masks, 8).sum() * (books or 1)
    assert torch.stack(statistics).dtype == torch.float64 and not statistics.loss_sum.requires_grad


def test_statistics_of_parts_add_up_to_those_of_the_whole():
    log_probs, targets = batch()
    masks = block_masks(3, 5, 80, [(0, 0, 24), (1, 20, 77), (2, 0, 64)])
    loss = MLMLoss(8, target_shift=1)
    whole = loss.statistics(masks=masks, decoder_outputs=log_probs, targets=targets)
    parts = []
    for i in range(3):
        one = {"masks": masks[i : i + 1], "decoder_outputs": log_probs[i : i + 1], "targets": targets[i : i + 1]}
        parts.append(torch.stack(loss.statistics(**one)))
    torch.testing.assert_close(sum(parts), torch.stack(whole))


@pytest.mark.parametrize("books", [None, 2])
def test_predictions_are_those_that_statistics_counts(books):
    log_probs, targets = batch(frames=9, books=books)
    masks = torch.ones(3, 5, 80)
    loss = MLMLoss(8, target_shift=1) if books is None else MultiMLMLoss(8, num_decoders=books, target_shift=1)
    statistics = loss.statistics(masks=masks, decoder_outputs=log_probs, targets=targets)
    predictions = token_predictions(log_probs, 10, target_shift=loss.target_shift)
    assert predictions.shape == targets.shape
    assert (predictions == targets)[:, :8].sum() == statistics.correct
    assert not predictions[:, 8:].any()


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("make", [MLMLoss, MultiMLMLoss])
@pytest.mark.parametrize("value, error", [(-1, ValueError), (0.5, TypeError), (True, TypeError), ("auto", TypeError)])
def test_a_shift_that_is_no_whole_number_is_refused(make, value, error):
    with pytest.raises(error, match=f"target_shift must be a whole number >= 0; got '?{value}"):
        make(target_shift=value)


@pytest.mark.parametrize("make", [MLMLoss, MultiMLMLoss])
def test_zero_time_steps_are_refused(make):
    with pytest.raises(ValueError, match="combine_time_steps must be a whole number >= 1; got 0"):
        make(combine_time_steps=0)


@pytest.mark.parametrize("value", [-1, CLASSES])
def test_targets_outside_the_codebook_are_refused(value):
    log_probs, targets = batch()
    targets[1, 2] = value
    with pytest.raises(ValueError, match=rf"targets must be ids from 0 to C - 1 = {CLASSES - 1} .* got \[{value}\]"):
        MLMLoss(8)(masks=torch.ones(3, 5, 80), decoder_outputs=log_probs, targets=targets)


def test_batches_that_do_not_match_are_refused():
    log_probs, targets = batch()
    masks = torch.ones(3, 5, 80)
    loss = MLMLoss(8)
    with pytest.raises(ValueError, match="targets must be of B = 3 utterances .*; got B = 2"):
        loss(masks=masks, decoder_outputs=log_probs, targets=targets[:2])
    with pytest.raises(ValueError, match=r"masks must be \[B, D, T\] with B = 3, .*; got \[2, 5, 80\]"):
        loss(masks=masks[:2], decoder_outputs=log_probs, targets=targets)
    with pytest.raises(ValueError, match=r"decoder_lengths must be \[B\] = \[3\]; got \[2\]"):
        loss(masks=masks, decoder_outputs=log_probs, targets=targets, decoder_lengths=torch.tensor([10, 10]))


def test_a_wrong_number_of_decoders_is_refused():
    log_probs, targets = batch(books=3)
    masks = torch.ones(3, 5, 80)
    with pytest.raises(ValueError, match=r"decoder_outputs must be .* Q = num_decoders = 2; got \[3, 10, 11, 3\]"):
        MultiMLMLoss(8, num_decoders=2)(masks=masks, decoder_outputs=log_probs, targets=targets)
    with pytest.raises(ValueError, match="Q = 3 codebooks, as decoder_outputs; got B = 3 and Q = 2"):
        MultiMLMLoss(8, num_decoders=3)(masks=masks, decoder_outputs=log_probs, targets=targets[..., :2])


# ---------------------------------------------------------------------------------------------------------------- GPU


@pytest.mark.gpu
def test_nothing_waits_for_the_device():
    log_probs, targets = batch(frames=11)
    options = {
        "masks": block_masks(3, 5, 77, [(0, 0, 33), (1, 7, 71)]).cuda(),
        "decoder_outputs": log_probs.detach().cuda().requires_grad_(),
        "targets": targets.cuda(),
        "decoder_lengths": torch.tensor([11, 9, 4]).cuda(),
    }
    loss = MLMLoss(8, target_shift=1)
    loss(**options)
    before = torch.cuda.get_sync_debug_mode()
    try:
        torch.cuda.set_sync_debug_mode("error")
        loss(**options).backward()
        loss.statistics(**options)
    finally:
        torch.cuda.set_sync_debug_mode(before)
