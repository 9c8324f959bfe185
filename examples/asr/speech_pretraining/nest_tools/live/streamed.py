"""Audio streamed through an encoder: the frames, and how long they took."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nemo.collections.asr.parts.utils.markdown import markdown_table
from nemo.collections.asr.parts.utils.streaming_utils import EncoderStream
from nest_tools.command import written_whole


@dataclass
class Streamed:
    """What came of one source."""

    name: str
    samples: int = 0
    computing: float = 0.0
    """Seconds spent in the stream."""
    first_after: int | None = None
    """Samples that had been pushed when the first frame came."""
    first_computing: float = 0.0
    """Seconds of the push that gave it."""
    outputs: list[list[Tensor]] = field(default_factory=list)
    """For each layer asked for and then for the encoder, pieces [D, S]."""
    difference: float | None = None
    """Largest difference to the offline encoder."""

    def add(self, frames: Tensor | list[Tensor], seconds: float) -> None:
        """Takes what one push gave."""
        frames = frames if isinstance(frames, list) else [frames]
        self.computing += seconds
        self.outputs = self.outputs or [[] for _ in frames]
        for pieces, piece in zip(self.outputs, frames, strict=True):
            pieces.append(piece[0].float().cpu())
        if self.first_after is None and frames[0].shape[-1] > 0:
            self.first_after, self.first_computing = self.samples, seconds

    def arrays(self, layers: Sequence[int]) -> dict[str, np.ndarray]:
        """All frames [S, D] of the encoder (`encoded`) and of each layer (`layer_I`)."""
        names = [*(f"layer_{layer}" for layer in layers), "encoded"]
        return {name: torch.cat(pieces, dim=-1).T.numpy() for name, pieces in zip(names, self.outputs, strict=True)}

    def write(self, layers: Sequence[int], out: Path) -> None:
        """Writes the arrays into `out/NAME.npz`."""
        out.mkdir(parents=True, exist_ok=True)
        with written_whole(out / f"{self.name}.npz") as temporary:
            arrays: dict[str, Any] = {**self.arrays(layers)}  # NumPy's hints take any name for an option of `savez`
            np.savez(temporary, **arrays)


def stream_source(
    stream: EncoderStream, name: str, pieces: Iterator[np.ndarray], total: int | None
) -> tuple[Streamed, np.ndarray]:
    """Pushes the pieces one by one; returns what came of them, and the whole audio [N]."""
    stream.reset()
    result, audio = Streamed(name), []
    rate = stream.sample_rate
    with tqdm(total=total and total / rate, unit="s", unit_scale=True, desc=name, leave=False) as progress:
        for piece in pieces:
            result.samples += len(piece)
            begin = time.perf_counter()
            frames, _ = stream.push(piece)
            result.add(frames, time.perf_counter() - begin)
            audio.append(piece)
            progress.update(len(piece) / rate)
    begin = time.perf_counter()
    frames, _ = stream.finish()
    result.add(frames, time.perf_counter() - begin)
    return result, np.concatenate(audio) if audio else np.zeros(0, np.float32)


def table(results: Sequence[Streamed], rate: int) -> str:
    """The figures of all sources in Markdown."""
    rows = []
    for result in results:
        seconds = result.samples / rate
        frames = sum(piece.shape[-1] for piece in result.outputs[-1])
        first = f"{1000 * (result.first_after or 0) / rate:.0f} ms + {1000 * result.first_computing:.1f} ms"
        real_time = f"{result.computing / seconds:.4f}" if seconds else "none"
        difference = "" if result.difference is None else f"{result.difference:.1e}"
        rows.append((result.name, f"{seconds:.2f} s", frames, real_time, first, difference))
    header = ("source", "audio", "frames", "real-time factor", "first frame after", "difference to offline")
    return markdown_table(header, rows)
