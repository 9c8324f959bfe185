"""What the streaming tests share: a tiny model, audio, and the frames of a stream and of the offline encoder."""

import copy
from collections.abc import Iterable

import torch
from omegaconf import OmegaConf
from torch import nn

from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS
from nemo.collections.asr.parts.streaming import EncoderStream

CLOSE = 1e-4
FRAME = 1280
"""Samples of an encoder frame."""

CHUNKED = dict(att_context_style="chunked_limited", att_context_size=[[70, 13], [70, 6], [70, 1], [70, 0]])


class TinyModel(nn.Module):
    """The least that a stream needs of a model, with weights that make every part of the encoder matter."""

    def __init__(self, seed: int = 0, **encoder):
        super().__init__()
        torch.manual_seed(seed)
        self.preprocessor = AudioToMelSpectrogramPreprocessor(
            normalize="NA", window_size=0.025, features=16, n_fft=512, pad_to=0, dither=0.0
        )
        sizes = dict(feat_in=16, n_layers=2, d_model=16, n_heads=2, subsampling="dw_striding", subsampling_factor=8)
        sizes |= dict(subsampling_conv_channels=4, causal_downsampling=True, conv_context_size="causal")
        sizes |= dict(conv_norm_type="layer_norm", conv_kernel_size=5, att_context_size=[[8, 0], [16, 0], [-1, 0]])
        self.encoder = ConformerEncoder(**{**sizes, **encoder})
        self.cfg = OmegaConf.create({"context_presets": {"own": [24, 0]}})
        for name, parameter in self.named_parameters():
            if "pos_bias" in name:
                nn.init.normal_(parameter)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.2, 2.0)
        self.eval()


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    """Noise with a moving envelope, `[N]`."""
    generator = torch.Generator().manual_seed(seed)
    envelope = torch.rand(samples // 1000 + 1, generator=generator).repeat_interleave(1000)[:samples]
    return 0.1 * envelope * torch.randn(samples, generator=generator)


def batch(lengths: Iterable[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Audio `[B, N]` of the given lengths, and the lengths `[B]`."""
    lengths = torch.tensor(list(lengths))
    audio = torch.stack([noise(max(1, int(lengths.max())), seed) for seed in range(len(lengths))])
    return audio * (torch.arange(audio.shape[1]) < lengths[:, None]), lengths


@torch.no_grad()
def offline(model, context, audio: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
    """The valid encoder frames `[D, S]` of each utterance from a whole forward in evaluation."""
    model = copy.deepcopy(model).eval()
    model.encoder.att_context_size = list(
        CONTEXT_PRESETS.get(context, context) if isinstance(context, str) else context
    )
    features, counts = model.preprocessor(input_signal=audio, length=lengths)
    frames, counts = model.encoder(audio_signal=features, length=counts)
    return [row[:, :count] for row, count in zip(frames, counts, strict=True)]


def streamed(stream: EncoderStream, audio: torch.Tensor, lengths: torch.Tensor, cuts: list[int]) -> list[torch.Tensor]:
    """The same from a stream; `cuts` are the sizes of the pieces, the last one for all that follow."""
    pieces = [[] for _ in lengths]
    begin, cuts = 0, iter([*cuts, *[cuts[-1]] * (audio.shape[1] // cuts[-1] + 1)])
    while begin < audio.shape[1]:
        piece = audio[:, begin : begin + next(cuts)]
        collect(pieces, stream.push(piece, (lengths - begin).clamp(0, piece.shape[1])))
        begin += piece.shape[1]
    collect(pieces, stream.finish())
    return [torch.cat(row, dim=-1) for row in pieces]


def collect(pieces: list[list[torch.Tensor]], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Appends each stream's own frames of a push, and checks that the rest is zero."""
    for row, frames, count in zip(pieces, *output, strict=True):
        assert (frames[:, count:] == 0).all()
        row.append(frames[:, :count])


def assert_same_frames(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    """The same number of frames of every utterance, and the same values to 1e-4."""
    assert [row.shape for row in ours] == [row.shape for row in theirs]
    for own, row in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, row, rtol=0, atol=CLOSE)
