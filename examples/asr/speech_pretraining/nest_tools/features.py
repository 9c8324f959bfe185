"""Encoder frames of audio files at several contexts, as `.npz` files."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nemo.collections.asr.parts.utils.markdown import markdown_table
from nemo.collections.asr.parts.utils.streaming_utils import dynamic_context, encode
from nest_tools.audio import AudioReader
from nest_tools.command import parse_context, written_whole
from nest_tools.utterances import Skipped, Utterance


@dataclass
class ContextFigures:
    """What was computed at one context."""

    name: str
    """As it was given on the command line."""
    sizes: list[int]
    """`[left, right]`, in encoder frames."""
    frames: int = 0
    seconds: float = 0.0
    """Of audio."""
    computing: float = 0.0
    """Seconds that the encoder took."""


def extract(
    model: Any, utterances: Sequence[Utterance], contexts: Sequence[str], out: Path, convert: bool = False
) -> tuple[list[ContextFigures], list[Skipped]]:
    """Writes `out/NAME.npz` for each utterance that can be used: an array [S, D], float32, for each context.

    Args:
        model: any NeMo model with a Conformer encoder and a preprocessor.
        utterances: with distinct names.
        contexts: names of presets, or `left,right`.
        convert: as in `AudioReader`.

    Returns:
        The figures of each context, and the utterances that were left out.

    Raises:
        TypeError, ValueError: a context that the model cannot take, before anything is computed.
    """
    figures = []
    for name in contexts:
        with dynamic_context(model, parse_context(name)) as sizes:
            figures.append(ContextFigures(name, sizes))
    out.mkdir(parents=True, exist_ok=True)
    reader = AudioReader(model.cfg.preprocessor.sample_rate, convert)
    skipped: list[Skipped] = []
    shown = tqdm(utterances, desc="Utterances", unit="file")
    for utterance, samples in reader.read_each(shown, skipped):
        arrays: dict[str, Any] = {}
        for row in figures:
            start = time.perf_counter()
            frames, _ = encode(model, samples, context=row.sizes)
            arrays[row.name] = frames[0].T.float().cpu().numpy()
            row.computing += time.perf_counter() - start
            row.frames += len(arrays[row.name])
            row.seconds += len(samples) / reader.sample_rate
        with written_whole(out / f"{utterance.name}.npz") as temporary:
            np.savez(temporary, **arrays)
    return figures, skipped


def table(figures: Sequence[ContextFigures], frame_seconds: float) -> str:
    """The figures in Markdown."""
    rows = [
        (
            row.name,
            row.sizes,
            left_seconds(row.sizes[0], frame_seconds),
            row.frames,
            f"{row.seconds:.1f} s",
            f"{row.computing / max(row.seconds, 1e-9):.4f}",
        )
        for row in figures
    ]
    return markdown_table(("context", "attention", "left", "frames", "audio", "real-time factor"), rows)


def frame_seconds(model: Any) -> float:
    """Seconds from one encoder frame of a model to the next."""
    return model.cfg.preprocessor.window_stride * model.encoder.subsampling_factor


def left_seconds(left: int, seconds_of_frame: float) -> str:
    """A left context in words."""
    return "unlimited" if left < 0 else f"{left * seconds_of_frame:.1f} s"
