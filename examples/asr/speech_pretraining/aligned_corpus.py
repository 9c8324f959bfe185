"""Makes NeMo manifests and times of phones out of recorded speech that has been aligned.

    make festvox                                              fetches Debian's festvox-ru, and makes `festvox/corpus`
    python aligned_corpus.py festvox UNPACKED festvox/corpus  from the unpacked package, or another Festival voice
    python aligned_corpus.py manifest test_clean.json corpus --alignments LibriSpeech-Alignments --split test

The second form takes Praat's TextGrid and `.lab` files, found by the names of the audio files. Both write
`SPLIT_manifest.json` and, beside the audio, the phones that `phone_probe.py` reads.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from nest_tools import command
from nest_tools.aligned_corpus import SPLITS, festvox, figures, from_manifest, write_aligned_corpus


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the corpus, and prints how much there is of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    voice = kinds.add_parser("festvox", help="a voice built for Festival")
    voice.add_argument("folder", type=Path, help="of the voice, or above it")
    listed = kinds.add_parser("manifest", help="a manifest, and alignments of its files")
    listed.add_argument("manifest", type=Path)
    listed.add_argument("--alignments", type=Path, required=True, help="a folder with .TextGrid or .lab files")
    listed.add_argument("--split", choices=SPLITS, default="train", help="what the utterances are for")
    listed.add_argument("--tier", help="of the TextGrids (default: phones, phone, phonemes or phn)")
    for kind in (voice, listed):
        kind.add_argument("out", type=Path, help="the folder to write")
    options = parser.parse_args(arguments)
    if options.kind == "festvox":
        utterances, tier = festvox(options.folder), None
    else:
        utterances, tier = from_manifest(options.manifest, options.alignments, options.split), options.tier
    print("\n".join(figures(write_aligned_corpus(utterances, options.out, tier))))
    return 0


if __name__ == "__main__":
    command.run(main)
