"""Streams audio through the encoder of a `.nemo` model, as if it were just being recorded, and writes the frames.

    python stream_features.py --model nest.nemo --context low --out features speech.wav more.wav
    python stream_features.py --model nest.nemo --context low --compare speech.wav
    arecord -f S16_LE -r 16000 -c 1 -t raw | python stream_features.py --model nest.nemo --out features -
    python stream_features.py --model nest.nemo --out features mic       # needs the package sounddevice

Any NeMo model with a causal Conformer encoder will do (pretrained NEST, CTC, RNNT, ...). For each source, `NAME.npz`
holds `encoded` [frames, channels] (float32, one frame every 80 ms) and, with `--layers`, `layer_I`. Printed are

    real-time factor     time to compute / duration of the audio
    first frame after    audio that had come in when the first frame came out, and the time to compute it
    algorithmic latency  audio that an encoder frame waits for, at most, however fast: look-ahead + half a window

and with `--compare` the largest difference to the frames that the encoder gives for the whole audio at once.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from extract_features import parse_context
from torch import nn
from tqdm import tqdm

from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS
from nemo.collections.asr.parts.preprocessing.segment import AudioSegment
from nemo.collections.asr.parts.streaming.encoder_stream import EncoderStream
from nemo.collections.asr.parts.utils.streaming_utils import dynamic_context
from nemo.core import ModelPT

STDIN, MICROPHONE = "-", "mic"


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
    outputs: list[list[torch.Tensor]] = field(default_factory=list)
    """For each layer asked for and then for the encoder, pieces [D, T]."""
    difference: float | None = None
    """Largest difference to the offline encoder."""

    def add(self, frames: torch.Tensor | list[torch.Tensor], seconds: float) -> None:
        """Takes what one push gave."""
        frames = frames if isinstance(frames, list) else [frames]
        self.computing += seconds
        self.outputs = self.outputs or [[] for _ in frames]
        for pieces, piece in zip(self.outputs, frames, strict=True):
            pieces.append(piece[0].float().cpu())
        if self.first_after is None and frames[0].shape[-1] > 0:
            self.first_after, self.first_computing = self.samples, seconds

    def arrays(self, layers: list[int]) -> dict[str, np.ndarray]:
        """All frames `[T, D]`, by name."""
        names = [*(f"layer_{layer}" for layer in layers), "encoded"]
        return {name: torch.cat(pieces, dim=-1).T.numpy() for name, pieces in zip(names, self.outputs, strict=True)}


def open_source(source: str, rate: int, chunk: int, convert: bool) -> tuple[Iterator[np.ndarray], int | None]:
    """Pieces of `chunk` mono samples at `rate` Hz in [-1, 1], the last one shorter, and how many samples are to come.

    Args:
        source: an audio file, `-` for raw 16-bit PCM (little-endian, mono) on standard input, `mic` for a microphone.
        rate: what the model takes.
        chunk: samples in a piece.
        convert: whether to resample files of other rates and to average channels; otherwise they are refused.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another rate, or with several channels, and no `convert`.
        ImportError: a microphone without the package that reads it.
    """
    if source == STDIN:
        return _raw_pcm(chunk), None
    if source == MICROPHONE:
        return _microphone(rate, chunk), None
    import soundfile

    if not Path(source).is_file():
        raise FileNotFoundError(f"{source} does not exist")
    info = soundfile.info(source)
    if (info.samplerate, info.channels) == (rate, 1):
        return soundfile.blocks(source, blocksize=chunk, dtype="float32"), info.frames
    if not convert:
        raise ValueError(
            f"{source} has {info.channels} channel(s) at {info.samplerate} Hz, but the model takes 1 at {rate} Hz; "
            "--convert averages channels and resamples"
        )
    samples = AudioSegment.from_file(source, target_sr=rate, channel_selector="average").samples.astype(np.float32)
    return (samples[begin : begin + chunk] for begin in range(0, len(samples), chunk)), len(samples)


def _raw_pcm(chunk: int) -> Iterator[np.ndarray]:
    while piece := sys.stdin.buffer.read(2 * chunk):
        yield np.frombuffer(piece[: len(piece) // 2 * 2], dtype="<i2").astype(np.float32) / 32768


def _microphone(rate: int, chunk: int) -> Iterator[np.ndarray]:
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise ImportError(
            "a microphone needs the package sounddevice (pip install sounddevice) and PortAudio; or pipe raw PCM in: "
            f"arecord -f S16_LE -r {rate} -c 1 -t raw | ... -"
        ) from error
    return _recorded(sounddevice.InputStream(samplerate=rate, channels=1, blocksize=chunk, dtype="float32"), chunk)


def _recorded(device: AbstractContextManager, chunk: int) -> Iterator[np.ndarray]:
    """Pieces until the user presses Ctrl-C."""
    print("Recording; Ctrl-C ends it.", file=sys.stderr)
    try:
        with device:
            while True:
                yield device.read(chunk)[0][:, 0]
    except KeyboardInterrupt:
        return


def stream_source(
    stream: EncoderStream, name: str, pieces: Iterator[np.ndarray], total: int | None
) -> tuple[Streamed, np.ndarray]:
    """Pushes the pieces one by one; returns what came of them, and the whole audio."""
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


@torch.inference_mode()
def offline_frames(model: nn.Module, context: list[int], audio: np.ndarray) -> torch.Tensor:
    """The encoder's frames `[D, T]` for the whole audio at once."""
    training, device = model.training, next(model.encoder.parameters()).device
    samples = torch.from_numpy(np.pad(audio, (0, max(0, 1 - len(audio))))).to(device)[None]
    try:
        model.eval()
        with dynamic_context(model, context):
            features, lengths = model.preprocessor(input_signal=samples, length=torch.tensor([len(audio)]).to(device))
            encoded, lengths = model.encoder(audio_signal=features, length=lengths)
    finally:
        model.train(training)
    return encoded[0, :, : int(lengths[0])].float().cpu()


