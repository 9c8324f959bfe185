"""Batches for pretraining models, and the loss of one without a trainer."""

import torch

from nemo.collections.asr.data.ssl_dataset import AudioNoiseBatch
from nemo.collections.asr.models.ssl_models import EncDecDenoiseMaskedTokenPredModel

DENSE = {"masking.mask_prob": 0.15}
"""Masks enough of a few seconds that there are always targets."""


def noisy_batch(audio, lengths) -> AudioNoiseBatch:
    noise = 0.01 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(1))
    return AudioNoiseBatch(
        audio=audio,
        audio_len=lengths,
        noise=noise,
        noise_len=lengths,
        noisy_audio=audio + noise,
        noisy_audio_len=lengths,
    )


def loss_of(model, audio, lengths):
    """The training loss of one batch, as `training_step` computes it, without a trainer."""
    denoise = isinstance(model, EncDecDenoiseMaskedTokenPredModel)
    batch = noisy_batch(audio, lengths) if denoise else (audio, lengths)
    return model.training_loss(batch)[0]
