"""Parts of a config that are null, and the callbacks that a model adds to its trainer."""

import pytest


@pytest.mark.parametrize("data", ["model.validation_ds=null", "model.validation_ds.manifest_filepath=null"])
def test_without_validation_data_there_is_no_validation(recipe, data):
    run = recipe("trainer.max_steps=1", data)
    assert run.steps == 1 and run.validations == 0 and len(run.last) == len(run.nemo) == 1


@pytest.mark.parametrize("data", ["model.train_ds=null", "model.train_ds.manifest_filepath=null"])
def test_a_model_without_training_data_can_be_validated_and_says_what_training_needs(recipe, data):
    run = recipe("trainer.max_steps=1", data, fit=False)
    (metrics,) = run.trainer.validate(run.model, verbose=False)
    assert metrics["val_loss"] > 0
    with pytest.raises(ValueError, match="model.train_ds must name the data to train on, by manifest_filepath"):
        run.trainer.fit(run.model)


def test_a_loader_given_to_the_trainer_takes_the_place_of_training_data(recipe):
    run = recipe("trainer.max_steps=2", fit=False)
    loader = run.model.train_dataloader()
    run.model._train_dl = None
    run.trainer.fit(run.model, train_dataloaders=loader)
    assert run.trainer.global_step == 2


def test_training_data_can_be_set_up_when_the_trainer_starts(recipe):
    run = recipe("trainer.max_steps=1", "+model.train_ds.defer_setup=true", fit=False)
    assert run.model._train_dl is None
    run.trainer.fit(run.model)
    assert run.trainer.global_step == 1


def test_without_a_scheduler_the_learning_rate_stays(recipe):
    run = recipe("trainer.max_steps=2", "model.optim.sched=null", "model.optim.lr=1e-3")
    assert run.trainer.lr_scheduler_configs == []
    assert [group["lr"] for group in run.trainer.optimizers[0].param_groups] == [1e-3]


def test_a_model_brings_the_callbacks_of_its_runs(tiny_model):
    names = [type(callback).__name__ for callback in tiny_model().configure_callbacks()]
    assert sorted(names) == ["ContextSampling", "InterruptedRun", "LastValidation", "SomeBatchRequired"]
