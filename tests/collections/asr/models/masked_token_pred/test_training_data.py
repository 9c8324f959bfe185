"""Data too small for a batch, empty data, and data whose workers give nothing."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from nemo.collections.asr.models.masked_token_pred.training_data import drops_everything


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_drops_everything_counts_as_the_samplers_of_ranks_do(ranks, batch_size):
    for utterances in range(1, 14):
        loader = DataLoader(range(utterances), batch_size=batch_size, drop_last=True)
        batches = math.ceil(utterances / ranks) // batch_size
        assert drops_everything(loader, ranks) == (batches == 0), utterances
        assert not drops_everything(DataLoader(range(utterances), batch_size=batch_size), ranks)


def test_drops_everything_passes_over_data_that_do_not_know_their_length():
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(range(10))

    assert not drops_everything(DataLoader(Endless(), batch_size=4, drop_last=True), ranks=1)
    assert not drops_everything([1, 2, 3], ranks=1)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["nest_fast-conformer_streaming_dynamic", "nest_streaming_demo"])
def test_fewer_utterances_than_a_batch_are_a_batch_of_their_own(recipe, config):
    run = recipe("trainer.max_steps=2", config=config, train=3)
    assert run.steps == 2 and run.model._train_dl.batch_size > 3
    assert run.model.cfg.train_ds.drop_last  # the config travels as it was written
    more = recipe("trainer.max_steps=3", "model.train_ds.batch_size=2", config=config, train=3)
    assert more.trainer.num_training_batches == 1  # the third utterance is dropped where there is a whole batch


@pytest.mark.parametrize("kind", ["train_ds", "validation_ds"])
def test_data_without_utterances_are_refused_by_what_decides_on_them(recipe, kind):
    with pytest.raises(
        ValueError, match=r"manifest_filepath must .*min_duration and max_duration; got .*nothing is left"
    ):
        recipe(f"model.{kind}.min_duration=9", "trainer.max_steps=2")


@pytest.mark.parametrize("kind", ["train_ds", "validation_ds"])
def test_data_sets_of_the_model_without_noise_are_refused_alike(tiny_model, training_data, kind):
    data = training_data("speech", augmented=False, shuffle=kind == "train_ds", labels=["a"], min_duration=9.0)
    with pytest.raises(ValueError, match=rf"model.{kind} must have at least one utterance; got none.*min_duration=9"):
        tiny_model({kind: data}, denoise=False)


def test_one_manifest_can_be_concatenated_too(recipe):
    run = recipe("model.train_ds.is_concat=true", "trainer.max_steps=1")
    assert run.steps == 1 and len(run.model.cfg.train_ds.manifest_filepath) == 1


def test_tarred_data_without_tar_files_are_refused(recipe):
    with pytest.raises(ValueError, match="model.train_ds.tarred_audio_filepaths must name tar files where is_tarred"):
        recipe("model.train_ds.is_tarred=true", fit=False)


def test_an_epoch_that_gives_no_batch_again_and_again_is_an_error(recipe):
    """As tarred data do where each worker has less than a batch; Lightning would start epochs without end."""

    class LessThanABatch(IterableDataset):
        def __init__(self, data):
            self.data = data

        def __iter__(self):
            return iter(self.data)

    run = recipe("trainer.max_steps=2", train=3, fit=False)
    loader = run.model._train_dl
    run.model._train_dl = DataLoader(
        LessThanABatch(loader.dataset), batch_size=8, drop_last=True, collate_fn=loader.collate_fn
    )
    with pytest.raises(ValueError, match="model.train_ds must give at least one batch on each rank; got none"):
        run.trainer.fit(run.model)


def test_a_loader_of_length_0_is_an_error(recipe):
    run = recipe("trainer.max_steps=2", train=3, fit=False)
    run.model._train_dl = DataLoader(torch.zeros(0, 1), batch_size=8)
    with pytest.raises(ValueError, match="model.train_ds must give at least one batch on each rank; got none"):
        run.trainer.fit(run.model)


def test_two_ranks_share_one_validation_file_and_less_than_a_batch_each(pretrain, utterances, tmp_path):
    run = pretrain(
        tmp_path,
        "trainer.devices=2",
        "trainer.strategy=ddp",
        "trainer.max_steps=2",
        "model.train_ds.batch_size=8",
        f"model.validation_ds.manifest_filepath={utterances(1, seconds=5.0)}",
    )
    assert run.exit_code == 0, run.printed[-3000:]
    first, second = run.validations
    assert first == second and len(first) == 1 and first[0]["val_loss"] > 0
    assert [len(steps) for steps in run.steps] == [2, 2]
