"""Whole fits in one process: validation beside training, curricula, and what wraps the encoder."""

import random

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
    checkpoint_wrapper,
)

from nemo.collections.asr.parts.submodules.conformer_modules import ConformerLayer
from nemo.collections.asr.parts.utils.repeatable_data import RepeatableLoader
from nemo.collections.asr.parts.utils.streaming_utils import (
    EncoderStream,
    dynamic_context,
    release_dynamic_context,
    set_dynamic_context,
)
from nemo.utils import logging

SMALL = {
    "masking.mask_prob": 0.1,
    "encoder.n_layers": 1,
    "encoder.d_model": 16,
    "encoder.n_heads": 2,
    "optim.lr": 0.1,
    "optim.sched.warmup_steps": 10,
}
LEFTS = (8, 16, -1)
SEED_OF_ALL_THREE = 3
"""A `context_seed` whose first three draws are the three contexts."""


@pytest.fixture
def trainable(tiny_model, training_data):
    """A tiny model with dropout, noise and other speakers in its data; overrides are dotted keys of `model`."""

    def make(overrides: dict | None = None, **config):
        data = {"train_ds": training_data("speech", shuffle=True), "validation_ds": training_data("other")}
        model = tiny_model({**SMALL, **data, **(overrides or {})}, **config)
        seed_all(0)
        return model

    return make


class AfterEachStep(pl.Callback):
    """Calls a function of no arguments after every training step."""

    def __init__(self, function):
        self.function = function

    def on_train_batch_end(self, *_):
        self.function()


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class TestValidation:
    """One fit with validation after every second step, and one without."""

    @staticmethod
    @pytest.fixture(scope="class")
    def runs(tiny_model, training_data, fit):
        data = {
            "train_ds": training_data("speech", shuffle=True),
            "validation_ds": training_data("other", manifest_filepath=None),
        }
        paths = [training_data(kind)["manifest_filepath"] for kind in ("other", "speech")]
        printed = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(logging, "info", lambda message, *args, **kwargs: printed.append(str(message)))
            runs = []
            for options in ({"limit_val_batches": 0}, {"limit_val_batches": 1.0, "num_sanity_val_steps": 1}):
                config = {**SMALL, **data, "validation_ds.manifest_filepath": paths}
                model = tiny_model(config)
                seed_all(0)
                runs.append(fit(model, max_steps=8, val_check_interval=2, **options))
        return *runs, printed

    @pytest.mark.slow
    def test_training_is_bit_for_bit_what_it_is_without_validation(self, runs):
        without, validated, _ = runs
        assert len(validated.validations) == 4 and not without.validations
        assert validated.losses == without.losses
        assert len(set(validated.losses)) == 8

    @pytest.mark.slow
    def test_every_context_is_reported_for_every_dataloader_under_nemos_prefixes(self, runs):
        figures = {f"val_{figure}_{left}_0" for figure in ("loss", "acc") for left in LEFTS} | {"val_loss"}
        for metrics in runs[1].validations:
            assert figures <= set(metrics)
            for prefix in ("other_", "speech_"):
                assert {prefix + figure for figure in figures} <= set(metrics)
            assert metrics["val_loss"] == metrics["other_val_loss"] != metrics["speech_val_loss"]
            mean = sum(metrics[f"speech_val_loss_{left}_0"] for left in LEFTS) / len(LEFTS)
            assert metrics["speech_val_loss"] == pytest.approx(mean, rel=1e-6)

    def test_a_table_of_each_dataloader_is_printed_at_the_end(self, runs):
        tables = [message for message in runs[2] if message.startswith("Validation by attention context")]
        assert [table.splitlines()[0] for table in tables] == [
            "Validation by attention context (other):",
            "Validation by attention context (speech):",
        ]
        last = runs[1].validations[-1]
        assert all(f"| [{left}, 0] | {last[f'other_val_loss_{left}_0']:.4f} |" in tables[0] for left in LEFTS)

    @pytest.mark.slow
    def test_its_figures_repeat_with_noise_and_all(self, trainable, fit):
        model = trainable()
        trainer = fit(model, max_steps=1, limit_val_batches=1.0).trainer
        seed_all(5)
        first, *_ = trainer.validate(model, verbose=False)
        seed_all(6)
        again, *_ = trainer.validate(model, verbose=False)
        assert first == again and set(first) >= {f"val_loss_{left}_0" for left in LEFTS}


