"""Every trained context is evaluated on masks that are the same in every epoch and run."""

import pytest
import torch
from pretraining_batches import DENSE, noisy_batch

from nemo.collections.asr.parts.utils.streaming_utils import dynamic_context, set_dynamic_context


class TestEvaluation:
    """Validation under every trained context."""

    @pytest.fixture(scope="class")
    def model(self, tiny_model):
        return tiny_model(DENSE).eval()

    def test_each_context_gets_its_own_loss_on_the_same_masks(self, model, audio, monkeypatch):
        seen = []
        encode = model._encode
        monkeypatch.setattr(model, "_encode", lambda *args: seen.append(encode(*args)) or seen[-1])
        result = model.inference_pass(noisy_batch(*audio))
        assert len(seen) == 3
        for _, _, masks in seen[1:]:
            torch.testing.assert_close(masks, seen[0][2])
        totals = result["val_totals"]
        assert [str(context) for context in totals.contexts] == ["[8, 0]", "[16, 0]", "[-1, 0]"]
        assert len(set(totals.losses.tolist())) == 3
        torch.testing.assert_close(result["val_loss"].double(), totals.losses.mean(), atol=1e-6, rtol=0)

    def test_a_contexts_loss_is_that_of_a_forward_under_it(self, model, audio):
        result = model.inference_pass(noisy_batch(*audio))["val_totals"]
        features = model.speech_features(noisy_batch(*audio))
        mask = model.evaluation_mask(features, 0, 0)
        for row, left in enumerate([8, 16, -1]):
            with dynamic_context(model, [left, 0]):
                encoded, lengths, masks = model._encode(features, True, None, mask)
            outputs, tokens = model.decoder(encoder_output=encoded), model._tokens(features, lengths)
            loss = model.loss(masks=masks, decoder_outputs=outputs, targets=tokens, decoder_lengths=lengths)
            torch.testing.assert_close(loss.double(), result.losses[row], atol=1e-6, rtol=1e-5)

    @pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
    def test_masks_are_the_same_in_every_run_and_differ_between_batches(self, tiny_model, audio, mask_position):
        model = tiny_model({**DENSE, "mask_position": mask_position}).eval()
        twin = tiny_model(
            {**DENSE, "mask_position": mask_position, "masking.causal": False, "masking.causal_window": "tail"}, seed=3
        ).eval()
        features = model.speech_features(noisy_batch(*audio))
        state = torch.get_rng_state()
        first = model.evaluation_mask(features, 0, 0)
        torch.manual_seed(17)
        assert torch.equal(first, model.evaluation_mask(features, 0, 0))
        assert torch.equal(first, twin.evaluation_mask(features, 0, 0))
        assert not torch.equal(first, model.evaluation_mask(features, 1, 0))
        assert not torch.equal(first, model.evaluation_mask(features, 0, 1))
        torch.set_rng_state(state)
        model.inference_pass(noisy_batch(*audio))
        assert torch.equal(torch.get_rng_state(), state)

    def test_no_context_has_a_blind_target(self, model, audio):
        """Masks are opened for the smallest trained left context, 8 encoder frames."""
        features = model.speech_features(noisy_batch(*audio))
        for batch_idx in range(20):
            mask = model.evaluation_mask(features, batch_idx, 0)
            for utterance, length in zip(mask, features.noisy_lengths, strict=True):
                hidden = [bool(group.all()) for group in utterance[: length // 8 * 8].view(-1, 8)]
                assert not hidden[0]
                assert all(not all(hidden[max(0, k - 8) : k + 1]) for k in range(1, len(hidden)))

    def test_context_and_mode_are_restored_after_an_error(self, model, audio):
        before = list(model.encoder.att_context_size)
        handle = model.decoder.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.inference_pass(noisy_batch(*audio))
        handle.remove()
        assert model.encoder.att_context_size == before

    def test_a_pin_does_not_narrow_it_and_a_list_does(self, tiny_model, audio):
        model = tiny_model(DENSE).eval()
        set_dynamic_context(model, [16, 0])
        assert len(model.inference_pass(noisy_batch(*audio))["val_totals"].contexts) == 3
        model.validation_contexts = [[8, 0], [24, 0]]
        totals = model.inference_pass(noisy_batch(*audio))["val_totals"]
        assert [context.label for context in totals.contexts] == ["8_0", "24_0"]
        with pytest.raises(ValueError, match="validation_contexts"):
            model.validation_contexts = [[8, 0, 1]]
        assert len(model.validation_contexts) == 2
        model.validation_contexts = None
        assert len(model.validation_contexts) == 3

    def test_epochs_are_summed_by_targets_and_named_by_context(self, model, audio):
        signal, lengths = audio
        batches = [noisy_batch(signal, lengths), noisy_batch(signal[:, :20000], lengths.clamp(max=20000))]
        outputs = [model.inference_pass(batch, index) for index, batch in enumerate(batches)]
        logs = model.multi_validation_epoch_end(outputs)["log"]
        assert set(logs) == {"val_loss"} | {
            f"val_{figure}_{context}" for figure in ("loss", "acc") for context in ("8_0", "16_0", "-1_0")
        }
        sums = outputs[0]["val_totals"].sums + outputs[1]["val_totals"].sums
        torch.testing.assert_close(logs["val_loss_8_0"].double(), sums[0, 0] / sums[0, 2], atol=1e-6, rtol=0)
        assert outputs[0]["val_totals"].sums[0, 2] != outputs[1]["val_totals"].sums[0, 2]
