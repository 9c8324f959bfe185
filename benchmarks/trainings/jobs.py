"""All trainings, each in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from nest_tools.cpu_training import cpu_training_environment
from tqdm import tqdm

from trainings.results import is_finished, run_folder


def run_all(
    command: Sequence[str | os.PathLike],
    wanted: Sequence[tuple[str, int]],
    out: Path,
    jobs: int,
    after_each: Callable[[], None],
) -> None:
    """Runs the trainings that are not finished yet, `jobs` at a time, and shows their lines.

    Args:
        command: to which `--train ARM SEED` is added.
        wanted: arms and seeds, in the order in which they begin.
        out: the folder of the size.
        after_each: called after every training.

    Raises:
        RuntimeError: a training failed; the message names its log.
    """
    missing = [(arm, seed) for arm, seed in wanted if not is_finished(out, arm, seed)]
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(wanted), unit="training") as bar:
        bar.update(len(wanted) - len(missing))
        try:
            for future in as_completed([pool.submit(_run, command, arm, seed, out, bar) for arm, seed in missing]):
                future.result()
                bar.update()
                after_each()
        except BaseException:  # Ctrl-C too, which reaches the trainings by themselves
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run(command: Sequence[str | os.PathLike], arm: str, seed: int, out: Path, bar: tqdm) -> None:
    """Runs one training, with its output in its log."""
    folder = run_folder(out, arm, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log", "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "--train", arm, str(seed)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=cpu_training_environment(OMP_NUM_THREADS="1"),
        )
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            log.flush()
            bar.set_postfix_str(line.strip())
    if process.wait():
        raise RuntimeError(f"the training of {arm}, seed {seed}, failed; see {folder / 'log'}")
