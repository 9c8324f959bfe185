"""The steps of the demo: pretraining, evaluation, a phone probe, a live stream, and the table of results."""

import math
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
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS, AttentionContext
from nemo.collections.asr.parts.utils.markdown import markdown_table
from nemo.collections.asr.parts.utils.streaming_utils import EncoderStream, encode
from nest_tools.audio import AudioReader
from nest_tools.corpus import Corpus
from nest_tools.cpu_training import cpu_training_environment
from nest_tools.features import frame_seconds, left_seconds
from nest_tools.probe import probe, read_labelled, untrained
from nest_tools.utterances import Utterance

PRETRAINING = Path(__file__).resolve().parent.parent / "masked_token_pred_pretrain.py"

PROBE_MINUTES = 8.0
"""Speech that the phone probe is fitted on."""


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


def evaluate(
    model: EncDecDenoiseMaskedTokenPredModel, corpus: Corpus
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The objective on the validation speech under every context, and what needs no hearing.

    Returns:
        A row for each context, those trained and the presets: `context`, `name` (of the preset, or an empty one),
        `loss` (nats), `accuracies` of the next tokens by step. And `entropy` of the tokens by frequency,
        `given_earlier`, the mean cross-entropy given an earlier token, `perplexity` and `most_frequent`, means over
        the codebooks.
    """
    contexts = sorted(
        {*model.encoder.context.trained, *map(AttentionContext.parse, CONTEXT_PRESETS.values())},
        key=lambda context: context.left if context.left >= 0 else math.inf,
    )
    model.validation_contexts = contexts
    data = OmegaConf.create(model.cfg.validation_ds)
    data.manifest_filepath, data.noise_manifest = str(corpus.validation_manifest), None
    model.setup_validation_data(data)
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    metrics = trainer.validate(model, dataloaders=model.val_dataloader(), verbose=False)[0]
    names = {AttentionContext.parse(sizes): name for name, sizes in CONTEXT_PRESETS.items()}
    steps = range(1, model.objective.steps + 1)
    rows = [
        {
            "context": context.as_list(),
            "name": names.get(context, ""),
            "loss": metrics[f"val_future_loss_{context.label}"],
            "accuracies": [metrics[f"val_future_acc_step{step}_{context.label}"] for step in steps],
        }
        for context in contexts
    ]
    distribution = TokenDistribution(model.quantizer.num_classes, model.quantizer.num_books)
    for batch in model.val_dataloader():
        distribution.update(*model.tokenize(model.speech_features(batch)))
    tokens = {
        "entropy": distribution.entropy,
        "given_earlier": sum(metrics[f"val_token_entropy_given_{step}"] for step in steps) / len(steps),
        "perplexity": distribution.perplexity,
        "most_frequent": distribution.largest_share,
    }
    return rows, tokens


def probe_phones(
    model: EncDecDenoiseMaskedTokenPredModel, corpus: Corpus, contexts: list[list[int]]
) -> dict[str, float]:
    """The share of frames whose phone a linear probe finds: by context, in random weights, and in log-mels."""
    reader = AudioReader(model.cfg.preprocessor.sample_rate)
    train, _ = read_labelled(corpus.train_manifest, reader, PROBE_MINUTES)
    test, _ = read_labelled(corpus.validation_manifest, reader)
    rows = probe(model, train, test, contexts, online=False)
    found = {row["frames"]: row["offline"] for row in rows}
    random = probe(untrained(model), train, test, contexts[:1], online=False, baselines=False, progress=False)
    return {**found, "random weights": random[0]["offline"]}


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
    model: EncDecDenoiseMaskedTokenPredModel,
    rows: list[dict[str, Any]],
    tokens: dict[str, float],
    phones: dict[str, float],
) -> str:
    """Markdown: a row for each context, then what the rows are to be compared with."""
    cells: list[tuple[Any, ...]] = []
    for row in rows:
        seconds = left_seconds(row["context"][0], frame_seconds(model))
        found = phones.get(str(row["context"]))
        cells.append(
            (
                row["name"],
                row["context"],
                seconds,
                f"{row['loss']:.3f}",
                f"{100 * row['accuracies'][0]:.1f} %",
                "-" if found is None else f"{100 * found:.1f} %",
            )
        )
    cells += [
        ("by earlier tokens", "", "", f"{tokens['given_earlier']:.3f}", "", ""),
        ("by frequency", "", "", f"{tokens['entropy']:.3f}", f"{100 * tokens['most_frequent']:.1f} %", ""),
        ("random weights", "", "", "", "", f"{100 * phones['random weights']:.1f} %"),
        ("log-mels", "", "", "", "", f"{100 * phones['log-mels']:.1f} %"),
    ]
    return markdown_table(("context", "attention", "left", "validation loss", "next token", "phones found"), cells)
