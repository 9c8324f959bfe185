"""Text from the frames of a stream is the text of the offline model."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from stream_cases import noise, streamed
from torch import nn

from nemo.collections.asr.models import EncDecCTCModel
from nemo.collections.asr.parts.streaming import EncoderStream

LETTERS = "abcd"
"""What the recogniser spells; each letter is a pitch."""


def spoken(text: str) -> torch.Tensor:
    """0.16 s of tone and 0.08 s of noise for each letter, `[N]`."""
    time = torch.arange(2560) / 16000
    parts = [noise(1280)]
    for letter in text:
        parts += [0.3 * torch.sin(2 * torch.pi * 400 * 2 ** LETTERS.index(letter) * time), noise(1280)]
    return torch.cat(parts)


@pytest.fixture(scope="module")
def recogniser() -> EncDecCTCModel:
    """A NeMo CTC model that has learned to spell tones."""
    modules = "nemo.collections.asr.modules"
    features = dict(normalize="NA", window_size=0.025, features=16, n_fft=512, pad_to=0, dither=0.0)
    encoder = dict(feat_in=16, n_layers=1, d_model=32, n_heads=2, subsampling="dw_striding", subsampling_factor=4)
    encoder |= dict(subsampling_conv_channels=8, causal_downsampling=True, conv_context_size="causal")
    encoder |= dict(conv_norm_type="layer_norm", conv_kernel_size=5, att_context_size=[8, 0])
    encoder |= dict(dropout=0.0, dropout_pre_encoder=0.0, dropout_emb=0.0, dropout_att=0.0)
    decoder = dict(feat_in=32, num_classes=len(LETTERS), vocabulary=list(LETTERS))
    config = dict(
        preprocessor=dict(_target_=f"{modules}.AudioToMelSpectrogramPreprocessor", **features),
        encoder=dict(_target_=f"{modules}.ConformerEncoder", **encoder),
        decoder=dict(_target_=f"{modules}.ConvASRDecoder", **decoder),
        labels=list(LETTERS),
        sample_rate=16000,
    )
    torch.manual_seed(0)
    model = EncDecCTCModel(OmegaConf.create(config)).train()
    generator, optimizer = np.random.default_rng(0), torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(120):
        letters = generator.integers(0, len(LETTERS), size=(4, 6))
        audio = torch.stack([spoken("".join(LETTERS[index] for index in row)) for row in letters])
        log_probs, counts, _ = model(input_signal=audio, input_signal_length=torch.full((4,), audio.shape[1]))
        loss = model.loss(
            log_probs=log_probs,
            targets=torch.from_numpy(letters),
            input_lengths=counts,
            target_lengths=torch.full((4,), 6),
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["abcdabcd", "ddacbbadcabcda"])
@torch.no_grad()
def test_a_recogniser_writes_the_offline_text(recogniser, text):
    audio = spoken(text)[None]
    lengths = torch.tensor([audio.shape[1]])
    log_probs, counts, _ = recogniser(input_signal=audio, input_signal_length=lengths)
    (frames,) = streamed(EncoderStream(recogniser), audio, lengths, [1000])
    live = recogniser.decoder(encoder_output=frames[None])
    expected = recogniser.decoding.ctc_decoder_predictions_tensor(log_probs, counts)[0].text
    heard = recogniser.decoding.ctc_decoder_predictions_tensor(live, torch.tensor([frames.shape[1]]))[0].text
    assert heard == expected == text
