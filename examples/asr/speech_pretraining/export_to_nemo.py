"""Writes a `.nemo` file that restores on NeMo without this patch.

    python export_to_nemo.py --model streaming.nemo --out stock.nemo

The weights are those of the model; config keys that NeMo's own classes refuse are taken out. On NeMo, the file
initialises an ASR model as any NEST file does: `+init_from_nemo_model.nest.path=stock.nemo
'+init_from_nemo_model.nest.include=[preprocessor,encoder]'`.
"""

import argparse
from pathlib import Path

from nemo.collections.asr.parts.utils.stock_nemo import save_for_stock_nemo
from nemo.core.classes import ModelPT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="the .nemo file")
    parser.add_argument("--out", required=True, type=Path, help="the file to write")
    arguments = parser.parse_args()
    if not arguments.model.is_file():
        parser.error(f"--model {arguments.model} does not exist")
    if arguments.out.suffix != ".nemo":
        parser.error(f"--out is {arguments.out}, but must end in .nemo")
    model = ModelPT.restore_from(str(arguments.model), map_location="cpu")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_for_stock_nemo(model, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
