"""Future-token prediction: what it costs nothing to leave out, what it never hears, and how it meets masking."""

import lightning.pytorch as pl
import pytest
import torch
from attention_cases import HAS_RC
from pretraining_batches import DENSE, loss_of, noisy_batch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS, AttentionContext
from nemo.collections.asr.parts.attention_context.lookahead import frames_ahead
from nemo.collections.asr.parts.utils.streaming_utils import set_dynamic_context
from nemo.utils import logging

FUTURE = {"objective": {"masked": 0, "future": 1}}
BOTH = {"objective": {"masked": 1, "future": 3}}
BY_BATCH = {"objective": {"masked": 1, "future": 1, "combination": "by_batch"}}
BOOKS = {"num_books": 3}
PRESETS = [list(context) for context in CONTEXT_PRESETS.values()]


def gradients(loss, model) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}


def counted_forwards(model) -> list[bool]:
    """Fills with whether anything was masked, for each forward of the encoder."""
    masked, encode = [], model._encode

    def counting(*args):
        encoded, lengths, masks = encode(*args)
        masked.append(bool(masks.any()))
        return encoded, lengths, masks

    model._encode = counting
    return masked


class TestAllMasked:
    """Weights (1, 0) are the model without an objective."""

    @pytest.mark.slow
    @pytest.mark.parametrize("denoise", [True, False])
    @pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
    def test_it_is_bit_for_bit_the_model_without_the_section(self, tiny_model, audio, denoise, mask_position):
        config = {**DENSE, **BOOKS, "mask_position": mask_position}
        models = [
            tiny_model({**config, **objective}, denoise=denoise).train()
            for objective in ({}, {"objective": {"masked": 1, "future": 0, "combination": "by_batch"}})
        ]
        plain, weighted = (model.state_dict() for model in models)
        assert plain.keys() == weighted.keys()
        assert all(torch.equal(value, weighted[name]) for name, value in plain.items())
        results = []
        for model in models:
            torch.manual_seed(3)
            for _ in range(3):
                loss = loss_of(model, *audio)
            state = torch.get_rng_state()
            results.append((loss, gradients(loss, model), state, model.context_sampler.count))
        (loss, grads, state, count), (other_loss, other_grads, other_state, other_count) = results
        assert loss == other_loss and count == other_count == 3
        assert torch.equal(state, other_state)
        assert all(torch.equal(value, other_grads[name]) for name, value in grads.items())

    def test_the_loss_is_nemos_on_what_forward_returns(self, tiny_model, audio):
        model = tiny_model({**DENSE, "objective": {"masked": 1, "future": 0}}).eval()
        torch.manual_seed(3)
        loss = loss_of(model, *audio)
        torch.manual_seed(3)
        batch = noisy_batch(*audio)
        log_probs, lengths, masks, tokens = model.forward(apply_mask=True, **model._arguments(batch))
        expected = model.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=lengths)
        torch.testing.assert_close(loss, expected)


