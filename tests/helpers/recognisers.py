"""Tiny NeMo recognisers with random weights that spell a lot, and their offline decoding."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from stream_cases import batch

from nemo.collections.asr.models import EncDecCTCModelBPE, EncDecHybridRNNTCTCModel
from nemo.collections.asr.parts.streaming.offline import encode

LETTERS = list("abcd ")
MODULES = "nemo.collections.asr.modules"
FEATURES = dict(normalize="NA", window_size=0.025, features=16, n_fft=512, pad_to=0, dither=0.0)
ENCODER = dict(
    feat_in=16,
    n_layers=2,
    d_model=16,
    n_heads=2,
    subsampling="dw_striding",
    subsampling_factor=8,
    subsampling_conv_channels=4,
    causal_downsampling=True,
    conv_context_size="causal",
    conv_norm_type="layer_norm",
    conv_kernel_size=5,
    att_context_size=[[8, 0], [16, 0], [-1, 0]],
    dropout=0.1,
)


def _parts(encoder: dict[str, Any]) -> dict[str, Any]:
    return dict(
        sample_rate=16000,
        preprocessor=dict(_target_=f"{MODULES}.AudioToMelSpectrogramPreprocessor", **FEATURES),
        encoder=dict(_target_=f"{MODULES}.ConformerEncoder", **{**ENCODER, **encoder}),
    )


def tiny_hybrid(max_symbols: int = 10, strategy: str = "greedy_batch", **encoder: Any) -> EncDecHybridRNNTCTCModel:
    """RNNT and CTC with characters. Both networks are made to say much."""
    defaults = dict(enc_hidden=16, pred_hidden=8, joint_hidden=8)
    decoder = dict(_target_=f"{MODULES}.RNNTDecoder", normalization_mode=None, random_state_sampling=False)
    decoder |= dict(blank_as_pad=True, prednet=dict(pred_hidden=8, pred_rnn_layers=2, t_max=None, dropout=0.1))
    joint = dict(_target_=f"{MODULES}.RNNTJoint", log_softmax=None, preserve_memory=False, fuse_loss_wer=False)
    joint |= dict(fused_batch_size=2, jointnet=dict(joint_hidden=8, activation="relu", dropout=0.1))
    ctc = dict(_target_=f"{MODULES}.ConvASRDecoder", feat_in=16, num_classes=len(LETTERS), vocabulary=LETTERS)
    config = dict(
        **_parts(encoder),
        labels=LETTERS,
        model_defaults=defaults,
        decoder=decoder,
        joint=joint,
        decoding=dict(strategy=strategy, greedy=dict(max_symbols=max_symbols)),
        aux_ctc=dict(ctc_loss_weight=0.3, decoder=ctc, decoding=dict(strategy="greedy")),
        loss=dict(loss_name="pytorch"),
    )
    torch.manual_seed(0)
    model = EncDecHybridRNNTCTCModel(OmegaConf.create(config)).eval()
    with torch.no_grad():
        for parameter in [*model.decoder.parameters(), *model.joint.parameters()]:
            parameter.mul_(3.0)
        model.joint.enc.bias.copy_(-model.joint.enc.weight @ _mean_frame(model))
    _let_ctc_speak(model, model.ctc_decoder)
    return model


def _mean_frame(model: Any) -> torch.Tensor:
    """The mean of the encoder's frames, `[D]`: what differs from it has to matter."""
    return encode(model, batch([48000])[0], context=[8, 0])[0][0].mean(1)


@torch.no_grad()
def _let_ctc_speak(model: Any, decoder: Any) -> None:
    layer = decoder.decoder_layers[0]
    layer.weight.mul_(6.0)
    layer.bias.copy_(-layer.weight[:, :, 0] @ _mean_frame(model))


def tiny_ctc_bpe(tokenizer_dir: Path, **encoder: Any) -> EncDecCTCModelBPE:
    """CTC with subwords."""
    config = dict(
        **_parts(encoder),
        tokenizer=dict(dir=str(tokenizer_dir), type="bpe"),
        decoder=dict(_target_=f"{MODULES}.ConvASRDecoder", feat_in=16, num_classes=-1, vocabulary=[]),
    )
    torch.manual_seed(0)
    model = EncDecCTCModelBPE(OmegaConf.create(config)).eval()
    _let_ctc_speak(model, model.decoder)
    return model


@torch.no_grad()
def offline_transcripts(
    model: Any, audio: Any, lengths: Any, context: Any, decoder: str
) -> list[tuple[str, list, list]]:
    """Text, token ids and their encoder frames of each utterance, by NeMo's own greedy decoding."""
    frames, counts = encode(model, audio, lengths, context)
    if decoder == "rnnt":
        found = model.decoding.rnnt_decoder_predictions_tensor(frames, counts, return_hypotheses=True)
        return [(one.text, [int(token) for token in one.y_sequence], _times(one.timestamp)) for one in found]
    head, decoding = getattr(model, "ctc_decoder", model.decoder), getattr(model, "ctc_decoding", model.decoding)
    scores = head(encoder_output=frames)
    found = decoding.ctc_decoder_predictions_tensor(scores, counts, return_hypotheses=True)
    transcripts = []
    for one, row, count in zip(found, scores, counts.tolist(), strict=True):
        best = row[:count].argmax(1).tolist()
        blank = scores.shape[2] - 1
        kept = [k for k, token in enumerate(best) if token != blank and (k == 0 or best[k - 1] != token)]
        transcripts.append((one.text, [best[k] for k in kept], kept))
    return transcripts


def _times(timestamp: Any) -> list[int]:
    frames = timestamp["timestep"] if isinstance(timestamp, dict) else timestamp
    return [int(frame) for frame in frames]