def report(results: list[Streamed], rate: int, latency: float) -> str:
    """The figures of all sources as a Markdown table."""
    lines = [
        f"Algorithmic latency: {1000 * latency:.1f} ms",
        "",
        "| source | audio | frames | real-time factor | first frame after | difference to offline |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        seconds = result.samples / rate
        frames = sum(piece.shape[-1] for piece in result.outputs[-1])
        first = f"{1000 * (result.first_after or 0) / rate:.0f} ms + {1000 * result.first_computing:.1f} ms"
        real_time = f"{result.computing / seconds:.4f}" if seconds else "none"
        difference = "" if result.difference is None else f"{result.difference:.1e}"
        lines.append(f"| {result.name} | {seconds:.2f} s | {frames} | {real_time} | {first} | {difference} |")
    return "\n".join(lines)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help=f"audio files; '{STDIN}' for raw PCM; '{MICROPHONE}'")
    parser.add_argument("--model", required=True, help=".nemo file")
    parser.add_argument(
        "--context",
        type=parse_context,
        help=f"a preset ({', '.join(CONTEXT_PRESETS)}, or one of the model's) or LEFT,RIGHT in encoder frames "
        "(default: the model's own)",
    )
    parser.add_argument("--out", type=Path, help="folder for the .npz files (default: none are written)")
    parser.add_argument("--chunk", type=float, default=0.08, help="seconds of audio pushed at once (default: 0.08)")
    parser.add_argument(
        "--frames-per-step", type=int, default=1, help="encoder frames computed at once: throughput for latency"
    )
    parser.add_argument("--max-history", type=int, help="encoder frames that bound an unlimited context")
    parser.add_argument("--layers", type=int, nargs="+", default=[], metavar="I", help="also write these layers")
    parser.add_argument("--convert", action="store_true", help="resample files of other rates, average channels")
    parser.add_argument("--compare", action="store_true", help="also run offline, and show the largest difference")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--no-cuda-graphs", action="store_true", help="run steps on a GPU without CUDA graphs")
    options = parser.parse_args(arguments)
    if options.chunk <= 0:
        parser.error(f"--chunk is {options.chunk:g}, but must be above 0")
    return options


def main(arguments: list[str] | None = None) -> list[Streamed]:
    """Reads the command line, and does it."""
    options = parse_arguments(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    model = ModelPT.restore_from(options.model, map_location=options.device)
    stream = EncoderStream(
        model,
        options.context,
        frames_per_step=options.frames_per_step,
        max_history=options.max_history,
        layers=options.layers,
        cuda_graphs=False if options.no_cuda_graphs else None,
    )
    chunk = max(1, round(options.chunk * stream.sample_rate))
    opened = [(source, *open_source(source, stream.sample_rate, chunk, options.convert)) for source in options.sources]
    results = []
    for source, pieces, total in opened:
        name = {STDIN: "stdin", MICROPHONE: "microphone"}.get(source, Path(source).stem)
        result, audio = stream_source(stream, name, pieces, total)
        arrays = result.arrays(stream.layers)
        if options.compare:
            offline = offline_frames(model, stream.context.as_list(), audio).T.numpy()
            result.difference = float(np.abs(arrays["encoded"] - offline).max())
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            np.savez(options.out / f"{name}.npz", **arrays)
        results.append(result)
    print(f"\nContext {stream.context}, {stream.frames_per_step} frame(s) a step")
    print(report(results, stream.sample_rate, stream.latency))
    return results


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, ImportError, ValueError) as error:
        sys.exit(f"stream_features.py: {error}")