class TestNoLeak:
    """No frame is asked for a token whose feature frames it depends on, by gradients."""

    @staticmethod
    @pytest.fixture(scope="class")
    def last_heard():
        def of(model, context, frames: int = 160) -> list[int]:
            """For each encoder frame the last feature frame on which it depends."""
            features = torch.randn(1, 80, frames, generator=torch.Generator().manual_seed(0), requires_grad=True)
            with model.attention_context.evaluating(context):
                encoded, _ = model.encoder(audio_signal=features, length=torch.tensor([frames]))
            heard = []
            for frame in range(encoded.shape[2]):
                (gradient,) = torch.autograd.grad(encoded[0, :, frame].square().sum(), features, retain_graph=True)
                heard.append(int(gradient[0].abs().sum(0).nonzero().max()))
            return heard

        return of

    @pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
    @pytest.mark.parametrize("causal", [True, False])
    @pytest.mark.parametrize(
        ("style", "contexts"),
        [
            ("regular", [*PRESETS, [8, 0], [4, 1]]),
            ("chunked_limited", [*PRESETS, [8, 0], [8, 1], [8, 3], [-1, 2]]),
            ("chunked_limited_with_rc", [[8, 2, 1]]),
        ],
    )
    @pytest.mark.slow
    def test_what_counts_was_not_heard_and_what_does_not_was(
        self, tiny_model, last_heard, style, contexts, causal, mask_position
    ):
        with_rc = style == "chunked_limited_with_rc"
        if with_rc and not HAS_RC:
            pytest.skip("the installed NeMo has no style chunked_limited_with_rc")
        model = tiny_model(
            {
                **FUTURE,
                "objective.steps": 5,
                "mask_position": mask_position,
                "encoder.att_context_style": style,
                "encoder.att_context_size": [80, 0] if with_rc else contexts,
                "encoder.causal_downsampling": causal,
                "encoder.n_layers": 2,
            }
            if not with_rc
            else {
                **FUTURE,
                "mask_position": mask_position,
                "encoder.att_context_size": [[80, 0]],
                "encoder.causal_downsampling": causal,
            }
        ).eval()
        if with_rc:  # such an encoder is built without a limit, and its contexts are set afterwards
            model.encoder.att_context_style = style
            model.future_loss.steps = 5
        loss, counted_contexts = model.future_loss, 0
        for context in map(AttentionContext.parse, contexts):
            ahead = frames_ahead(model.encoder, context)
            heard = last_heard(model, context)
            tokens = torch.arange(20).view(1, 20, 1)
            frames = len(heard)
            ids, counted = loss.targets(tokens, torch.tensor([20]), frames, torch.tensor([frames]), ahead)
            counted_contexts += bool(counted.any())
            for frame, last in enumerate(heard):
                for step in range(1, loss.steps + 1):
                    token = frame - loss.target_shift + step
                    if not 0 <= token < 20:
                        assert not counted[0, frame, step - 1]
                        continue
                    ends = 8 * token + 7 if mask_position == "pre_conv" else 8 * token + (0 if causal else 7)
                    begins = 8 * token if mask_position == "pre_conv" else ends
                    if counted[0, frame, step - 1]:
                        # With causal striding, frame k hears up to feature frame 8k: the first of token k's eight.
                        assert last <= begins - (0 if causal and mask_position == "pre_conv" else 1) < ends
                    elif not with_rc:  # there, what is left out is what could be heard at most
                        assert last >= min(ends, 8 * (frames - 2))
        assert counted_contexts == len(contexts)

    def test_under_an_unlimited_right_context_the_term_is_left_out_and_logged(self, tiny_model, audio, monkeypatch):
        told = []
        monkeypatch.setattr(logging, "info", lambda message, *args, **kwargs: told.append(str(message)))
        model = tiny_model({**DENSE, **BOTH, "encoder.att_context_size": [[-1, -1], [8, 0]]}).eval()
        assert any("left out for batches under [-1, -1]" in message for message in told)
        batch = noisy_batch(*audio)
        set_dynamic_context(model, [-1, -1])
        torch.manual_seed(0)
        loss, logs = model.training_loss(batch)
        assert logs["future_left_out"] == 1 and "train_future_loss" not in logs
        assert torch.equal(loss, logs["train_masked_loss"])
        assert all(gradient is not None for gradient in gradients(loss, model).values())
        set_dynamic_context(model, [8, 0])
        loss, logs = model.training_loss(batch)
        assert logs["future_left_out"] == 0 and logs["train_future_loss"] > 0

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"encoder.att_context_size": [-1, -1]}, "model.objective.future must be 0 where every trained context"),
            ({"encoder.att_context_size": [[8, 1], [8, 2]]}, "model.objective.steps must be at least 3, .*got 2"),
            ({"encoder.conv_context_size": None}, "model.objective.steps must be at least 9, .*look 4 encoder frames"),
        ],
    )
    def test_a_look_ahead_that_leaves_nothing_to_predict_is_refused(self, tiny_model, config, message):
        with pytest.raises(ValueError, match=message):
            tiny_model({**FUTURE, **config})

    @pytest.mark.slow
    def test_a_target_shift_of_ones_own_asks_for_nothing_that_was_heard(self, tiny_model):
        model = tiny_model({**FUTURE, "target_shift": 3, "objective.steps": 4})
        assert [model.future_loss.first_step(ahead) for ahead in (0, 1)] == [3, 4]
        with pytest.raises(ValueError, match="model.objective.steps must be at least 3"):
            tiny_model({**FUTURE, "target_shift": 3, "objective.steps": 2})


