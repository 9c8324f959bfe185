"""Writes a `.nemo` file that restores on NeMo without this patch.

    python export_to_nemo.py --model streaming.nemo --out stock.nemo

The weights are those of the model; config keys that NeMo's own classes refuse are taken out. On NeMo, the file
initialises an ASR model as any NEST file does: `+init_from_nemo_model.nest.path=stock.nemo
'+init_from_nemo_model.nest.include=[preprocessor,encoder]'`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from nest_tools import command
from nest_tools.restoring import restore

from nemo.collections.asr.parts.utils.stock_nemo import save_for_stock_nemo


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file, and prints its name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="the .nemo file")
    parser.add_argument("--out", required=True, type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    if options.out.suffix != ".nemo":
        parser.error(f"--out must end in .nemo; got {options.out}")
    model = restore(options.model)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with command.written_whole(options.out) as temporary:
        save_for_stock_nemo(model, temporary)
    print(options.out)
    return 0


if __name__ == "__main__":
    command.run(main)
