"""Command line: ``python -m nemo_overlay status | apply DIR [--check] | diff DIR``."""

import argparse
import signal
import sys
from pathlib import Path

from nemo_overlay import in_tree
from nemo_overlay.status import report


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit status: 1 where a tree cannot take our half, with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m nemo_overlay", description="Our half of NeMo, laid over NeMo.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="NeMo's version, whether the overlay is active, and each module of ours")
    apply_parser = commands.add_parser("apply", help="write our half into a NeMo checkout or an unpacked wheel")
    apply_parser.add_argument("dir", type=Path, metavar="DIR", help="the folder that holds the folder nemo")
    apply_parser.add_argument(
        "--check", action="store_true", help="only say whether it can be done, and to which files"
    )
    diff_parser = commands.add_parser("diff", help="print what apply would change, as a patch")
    diff_parser.add_argument("dir", type=Path, metavar="DIR", help="the folder that holds the folder nemo")
    options = parser.parse_args(arguments)

    try:
        if options.command == "status":
            print(report())
        elif options.command == "diff":
            # As bytes: a text stream would change NeMo's line ends on some systems.
            sys.stdout.buffer.write(in_tree.unified_diff(in_tree.plan(options.dir)).encode("utf-8"))
        elif options.check:
            _print_files(in_tree.plan(options.dir), "would be changed")
        else:
            _print_files(in_tree.apply(options.dir), "changed")
    except (in_tree.NotApplicable, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _print_files(changes: list[in_tree.Change], done: str) -> None:
    for change in changes:
        print(f"  {change.kind:<7}  {change.file}")
    print(f"{len(changes)} files {done}; with them, NeMo needs no overlay (NEMO_OVERLAY=0)")


if __name__ == "__main__":
    # Ended from outside, `apply` then puts NeMo's files back before it goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