class TestAllFuture:
    """Weights (0, 1) are NEST-RQ: nothing is masked."""

    @pytest.mark.slow
    @pytest.mark.parametrize("denoise", [True, False])
    @pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
    def test_nothing_is_masked_and_only_future_tokens_are_asked_for(self, tiny_model, audio, denoise, mask_position):
        config = {**DENSE, **FUTURE, **BOOKS, "mask_position": mask_position, "masking.freeze": False}
        model = tiny_model(config, denoise=denoise).train()
        masked = counted_forwards(model)
        model.mask_processor.forward = model.mask_processor.write = lambda *_, **__: 1 / 0
        batch = noisy_batch(*audio) if denoise else audio
        loss, logs = model.training_loss(batch)
        assert masked == [False]
        assert torch.equal(loss, logs["train_future_loss"])
        assert set(logs) == {
            "future_left_out",
            "train_future_loss",
            "train_future_acc_step1",
            "train_future_acc_step2",
        }
        grads = gradients(loss, model)
        assert all(gradient is not None for gradient in grads.values())
        assert not [name for name in grads if name.startswith(("decoder", "mask_processor"))]
        result = model.eval().inference_pass(batch)
        assert result["val_totals"] is None and result["val_loss"] > 0
        assert masked == [False] * 4

    @pytest.mark.parametrize("num_books", [1, 3])
    def test_the_loss_is_the_mean_over_valid_frames_steps_and_codebooks(self, tiny_model, audio, num_books):
        model = tiny_model({**FUTURE, "num_books": num_books, "squeeze_single": num_books == 1}).eval()
        features = model.speech_features(noisy_batch(*audio))
        context = model.attention_context.evaluation
        encoded, lengths, _ = model._encode(features, False, context)
        tokens, token_lengths = model.tokenize(features)
        tokens = tokens if tokens.dim() == 3 else tokens.unsqueeze(2)
        scores = model.future_heads.scores(encoded.transpose(1, 2)).log_softmax(-1)
        losses = []
        for utterance in range(2):
            for frame in range(int(lengths[utterance])):
                for step in (1, 2):  # with causal striding frame k predicts tokens k and k + 1
                    token = frame - 1 + step
                    if token < token_lengths[utterance]:
                        for book in range(num_books):
                            losses.append(-scores[utterance, frame, step - 1, book, tokens[utterance, token, book]])
        torch.testing.assert_close(loss_of(model, *audio), torch.stack(losses).mean())

    def test_a_left_context_of_zero_can_be_trained_since_nothing_is_masked(self, tiny_model, audio):
        model = tiny_model({**FUTURE, "encoder.att_context_size": [[0, 0], [8, 0]]})
        assert loss_of(model, *audio).isfinite()
        with pytest.raises(ValueError, match="must have left contexts above 0"):
            tiny_model({**BOTH, "encoder.att_context_size": [[0, 0], [8, 0]]})

    def test_padding_changes_nothing(self, tiny_model, audio):
        model = tiny_model({**FUTURE, **BOOKS}, denoise=False).eval()
        signal, lengths = audio
        sums = [model.training_loss(audio)[0]]
        alone = []
        for row, length in zip(signal, lengths, strict=True):
            features = model.speech_features((row[None, :length], length[None]))
            alone.append(model.evaluate_future(features, contexts=[model.attention_context.evaluation]).sums)
        total = torch.stack(alone).sum(0)[0].sum(0)
        torch.testing.assert_close(sums[0].double(), total[0] / total[2], rtol=1e-4, atol=0)

    def test_the_codebook_health_is_of_all_books(self, tiny_model, audio):
        model = tiny_model({**FUTURE, **BOOKS})
        loss_of(model, *audio)
        seen = model.codebook_health._ring[0].sum(-1)
        assert seen.shape == (2, 3) and (seen == seen[0, 0]).all() and seen[0, 0] > 100


