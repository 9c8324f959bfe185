"""The whole way in a few minutes: speech, pretraining, a `.nemo` file, every preset, a live stream, and a table.

    python demo.py --out demo

Synthesises a small corpus, pretrains the model of `nest_streaming_demo.yaml` on it with five attention contexts,
restores the file that training saved, evaluates it at every preset, asks a linear probe which phones it finds, streams
an utterance, and writes `results.md`, `results.json` and pictures into the folder. Run again, it goes on from what is
already there.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nest_tools import command
from nest_tools.cpu_training import wait_passively

PROBED = ([8, 0], [80, 0], [-1, 0])
"""The contexts of the phone probe, which takes ten seconds for each."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo and prints its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for corpus, experiment and results")
    parser.add_argument("--steps", type=int, default=800, help="training steps of 4 utterances")
    parser.add_argument("--minutes", type=float, default=40.0, help="minutes of training speech")
    options = parser.parse_args(arguments)
    out = options.out.resolve()

    wait_passively()  # before torch is imported
    from nest_tools.corpus import make_corpus
    from nest_tools.demo import evaluate, pretrain, probe_phones, results_table, stream
    from nest_tools.report import plot_contexts
    from nest_tools.restoring import restore

    corpus = make_corpus(out / "corpus", minutes=options.minutes)
    file = pretrain(corpus, out / "experiment", options.steps)
    model = restore(file).eval()
    rows, tokens = evaluate(model, corpus)
    phones = probe_phones(model, corpus, [row["context"] for row in rows if row["context"] in PROBED])
    wav = sorted((corpus.folder / "validation").glob("*.wav"))[0]
    live = stream(model, wav, "low")
    pictures = plot_contexts(model, wav, out / "pictures")

    table = results_table(model, rows, tokens, phones)
    command.write_text(out / "results.md", table + "\n")
    everything = {"contexts": rows, "tokens": tokens, "phones": phones, "stream": asdict(live)}
    command.write_text(out / "results.json", json.dumps(everything, indent=2))
    print(f"\n{table}\n")
    print(
        f"Streamed {live.seconds:.1f} s at '{live.context}': {live.frames} frames, "
        f"at most {live.difference:.1e} from the encoder run offline.\n"
    )
    print(f"Model: {file}\nResults: {out / 'results.md'}\nPictures: {', '.join(map(str, pictures))}")
    print(f"Training curves: tensorboard --logdir {out / 'experiment'}")
    return 0


if __name__ == "__main__":
    command.run(main)
