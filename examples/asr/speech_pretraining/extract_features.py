"""Computes encoder features of audio files at one or more attention contexts.

    python extract_features.py --model nest.nemo --out features --context low --context unlimited speech.wav more.flac
    python extract_features.py --model nest.nemo --out features --manifest manifest.json

Writes one `.npz` for each utterance: an array [frames, channels] (float32, one frame every 80 ms) under each context's
name, and prints a table of the contexts. `stream_features.py` computes the same frames live. Audio that cannot be used
is named and left out, and the exit code is then 1.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from nest_tools import command
from nest_tools.audio import add_convert_option
from nest_tools.features import extract, frame_seconds, table
from nest_tools.restoring import restore
from nest_tools.utterances import read_utterances

from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS


def main(arguments: Sequence[str] | None = None) -> int:
    """Extracts what the command line asks for, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="audio files (WAV, FLAC, ...)")
    parser.add_argument("--model", required=True, help=".nemo file of a pretrained model")
    parser.add_argument("--manifest", type=Path, action="append", default=[], help="NeMo manifest; repeatable")
    parser.add_argument("--out", required=True, type=Path, help="folder for the .npz files")
    parser.add_argument("--context", action="append", help=command.context_help("every preset; repeatable"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add_convert_option(parser)
    options = parser.parse_args(arguments)
    if not options.files and not options.manifest:
        parser.error("there is nothing to do: name audio files, or a manifest with --manifest")

    utterances, unread = read_utterances(options.files, options.manifest)
    model = restore(options.model, options.device)
    contexts = list(dict.fromkeys(options.context or CONTEXT_PRESETS))
    figures, skipped = extract(model, utterances, contexts, options.out, options.convert)
    print(f"\n{table(figures, frame_seconds(model))}\n")
    print(f"{len(utterances) - len(skipped)} files of features in {options.out}")
    return command.report_skipped([*unread, *skipped])


if __name__ == "__main__":
    command.run(main)
