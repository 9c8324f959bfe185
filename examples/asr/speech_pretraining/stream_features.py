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

and with `--compare` the largest difference to the frames that the encoder gives for the whole audio at once. Audio
that cannot be used is named and left out, and the exit code is then 1.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from nest_tools import command
from nest_tools.audio import AudioReader, UnusableAudio, add_convert_option
from nest_tools.live import MICROPHONE, STDIN, check_microphone, open_source, source_names, stream_source, table
from nest_tools.restoring import restore
from nest_tools.utterances import Skipped

from nemo.collections.asr.parts.utils.streaming_utils import EncoderStream, encode


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help=f"audio files; '{STDIN}' for raw PCM; '{MICROPHONE}'")
    parser.add_argument("--model", required=True, help=".nemo file")
    parser.add_argument("--context", type=command.parse_context, help=command.context_help("the model's own"))
    parser.add_argument("--out", type=Path, help="folder for the .npz files (default: none are written)")
    parser.add_argument("--chunk", type=float, default=0.08, help="seconds of audio pushed at once (default: 0.08)")
    parser.add_argument(
        "--frames-per-step", type=int, default=1, help="encoder frames computed at once: throughput for latency"
    )
    parser.add_argument("--max-history", type=int, help="encoder frames that bound an unlimited context")
    parser.add_argument("--layers", type=int, nargs="+", default=[], metavar="I", help="also write these layers")
    add_convert_option(parser)
    parser.add_argument("--compare", action="store_true", help="also run offline, and show the largest difference")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--no-cuda-graphs", action="store_true", help="run steps on a GPU without CUDA graphs")
    options = parser.parse_args(arguments)
    if options.chunk <= 0:
        parser.error(f"--chunk must be a number > 0; got {options.chunk:g}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Streams what the command line names, and prints a table."""
    options = parse_arguments(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    model = restore(options.model, options.device)
    stream = EncoderStream(
        model,
        options.context,
        frames_per_step=options.frames_per_step,
        max_history=options.max_history,
        layers=options.layers,
        cuda_graphs=False if options.no_cuda_graphs else None,
    )
    if MICROPHONE in options.sources:
        check_microphone(stream.sample_rate)
    reader = AudioReader(stream.sample_rate, options.convert)
    chunk = max(1, round(options.chunk * stream.sample_rate))
    results, skipped = [], []
    for source, name in zip(options.sources, source_names(options.sources), strict=True):
        try:
            pieces, total = open_source(source, reader, chunk)
        except UnusableAudio as error:
            skipped.append(Skipped(source, str(error)))
            continue
        result, audio = stream_source(stream, name, pieces, total)
        if options.compare:
            offline, _ = encode(model, audio, context=stream.context)
            live = result.arrays(stream.layers)["encoded"]
            result.difference = float(np.abs(live - offline[0].T.float().cpu().numpy()).max())
        if options.out:
            result.write(stream.layers, options.out)
        results.append(result)
    print(f"\nContext {stream.context}, {stream.frames_per_step} frame(s) a step")
    print(f"Algorithmic latency: {1000 * stream.latency:.1f} ms\n\n{table(results, stream.sample_rate)}")
    return command.report_skipped(skipped)


if __name__ == "__main__":
    command.run(main)
