"""A whole training step (features, masking, tokens, encoder, loss, backward, optimizer) against NeMo's.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --device cuda --size large --batch 32 --precision bf16-mixed
    python benchmarks/training_step.py --profile

Each side is a process of its own that trains through Lightning: NeMo's with `NEMO_OVERLAY=0`, which leaves this patch
out, and ours. Both run the recipe that NeMo can train (`pad_to: 16`, no causal subsampling, unlimited attention,
features normalised over the utterance), on the same audio and from the same weights; the streaming recipe, which NeMo
cannot train, is run by ours alone. The processes take turns, one step each, so that a busy machine slows all alike.
CPU seconds are those of all threads, and say more than the clock where other machines share the host. Memory is what a
step needs at its peak beyond what lay there before the first one: of the process on a CPU, of the allocator on a GPU.

`--profile` prints how a step divides into its parts and operators instead (torch.profiler).
"""

import argparse
import os
import sys
from pathlib import Path

from training_step_parts.sides import SIDES, SIZES, WARM_UP_STEPS, Side


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small", help="small: 14M parameters, large: 110M")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--steps", type=int, default=9, help="measured steps of each side, after two to warm up")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", default="32", help="of Lightning's Trainer")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch; 0: its own choice")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # in a side's own process
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    if options.side:
        from training_step_parts.one_side import run_side

        run_side(options)
        return
    sides = [Side(name, Path(__file__), sys.argv[1:]) for name in options.sides]
    answers = {side.name: [] for side in sides}
    for step in range(options.steps + WARM_UP_STEPS):
        for side in sides:
            answer = side.step()
            if step >= WARM_UP_STEPS:
                answers[side.name].append(answer)
    for side in sides:
        side.end()
    from training_step_parts.tables import comparison, division  # NeMo is imported when nothing is measured any more

    print(f"{options.size}, batch {options.batch}, {options.seconds:g} s, {options.device}", end=", ")
    print(f"precision {options.precision}, {options.threads or os.cpu_count()} CPU threads\n")
    print(division(answers) if options.profile else comparison(answers))


if __name__ == "__main__":
    main()
