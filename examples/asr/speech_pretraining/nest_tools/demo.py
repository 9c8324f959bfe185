"""The steps of the demo: pretraining, evaluation at every preset, a live stream, and the table of results."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import OmegaConf

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.modules.ssl_modules.token_distribution import TokenDistribution
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS
from nemo.collections.asr.parts.utils.markdown import markdown_table
from nemo.collections.asr.parts.utils.streaming_utils import EncoderStream, encode
from nest_tools.audio import AudioReader
from nest_tools.corpus import Corpus
from nest_tools.cpu_training import cpu_training_environment
from nest_tools.features import frame_seconds, left_seconds
from nest_tools.utterances import Utterance

PRETRAINING = Path(__file__).resolve().parent.parent / "masked_token_pred_pretrain.py"


def pretrain(corpus: Corpus, out: Path, steps: int) -> Path:
    """Trains with the pretraining script, which goes on from its last checkpoint, and returns the `.nemo` file."""
    options = {
        "model.train_ds.manifest_filepath": corpus.train_manifest,
        "model.validation_ds.manifest_filepath": corpus.validation_manifest,
        "trainer.max_steps": steps,
        "exp_manager.exp_dir": out,
    }
    command = [sys.executable, str(PRETRAINING), "--config-name", "nest_streaming_demo"]
    command += [f"{key}={value}" for key, value in options.items()]
    subprocess.run(command, check=True, env=cpu_training_environment())
    return max(out.glob("*/checkpoints/*.nemo"), key=lambda file: file.stat().st_mtime)


def evaluate(model: EncDecDenoiseMaskedTokenPredModel, corpus: Corpus) -> dict[str, dict[str, float]]:
    """Loss (nats) and accuracy of masked prediction on the validation speech, by preset, on the same masks."""
    model.validation_contexts = list(CONTEXT_PRESETS.values())
    data = OmegaConf.create(model.cfg.validation_ds)
    data.manifest_filepath, data.noise_manifest = str(corpus.validation_manifest), None
    model.setup_validation_data(data)
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    metrics = trainer.validate(model, dataloaders=model.val_dataloader(), verbose=False)[0]
    return {
        name: {"loss": metrics[f"val_loss_{left}_{right}"], "accuracy": metrics[f"val_acc_{left}_{right}"]}
        for name, (left, right) in CONTEXT_PRESETS.items()
    }


def token_statistics(model: EncDecDenoiseMaskedTokenPredModel) -> dict[str, float]:
    """What is known of the validation's tokens without listening: entropy (nats), perplexity, largest share."""
    distribution = TokenDistribution(model.quantizer.num_classes, model.quantizer.num_books)
    for batch in model.val_dataloader():
        distribution.update(*model.tokenize(model.speech_features(batch)))
    return {
        "entropy": distribution.entropy,
        "perplexity": distribution.perplexity,
        "largest_share": distribution.largest_share,
    }


@dataclass(frozen=True)
class LiveResult:
    """An utterance streamed in small pieces, beside the encoder run offline."""

    context: str
    seconds: float
    frames: int
    difference: float
    """The largest one."""


def stream(
    model: EncDecDenoiseMaskedTokenPredModel, wav: Path, context: str, chunk_seconds: float = 0.1
) -> LiveResult:
    """Pushes a file through an `EncoderStream` in small pieces and compares it with the encoder run offline.

    Raises:
        RuntimeError: the stream gave another number of frames than the encoder offline.
    """
    with EncoderStream(model, context) as live:
        rate = live.sample_rate
        audio = torch.from_numpy(AudioReader(rate).read(Utterance.of_file(wav)))
        pieces: list[Any] = [live.push(piece)[0] for piece in audio.split(int(chunk_seconds * rate))]
        pieces.append(live.finish()[0])
        frames = torch.cat(pieces, dim=2)
    offline, _ = encode(model, audio, context=context)
    if frames.shape != offline.shape:
        raise RuntimeError(f"the stream gave frames {list(frames.shape)}, the encoder offline {list(offline.shape)}")
    difference = float((frames - offline).abs().max())
    return LiveResult(context, len(audio) / rate, frames.shape[2], difference)


def results_table(
    model: EncDecDenoiseMaskedTokenPredModel, results: dict[str, dict[str, float]], tokens: dict[str, float]
) -> str:
    """Markdown: a row for each preset, then what the rows are to be compared with."""
    rows: list[tuple[Any, ...]] = []
    for name, (left, right) in CONTEXT_PRESETS.items():
        seconds, row = left_seconds(left, frame_seconds(model)), results[name]
        rows.append((name, [left, right], seconds, f"{row['loss']:.3f}", f"{100 * row['accuracy']:.1f} %"))
    header = ("context", "attention", "left", "validation loss", "masked-token accuracy")
    return (
        f"{markdown_table(header, rows)}\n\n"
        f"The same tokens by their frequency alone: entropy {tokens['entropy']:.3f} nats (perplexity "
        f"{tokens['perplexity']:.1f}), most frequent token {100 * tokens['largest_share']:.1f} %."
    )
