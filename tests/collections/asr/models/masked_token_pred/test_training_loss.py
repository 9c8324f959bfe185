"""The training loss: of masked frames alone as of all frames, 0 where there are none."""

import pytest
import torch
from pretraining_batches import DENSE, loss_of, noisy_batch

from nemo.collections.asr.models.ssl_models import EncDecDenoiseMaskedTokenPredModel


@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
def test_a_batch_without_targets_has_loss_zero_and_a_gradient(tiny_model, audio, mask_position):
    model = tiny_model({"masking.mask_prob": 0.0, "mask_position": mask_position}).train()
    loss = loss_of(model, *audio)
    assert loss == 0
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
def test_scoring_the_targets_alone_changes_neither_loss_nor_gradient(
    tiny_model, audio, monkeypatch, denoise, mask_position
):
    model = tiny_model({**DENSE, "mask_position": mask_position}, denoise=denoise).eval()
    decoded, codebook = [], []
    model.decoder.register_forward_hook(lambda decoder, _, log_probs: decoded.append(log_probs.shape[:2].numel()))

    def loss_and_gradient(alone: bool):
        monkeypatch.setattr(type(model), "_decodes_targets_alone", alone)
        torch.manual_seed(1)  # the masks
        model.codebook_health.reset()
        loss = loss_of(model, *audio)
        codebook.append(model.codebook_health.compute())
        return loss, *torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])

    assert model._decodes_targets_alone
    ours, expected = loss_and_gradient(True), loss_and_gradient(False)
    assert 0 < decoded[0] < decoded[1]
    assert codebook[0] == codebook[1] and codebook[0]["target_perplexity"] > 1
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("future", [0.0, 1.0])
def test_features_train_as_the_batch_that_they_are_of(tiny_model, audio, future):
    model = tiny_model({**DENSE, "objective": {"masked": 1.0, "future": future}}).eval()
    losses = []
    for batch in (noisy_batch(*audio), model.speech_features(noisy_batch(*audio))):
        torch.manual_seed(1)  # the masks
        losses.append(model.training_loss(batch)[0])
    assert losses[0] == losses[1] > 0


def test_a_forward_of_somebodys_own_is_the_one_that_trains(tiny_model, audio):
    class Louder(EncDecDenoiseMaskedTokenPredModel):
        def forward(self, *args, **kwargs):
            log_probs, *others = super().forward(*args, **kwargs)
            return 2 * log_probs, *others

    model = tiny_model(DENSE).eval()
    torch.manual_seed(1)
    expected = 2 * loss_of(model, *audio)
    model.__class__ = Louder
    torch.manual_seed(1)
    torch.testing.assert_close(loss_of(model, *audio), expected)
