"""Codebook health counts exactly the last batches, of all ranks, and warns of a collapse once."""

import copy
import math
from datetime import timedelta

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from nemo.collections.asr.modules.ssl_modules.codebook_health import CodebookHealth
from nemo.collections.asr.parts.utils import warn_once


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    given = []
    monkeypatch.setattr(warn_once.logging, "warning", given.append)
    return given


def expected_of(ids: torch.Tensor, num_classes: int) -> tuple[float, float]:
    """Perplexity and fraction of codes used, by the definition."""
    counts = [int((ids == code).sum()) for code in range(num_classes)]
    shares = [count / sum(counts) for count in counts if count]
    return math.exp(-sum(share * math.log(share) for share in shares)), len(shares) / num_classes


def random_ids(*shape, high=20, seed=0):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def test_figures_are_those_of_the_definition():
    health = CodebookHealth(num_classes=20)
    targets, predictions = random_ids(3, 30), random_ids(3, 30, high=4, seed=1)
    health.update(targets, predictions)
    metrics = health.compute()
    assert metrics["target_perplexity"] == pytest.approx(expected_of(targets, 20)[0])
    assert metrics["target_codes_used"] == pytest.approx(expected_of(targets, 20)[1])
    assert metrics["prediction_perplexity"] == pytest.approx(expected_of(predictions, 20)[0])
    assert metrics["prediction_codes_used"] == pytest.approx(4 / 20)


def test_all_codes_alike_and_one_code_are_the_extremes():
    health = CodebookHealth(num_classes=8, min_perplexity=1)
    health.update(torch.arange(8).repeat(2, 3), torch.full((2, 24), 5))
    assert list(health.compute().values()) == pytest.approx([8, 1, 1, 1 / 8])


def test_only_the_tokens_of_the_mask_count():
    health = CodebookHealth(num_classes=20)
    targets, predictions = random_ids(3, 30), random_ids(3, 30, seed=1)
    mask = random_ids(3, 30, high=2, seed=2).bool()
    targets[~mask] = -1  # padding may hold anything
    health.update(targets, predictions, mask)
    metrics = health.compute()
    assert metrics["target_perplexity"] == pytest.approx(expected_of(targets[mask], 20)[0])
    assert metrics["prediction_perplexity"] == pytest.approx(expected_of(predictions[mask], 20)[0])


def test_the_window_is_exactly_the_last_updates():
    health = CodebookHealth(num_classes=20, window=3)
    batches = [random_ids(2, 5 + i, seed=i) for i in range(8)]
    for i, ids in enumerate(batches):
        health.update(ids)
        seen = torch.cat([batch.flatten() for batch in batches[max(0, i - 2) : i + 1]])
        assert health.compute()["target_perplexity"] == pytest.approx(expected_of(seen, 20)[0])


def test_a_batch_without_predictions_clears_those_it_replaces():
    health = CodebookHealth(num_classes=20, window=1)
    health.update(random_ids(2, 5), random_ids(2, 5))
    health.update(random_ids(2, 5))
    metrics = health.compute()
    assert metrics["prediction_perplexity"] == metrics["prediction_codes_used"] == 0
    assert metrics["target_perplexity"] > 1


def test_several_codebooks_are_averaged_and_the_worst_is_named():
    health = CodebookHealth(num_classes=20, num_books=2)
    targets = torch.stack([random_ids(3, 30), random_ids(3, 30, high=3)], dim=-1)
    health.update(targets)
    perplexities, used = zip(*(expected_of(targets[..., book], 20) for book in range(2)), strict=True)
    metrics = health.compute()
    assert metrics["target_perplexity"] == pytest.approx(sum(perplexities) / 2)
    assert metrics["target_codes_used"] == pytest.approx(sum(used) / 2)
    assert metrics["target_perplexity_lowest"] == pytest.approx(min(perplexities))
    assert metrics["target_perplexity_lowest"] < metrics["target_perplexity"]
    assert metrics["prediction_perplexity_lowest"] == 0  # there are none
    single = CodebookHealth(num_classes=20)
    single.update(targets[..., 0])
    assert set(metrics) - set(single.compute()) == {"target_perplexity_lowest", "prediction_perplexity_lowest"}


def test_nothing_counted_is_zero_and_no_warning(warnings):
    health = CodebookHealth(num_classes=20)
    assert health.compute() == {}
    health.update(random_ids(2, 5), random_ids(2, 5), torch.zeros(2, 5, dtype=torch.bool))
    assert list(health.compute().values()) == [0, 0, 0, 0]
    assert not warnings


def test_reset_forgets_the_batches():
    health = CodebookHealth(num_classes=20)
    health.update(random_ids(2, 5))
    health.reset()
    assert health.compute() == {}


def test_inference_mode_and_training_may_alternate():
    health = CodebookHealth(num_classes=20)
    with torch.inference_mode():
        health.update(random_ids(2, 5))
    health.update(random_ids(2, 5, seed=1))
    both = torch.cat([random_ids(2, 5), random_ids(2, 5, seed=1)])
    assert health.compute()["target_perplexity"] == pytest.approx(expected_of(both, 20)[0])