class TestBoth:
    """One forward, two, or one of the two tasks for each micro-batch."""

    @pytest.mark.parametrize(("combination", "forwards"), [("one_forward", [True]), ("two_forwards", [True, False])])
    def test_the_loss_is_the_weighted_sum_of_the_terms(self, tiny_model, audio, combination, forwards):
        model = tiny_model({**DENSE, **BOTH, **BOOKS, "objective.combination": combination}).eval()
        masked = counted_forwards(model)
        torch.manual_seed(0)
        loss, logs = model.training_loss(noisy_batch(*audio))
        assert masked == forwards
        torch.testing.assert_close(loss, 0.25 * logs["train_masked_loss"] + 0.75 * logs["train_future_loss"])
        plain = tiny_model({**DENSE, **BOOKS}).eval()
        plain.load_state_dict(model.state_dict(), strict=False)
        torch.manual_seed(0)
        torch.testing.assert_close(loss_of(plain, *audio), logs["train_masked_loss"])
        future = model.evaluate_future(
            model.speech_features(noisy_batch(*audio)), contexts=[model.attention_context.evaluation]
        )
        same = torch.isclose(future.losses[0].float(), logs["train_future_loss"], rtol=1e-5)
        assert same == (combination == "two_forwards")

    @pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
    def test_each_batch_has_one_task_and_every_weight_a_gradient(self, tiny_model, audio, mask_position):
        model = tiny_model(
            {**DENSE, **BY_BATCH, **BOOKS, "mask_position": mask_position, "masking.freeze": False}
        ).train()
        masked, tasks = counted_forwards(model), []
        for count in range(12):
            loss, logs = model.training_loss(noisy_batch(*audio))
            tasks.append("train_masked_loss" in logs)
            assert ("train_future_loss" in logs) != tasks[-1]
            assert tasks[-1] == (model.context_sampler.remainder_at(count) < 0.5)
            assert model.attention_context.current == model.context_sampler.at(count)
            assert all(gradient is not None for gradient in gradients(loss, model).values())
        assert masked == tasks and len(set(tasks)) == 2

    def test_tasks_alternate_with_a_single_or_a_pinned_context_too(self, tiny_model, audio):
        model = tiny_model({**DENSE, **BY_BATCH, "encoder.att_context_size": [8, 0]}).train()
        single = ["train_masked_loss" in model.training_loss(noisy_batch(*audio))[1] for _ in range(8)]
        model = tiny_model({**DENSE, **BY_BATCH}).train()
        set_dynamic_context(model, [8, 0])
        pinned = ["train_masked_loss" in model.training_loss(noisy_batch(*audio))[1] for _ in range(8)]
        assert len(set(single)) == len(set(pinned)) == 2


class TestEvaluation:
    """Each term under each context, on data that never change."""

    @pytest.mark.parametrize("combination", ["one_forward", "two_forwards", "by_batch"])
    def test_each_context_has_figures_of_each_term(self, tiny_model, audio, combination):
        model = tiny_model({**DENSE, **BOTH, **BOOKS, "objective.combination": combination}).eval()
        batch = noisy_batch(*audio)
        state = torch.get_rng_state()
        with torch.inference_mode():
            results = [model.inference_pass(batch) for _ in range(2)]
        assert torch.equal(torch.get_rng_state(), state) and model.context_sampler.count == 0
        assert torch.equal(results[0]["val_future_totals"].sums, results[1]["val_future_totals"].sums)
        logs = model.multi_validation_epoch_end(results[:1])["log"]
        for label in ("8_0", "16_0", "-1_0"):
            masked, future = logs[f"val_masked_loss_{label}"], logs[f"val_future_loss_{label}"]
            torch.testing.assert_close(logs[f"val_loss_{label}"], 0.25 * masked + 0.75 * future)
            assert {f"val_acc_{label}", f"val_future_acc_step1_{label}", f"val_future_acc_step2_{label}"} <= set(logs)
        assert {"val_token_entropy", "val_token_entropy_given_1", "val_token_entropy_given_2"} <= set(logs)
        features = model.speech_features(batch)
        mask = model.evaluation_mask(features) if combination == "one_forward" else None
        expected = model.evaluate_future(features, mask)
        torch.testing.assert_close(results[0]["val_future_totals"].sums, expected.sums)

    def test_without_heads_there_is_nothing_to_evaluate(self, tiny_model, audio):
        model = tiny_model().eval()
        with pytest.raises(ValueError, match="model.objective.future must be above 0"):
            model.evaluate_future(model.speech_features(noisy_batch(*audio)))


class TestFiles:
    """Files with and without heads."""

    def test_a_model_survives_its_file_with_its_heads(self, tiny_model, audio, tmp_path):
        model = tiny_model({**BOTH, **BOOKS}).eval()
        model.save_to(str(tmp_path / "model.nemo"))
        restored = EncDecDenoiseMaskedTokenPredModel.restore_from(str(tmp_path / "model.nemo")).eval()
        assert restored.objective == model.objective
        ours, theirs = model.state_dict(), restored.state_dict()
        assert ours.keys() == theirs.keys() and {"future_heads.weight", "future_heads.bias"} <= ours.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())

    def test_it_starts_from_a_file_without_heads_and_says_so(self, tiny_model, tmp_path, monkeypatch):
        from omegaconf import OmegaConf

        other = tiny_model(seed=1)
        other.save_to(str(tmp_path / "masked.nemo"))
        model, told = tiny_model(BOTH), []
        monkeypatch.setattr(logging, "info", lambda message, *args, **kwargs: told.append(str(message)))
        source = OmegaConf.create({"init_from_nemo_model": str(tmp_path / "masked.nemo")})
        model.maybe_init_from_pretrained_checkpoint(source)
        assert any("Not in the file, and left as initialised: future_heads" in message for message in told)
        theirs = other.state_dict()
        assert all(
            torch.equal(value, theirs[name])
            for name, value in model.state_dict().items()
            if not name.startswith("future_heads")
        )


