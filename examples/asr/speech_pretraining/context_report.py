"""Shows what each attention context sees, and what each way of masking leaves to predict: pictures and a table.

    python context_report.py --model nest.nemo --audio speech.wav --out report
    python context_report.py --config ../conf/ssl/nest/nest_fast-conformer_streaming_dynamic.yaml \
        --audio speech.wav --manifest validation.json --context low --context 8,0 --out report

Writes into the folder `report.md` and `report.json` (the table), a picture `context_80_0.png` for each context, and
`contexts.png` with all of them side by side, before and after masking is synced with attention. From a config no model
is built. Contexts are the trained ones and the presets, unless `--context` names others. Audio that cannot be used is
named and left out, and the exit code is then 1.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nest_tools import command
from nest_tools.audio import add_convert_option
from nest_tools.recipe import Recipe
from nest_tools.report import write_report
from nest_tools.restoring import restore
from nest_tools.utterances import Utterance, evenly_spread, read_manifest


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, help=".nemo file of a model with a Conformer encoder")
    source.add_argument("--config", type=Path, help="training config (.yaml)")
    parser.add_argument("--audio", type=Path, help="the utterance to plot (default: the first of the manifests)")
    parser.add_argument(
        "--manifest", type=Path, action="append", default=[], help="NeMo manifest of utterances that the table counts"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument(
        "--context", action="append", help=command.context_help("the trained contexts and the presets; repeatable")
    )
    parser.add_argument("--draws", type=int, default=20, help="masks of each utterance (default: 20)")
    parser.add_argument("--max-utterances", type=int, default=100, help="most utterances of a manifest (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the masks (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON instead of Markdown")
    add_convert_option(parser)
    options = parser.parse_args(arguments)
    if options.audio is None and not options.manifest:
        parser.error("there is no speech: give --audio or --manifest")
    for name in ("draws", "max_utterances"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be a whole number >= 1; got {getattr(options, name)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the report that the command line asks for, and prints its table."""
    options = parse_arguments(arguments)
    if options.config is not None:
        source, recipe = options.config.name, Recipe.of_config(options.config)
    else:
        source, recipe = options.model.name, Recipe.of_model(restore(options.model))
    contexts = None
    if options.context:
        contexts = [recipe.context(command.parse_context(context)) for context in options.context]
    utterances = [Utterance.of_file(options.audio)] if options.audio is not None else []
    skipped = []
    for manifest in options.manifest:
        found, unread = read_manifest(manifest)
        utterances += evenly_spread(found, options.max_utterances)
        skipped += unread
    report = write_report(
        source,
        recipe,
        utterances,
        options.out,
        contexts=contexts,
        masks_per_utterance=options.draws,
        seed=options.seed,
        convert=options.convert,
        skipped=skipped,
    )
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.markdown())
    return command.report_skipped(report.skipped)


if __name__ == "__main__":
    command.run(main)
