"""Makes a small corpus of synthetic speech, with NeMo manifests.

    python demo_corpus.py demo/corpus --minutes 10

The same options give the same files. A folder that is complete already is left as it is. The package
`nest_tools.corpus` says what is in it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nest_tools import command
from nest_tools.corpus import make_corpus


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the corpus, and prints where it is and how much there is of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path, help="folder of the corpus")
    parser.add_argument("--minutes", type=float, default=10.0, help="speech for training (default: 10)")
    parser.add_argument("--validation-minutes", type=float, default=2.0, help="speech for validation (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="decides all that is random (default: 0)")
    parser.add_argument("--min-seconds", type=float, default=12.0, help="shortest utterance (default: 12)")
    parser.add_argument("--max-seconds", type=float, default=24.0, help="longest utterance (default: 24)")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="show no progress bar")
    options = vars(parser.parse_args(arguments))
    try:
        corpus = make_corpus(options.pop("out_dir"), **options)
    except (ImportError, NotADirectoryError, ValueError) as error:
        parser.error(str(error))
    for name, value in asdict(corpus).items():
        print(f"{name:22} {value:.1f}" if isinstance(value, float) else f"{name:22} {value}")
    return 0


if __name__ == "__main__":
    command.run(main)