SMALL = {**DENSE, "encoder.n_layers": 1, "encoder.d_model": 16, "encoder.n_heads": 2, "optim.lr": 0.1, **BOOKS}


@pytest.mark.slow
class TestTraining:
    """Whole fits."""

    @staticmethod
    @pytest.fixture(scope="class")
    def train(tiny_model, training_data, fit):
        def run(objective, wrap=lambda model: None, model=None, **options):
            data = {"train_ds": training_data("speech", augmented=False), "validation_ds": training_data("other")}
            model = tiny_model({**SMALL, **data, **objective})
            wrap(model)
            torch.manual_seed(0)
            return fit(model, **options), model

        return run

    @pytest.mark.parametrize("objective", [FUTURE, BOTH, BY_BATCH], ids=["future", "both", "by batch"])
    def test_what_wraps_the_encoder_does_not_change_the_losses(self, train, objective):
        bare, _ = train(objective)
        assert len(set(bare.losses)) == 3

        def checkpoint(model):
            model.encoder = checkpoint_wrapper(model.encoder)

        def compiled(model):
            model.encoder = torch.compile(model.encoder, backend="eager", dynamic=True)

        for wrap in (checkpoint, compiled):
            wrapped, model = train(objective, wrap)
            assert wrapped.losses == pytest.approx(bare.losses, rel=1e-5)
            assert "future_heads.weight" in model.state_dict()
        assert train(objective, precision="bf16-mixed")[0].losses == pytest.approx(bare.losses, rel=0.02)

    def test_a_resumed_run_has_the_tasks_and_losses_of_an_unbroken_one(self, train, tmp_path):
        class Tasks(pl.Callback):
            def __init__(self):
                self.seen = []

            def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
                self.seen.append((model.attention_context.current, model.attention_context.remainder < 0.5))

        unbroken, first, second = Tasks(), Tasks(), Tasks()
        whole, _ = train(BY_BATCH, callbacks=[unbroken], max_steps=8)
        begun, _ = train(BY_BATCH, callbacks=[first], max_steps=4)
        begun.trainer.save_checkpoint(tmp_path / "half.ckpt")
        train(BY_BATCH, callbacks=[second], max_steps=8, ckpt_path=str(tmp_path / "half.ckpt"))
        assert first.seen + second.seen == unbroken.seen
        assert len({task for _, task in unbroken.seen}) == 2
        assert len(whole.losses) == 8

    def test_accumulated_batches_each_have_a_task_and_validation_reports_both_terms(self, train):
        run, model = train(BY_BATCH, max_steps=2, accumulate_grad_batches=2, limit_val_batches=1.0)
        assert model.context_sampler.count == 4 and len(run.losses) == 4
        assert {"val_masked_loss_8_0", "val_future_loss_8_0", "val_future_acc_step2_-1_0"} <= set(run.validations[-1])
        tested, *_ = run.trainer.validate(model, verbose=False)
        again, *_ = run.trainer.validate(model, verbose=False)
        assert tested == again


def test_where_frames_are_not_located_the_sums_are_the_same(tiny_model, audio):
    """A GPU predicts from all frames, since locating those that count would wait for it."""
    model = tiny_model({**FUTURE, **BOOKS}).eval()
    features = model.speech_features(noisy_batch(*audio))
    encoded, lengths, _ = model._encode(features, False, None)
    tokens, token_lengths = model.tokenize(features)
    sums, _, targets = model._future_sums(encoded, lengths, tokens, token_lengths, (0,))
    every = model.future_loss.targets(tokens, token_lengths, encoded.shape[2], lengths)
    flat = type(every)(*(part.flatten(0, 1) for part in every))
    whole, _ = model.future_heads(encoded.transpose(1, 2).flatten(0, 1), flat)
    assert len(targets.ids) < len(flat.ids)
    torch.testing.assert_close(sums.by_step, whole.by_step)
    torch.testing.assert_close(sums.mean, whole.mean)