def test_it_leaves_no_trace_in_a_model():
    model = torch.nn.Linear(2, 2)
    keys = list(model.state_dict())
    model.health = CodebookHealth(num_classes=20)
    model.health.update(random_ids(2, 5))
    assert list(model.state_dict()) == keys and not list(model.buffers())
    assert copy.deepcopy(model).health.compute() == model.health.compute()


# ------------------------------------------------------------------------------------------------------------ warning


def test_a_collapse_is_one_warning_that_says_what_to_do(warnings):
    health = CodebookHealth(num_classes=8192)
    for _ in range(3):
        health.update(random_ids(4, 200, high=4), random_ids(4, 200, high=8192))
        health.compute()
    assert len(warnings) == 1
    assert "perplexity is 4.0, below 16, of 8192 codes" in warnings[0]
    assert "quantizer.normalize: per_feature" in warnings[0]


def test_one_collapsed_codebook_of_two_is_a_warning(warnings):
    health = CodebookHealth(num_classes=512, num_books=2)
    health.update(torch.stack([random_ids(4, 200, high=512), random_ids(4, 200, high=2)], dim=-1))
    assert health.compute()["target_perplexity"] > 16
    assert len(warnings) == 1


def test_healthy_targets_and_collapsed_predictions_are_no_warning(warnings):
    health = CodebookHealth(num_classes=8192)
    health.update(random_ids(4, 200, high=512), torch.zeros(4, 200, dtype=torch.long))
    health.compute()
    assert not warnings


def test_few_targets_are_no_warning(warnings):
    health = CodebookHealth(num_classes=8192)
    health.update(random_ids(1, 159, high=4))
    health.compute()
    assert not warnings
    health.update(random_ids(1, 1, high=4))
    health.compute()
    assert len(warnings) == 1


def test_the_bound_of_a_small_codebook_is_a_quarter_of_it():
    assert CodebookHealth(num_classes=8192).min_perplexity == 16
    assert CodebookHealth(num_classes=32).min_perplexity == 8
    assert CodebookHealth(num_classes=2).min_perplexity == 1


# -------------------------------------------------------------------------------------------------------------- ranks


def rank_ids(rank):
    return random_ids(2, 40, high=6 + 10 * rank, seed=rank)


def report_of_rank(rank, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    health = CodebookHealth(num_classes=20)
    health.update(rank_ids(rank))
    torch.save([health.compute(), health.compute()], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_ranks_report_the_codebook_of_all_of_them(tmp_path):
    torch.multiprocessing.start_processes(report_of_rank, args=(tmp_path,), nprocs=2, start_method="fork")
    expected = expected_of(torch.cat([rank_ids(0), rank_ids(1)]), 20)
    for rank in range(2):
        for metrics in torch.load(tmp_path / f"{rank}.pt"):
            assert metrics["target_perplexity"] == pytest.approx(expected[0])
            assert metrics["target_codes_used"] == pytest.approx(expected[1])


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("name", ["num_classes", "num_books", "window"])
@pytest.mark.parametrize("value, error", [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_numbers_that_are_not_whole_are_refused(name, value, error):
    with pytest.raises(error, match=f"{name} must be a whole number >= 1; got {value}"):
        CodebookHealth(**{"num_classes": 8, name: value})


@pytest.mark.parametrize("value", [0.5, 21, float("nan")])
def test_a_bound_outside_the_codebook_is_refused(value):
    with pytest.raises(ValueError, match="min_perplexity must be a number from 1 to num_classes = 20; got"):
        CodebookHealth(num_classes=20, min_perplexity=value)


def test_a_refused_batch_counts_nothing():
    health = CodebookHealth(num_classes=20, window=2)
    targets = random_ids(2, 5)
    health.update(targets)
    before = health.compute()
    refused = {
        r"targets must be ids from 0 to .* 19; got \[20\]": (torch.full((2, 5), 20), None, None),
        r"predictions must be ids from 0 to .* 19; got \[-1\]": (targets, torch.full((2, 5), -1), None),
        r"predictions must be \[2, 5\], as targets; got \[2, 4\]": (targets, targets[:, :4], None),
        r"targets must be \[B, K\] or \[B, K, Q\] with Q = 1": (targets[..., None].expand(2, 5, 3), None, None),
        r"mask must be a bool tensor \[B, K\] = \[2, 5\]; got torch.float32": (targets, None, torch.ones(2, 5)),
        r"mask must be .*; got torch.bool \[2, 4\]": (targets, None, torch.ones(2, 4, dtype=torch.bool)),
    }
    for message, arguments in refused.items():
        with pytest.raises(ValueError, match=message):
            health.update(*arguments)
        assert health.compute() == before
    health.update(targets)
    health.update(targets)
    assert health.compute()["target_perplexity"] == before["target_perplexity"]


@pytest.mark.gpu
def test_an_update_does_not_wait_for_the_device():
    health = CodebookHealth(num_classes=20)
    targets, mask = random_ids(2, 5).cuda(), torch.ones(2, 5, dtype=torch.bool, device="cuda")
    before = torch.cuda.get_sync_debug_mode()
    try:
        torch.cuda.set_sync_debug_mode("error")
        health.update(targets, targets, mask)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert health.compute()["target_perplexity"] > 1
