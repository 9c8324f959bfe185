"""`trainer.predict`: encoder frames of clean speech."""

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset


@pytest.fixture
def trainer():
    return pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_checkpointing=False
    )


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
def test_predict_gives_the_frames_of_the_unmasked_audio(tiny_model, trainer, audio, denoise, mask_position):
    model = tiny_model({"mask_position": mask_position}, denoise=denoise)
    model.encoder.att_context_size = [8, 0]
    ((frames, lengths),) = trainer.predict(model, DataLoader(TensorDataset(*audio), batch_size=2))
    model.eval()
    with torch.inference_mode():
        features, feature_lengths = model.preprocessor(input_signal=audio[0], length=audio[1])
        expected, expected_lengths = model.encoder(audio_signal=features, length=feature_lengths)
    torch.testing.assert_close(frames, expected)
    assert lengths.tolist() == expected_lengths.tolist()


@pytest.mark.slow
def test_batches_of_the_models_own_data_sets_are_predicted_without_their_noise(tiny_model, training_data, trainer):
    model = tiny_model({"validation_ds": training_data("other")})
    noisy = trainer.predict(model, model.val_dataloader())
    model = tiny_model({"validation_ds": training_data("other", augmented=False)})
    clean = trainer.predict(model, model.val_dataloader())
    assert len(noisy) == len(clean) == 2
    for (frames, lengths), (expected, expected_lengths) in zip(noisy, clean, strict=True):
        torch.testing.assert_close(frames, expected)
        assert lengths.tolist() == expected_lengths.tolist()


def test_what_is_no_batch_is_refused_with_what_is_allowed(tiny_model, trainer):
    with pytest.raises(TypeError, match=r"batch must be \(audio \[B, N\], lengths \[B\]\) or a batch of .*got Tensor"):
        trainer.predict(tiny_model(), DataLoader(torch.zeros(2, 16000), batch_size=2))
