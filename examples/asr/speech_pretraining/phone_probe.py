"""How much of the phones a linear classifier finds in the frames of a frozen encoder, at each attention context.

    python phone_probe.py --model nest.nemo --corpus demo/corpus --out probe

The corpus is that of `demo_corpus.py`, which knows when each phone was spoken. The classifier is trained on frames of
the training voices and tested on voices that it has not heard. It sees the outputs of all layers side by side, since
the last ones serve the prediction of tokens more than what was said; the last layer alone is shown too. It is tested
twice: on frames that the encoder gives for whole files, and on frames that an `EncoderStream` gives live. Beside that
stand the most frequent phone's share (chance), the same classifier on the log-mels that a frame is made of, and on an
encoder with random weights. Writes `probe.md` and `probe.json`.

The classifier is stopped early and has one penalty for all inputs, so compare encoders of a size with one another;
log-mels are wider, and a classifier tuned for them would do better. Phones that training lacks are not tested. Audio
that cannot be used is named and left out, and the exit code is then 1.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nest_tools import command
from nest_tools.audio import AudioReader, add_convert_option
from nest_tools.corpus import open_corpus
from nest_tools.probe import note, probe, read_labelled, table, untrained
from nest_tools.restoring import restore


def main(arguments: Sequence[str] | None = None) -> int:
    """Probes a `.nemo` file and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a .nemo file")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of a corpus of demo_corpus.py")
    parser.add_argument("--out", type=Path, default=Path("probe"), help="folder for the results")
    parser.add_argument("--context", action="append", help=command.context_help("those trained; repeatable"))
    parser.add_argument("--minutes", type=float, default=20.0, help="speech that the probe is fitted on")
    add_convert_option(parser)
    options = parser.parse_args(arguments)

    corpus = open_corpus(options.corpus)
    model: Any = restore(options.model)
    contexts = [command.parse_context(text) for text in options.context or ()]
    contexts = contexts or [context.as_list() for context in model.encoder.context.trained]
    reader = AudioReader(model.cfg.preprocessor.sample_rate, options.convert)
    train, skipped = read_labelled(corpus.train_manifest, reader, options.minutes)
    test, also_skipped = read_labelled(corpus.validation_manifest, reader)
    rows = probe(model, train, test, contexts)
    for row in probe(untrained(model), train, test, contexts[-1:], online=False, baselines=False, progress=False):
        rows.append({**row, "frames": f"{row['frames']}, random weights"})
    text = f"{table(rows)}\n\n{note(rows, train, test, reader.sample_rate)}"
    options.out.mkdir(parents=True, exist_ok=True)
    command.write_text(options.out / "probe.md", text + "\n")
    command.write_text(options.out / "probe.json", json.dumps(rows, indent=2))
    print(f"\n{text}")
    return command.report_skipped([*skipped, *also_skipped])


if __name__ == "__main__":
    command.run(main)