def test_test_data_are_evaluated_like_validation_data(trainable, training_data, fit):
    model = trainable({"test_ds": training_data("other")})
    trainer = fit(model, max_steps=1, limit_val_batches=1.0).trainer
    tested, *_ = trainer.test(model, verbose=False)
    validated, *_ = trainer.validate(model, verbose=False)
    assert {name.replace("val_", "test_"): value for name, value in validated.items()} == tested
    assert set(tested) == {"test_loss"} | {f"test_{figure}_{left}_0" for figure in ("loss", "acc") for left in LEFTS}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_repeatable_loader_leaves_the_random_states_alone_on_an_error_too(workers):
    class Noise(torch.utils.data.Dataset):
        fails = False

        def __len__(self):
            return 6

        def __getitem__(self, index):
            if self.fails and index == 3:
                raise OSError("no such file")
            return random.random(), np.random.rand(), torch.rand(())

    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    data = Noise()
    generator = torch.Generator().manual_seed(3)
    loader = RepeatableLoader(data, batch_size=2, num_workers=workers, generator=generator)
    seed_all(1)
    before = states()
    first = torch.stack([torch.stack(batch) for batch in loader])
    assert states() == before
    seed_all(2)
    next(iter(loader))
    torch.testing.assert_close(torch.stack([torch.stack(batch) for batch in loader]), first, rtol=0, atol=0)
    assert len(first.unique()) == first.numel()
    before = states()
    data.fails = True
    with pytest.raises(OSError, match="no such file"):
        list(loader)
    assert states() == before


@pytest.mark.slow
def test_a_curriculum_is_a_callback_of_three_lines(trainable, fit):
    class ShortContextsFirst(pl.Callback):
        def on_train_epoch_start(self, trainer, model):
            set_dynamic_context(model, "very_low") if trainer.current_epoch < 2 else release_dynamic_context(model)

    model = trainable({"encoder.att_context_size": [[80, 0], [16, 0], [-1, 0]]})
    run = fit(model, callbacks=[ShortContextsFirst()], max_steps=-1, max_epochs=4)
    assert run.contexts[:8] == [[80, 0]] * 8  # two epochs of four batches
    assert run.contexts[8:] == [model.context_sampler.at(count).as_list() for count in range(8, 16)]
    assert len({tuple(context) for context in run.contexts[8:]}) > 1


class TestWhatWrapsTheEncoder:
    """Three steps each, with three contexts; the losses are those of the bare encoder."""

    @staticmethod
    @pytest.fixture(scope="class")
    def train(tiny_model, training_data, fit):
        def run(wrap=lambda model: None, **options):
            data = training_data("speech", augmented=False)
            model = tiny_model({**SMALL, "context_seed": SEED_OF_ALL_THREE, "train_ds": data})
            wrap(model)
            seed_all(0)
            return fit(model, **options)

        return run

    @staticmethod
    @pytest.fixture(scope="class")
    def bare(train):
        run = train()
        assert sorted(run.contexts) == [[-1, 0], [8, 0], [16, 0]] and all(np.isfinite(run.losses))
        return run

    @pytest.mark.parametrize("whole", [False, True])
    def test_activation_checkpointing_recomputes_under_the_same_context(self, train, bare, whole):
        def wrap(model):
            if whole:
                model.encoder = checkpoint_wrapper(model.encoder)
            else:
                apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, ConformerLayer))

        run = train(wrap)
        assert run.contexts == bare.contexts
        assert run.losses == pytest.approx(bare.losses, rel=1e-5)

    def test_bf16_autocast_trains(self, train, bare):
        run = train(precision="bf16-mixed")
        assert run.contexts == bare.contexts
        assert run.losses == pytest.approx(bare.losses, rel=0.02)
        assert run.losses != bare.losses

    @pytest.mark.slow
    def test_a_compiled_encoder_trains_and_is_compiled_once_for_all_contexts(self, train, bare):
        compiled = []

        def backend(graph, inputs):
            compiled.append(graph)
            return graph.forward

        def wrap(model):
            model.encoder = torch.compile(model.encoder, backend=backend, dynamic=True)

        graphs = []
        torch._dynamo.reset()
        run = train(wrap, callbacks=[AfterEachStep(lambda: graphs.append(len(compiled)))])
        assert run.contexts == bare.contexts
        assert run.losses == pytest.approx(bare.losses, rel=1e-5)
        assert graphs[0] == graphs[-1] > 0


@pytest.mark.slow
def test_the_chunked_recipe_trains_and_streams_at_each_of_its_contexts(trainable, tiny_config, fit, audio):
    contexts = [[70, 13], [70, 6], [70, 1], [70, 0]]
    model = trainable({"encoder.att_context_size": contexts}, config="nest_fast-conformer_streaming_chunked")
    assert model.encoder.att_context_style == "chunked_limited"
    run = fit(model, max_steps=8)
    assert {tuple(context) for context in run.contexts} == {tuple(context) for context in contexts}
    assert all(np.isfinite(run.losses)) and all(loss > 0 for loss in run.losses)

    speech, lengths = audio[0][:1], audio[1][:1]
    for context in contexts:
        with dynamic_context(model.eval(), context), torch.inference_mode():
            features, feature_lengths = model.preprocessor(input_signal=speech, length=lengths)
            offline, _ = model.encoder(audio_signal=features, length=feature_lengths)
        with EncoderStream(model, context) as stream:
            pieces = [stream.push(piece)[0] for piece in speech.split(1600, dim=1)]
            live = torch.cat([*pieces, stream.finish()[0]], dim=2)
        torch.testing.assert_close(live, offline, atol=1e-4, rtol=0)
