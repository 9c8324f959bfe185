"""The data path of speech with noise against NeMo's, in one run.

    python benchmarks/data_path.py
    python benchmarks/data_path.py --rounds 2 --step-seconds 0.1 0.3

Prints Markdown tables:

1. A batch of 8 utterances of 18 s in the recipe's setting: utterances a second and core, beside the bare reading of
   the speech with soundfile.
2. The augmentation alone, on a batch that is ready.
3. A worker of a data loader: CPU time of a batch, handing it over included, and peak memory.
4. Other formats and rates, and where the time goes.
5. How many workers keep a GPU busy, for steps of a given length.

and last whether the goals are met.

NeMo's side is NeMo's own two source files, loaded beside ours. Times are CPU seconds of one thread, medians over
rounds in which all take their turn, so that other work on the machine matters little. Speech and noise are synthetic.
"""

import argparse
import cProfile
import importlib.util
import json
import os
import pstats
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader, Subset

from nemo.collections.asr.data import ssl_dataset
from nemo.collections.asr.data.speech_options import NOISE_CACHE_MB
from nemo.collections.asr.modules.ssl_modules import augmentation
from nemo.collections.asr.parts.utils.markdown import markdown_table
from nemo.utils import logging

RATE, UTTERANCES, SECONDS = 16000, 8, 18.0
RECIPE = {
    "prob": 0.5,
    "noise_ratio": 0.5,
    "min_mix_rate": 0.5,
    "max_mix_rate": 0.5,
    "min_num_segments": 1,
    "max_num_segments": 1,
    "min_num_speakers": 1,
    "max_num_speakers": 1,
}
FORMATS = (("wav", 16000), ("flac", 16000), ("mp3", 16000), ("opus", 16000), ("wav", 44100), ("flac", 48000))
PARTS = {
    "open": ("audio_files.py", "open_audio"),
    "decode": ("audio_files.py", "read_frames"),
    "resample": ("audio_files.py", "resample"),
    "noise": ("noise_recordings.py", "sample"),
    "put together": ("noisy_batches.py", "pad_together"),
    "mix": ("augmentation.py", "mix"),
}
"""What the time of a batch is divided into: file and function. What `noise` takes is taken off `mix`."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="batches of NeMo's; ours get eight times as many")
    parser.add_argument(
        "--step-seconds", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.5], help="of a GPU, for a batch of 8"
    )
    return parser.parse_args()


def as_nemo_has_it(module: ModuleType) -> ModuleType:
    """NeMo's own file of a module that we add to, as a module of its own."""
    name = f"stock_{module.__name__.rsplit('.', 1)[1]}"
    spec = importlib.util.spec_from_file_location(name, module.__spec__.origin)
    stock = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stock)
    return stock


Goal = tuple[str, float, str, float]
"""What, how much of it, `at least` or `at most`, and the limit."""

OURS = (ssl_dataset, augmentation)
NEMOS = (as_nemo_has_it(ssl_dataset), as_nemo_has_it(augmentation))


def write(folder: Path, name: str, seconds: float, form: str, rate: int, offset: float = 0.0) -> dict:
    """Writes noise with a moving envelope, and returns its entry of a manifest."""
    generator = np.random.default_rng(sum(name.encode()))
    samples = int(seconds * rate)
    envelope = generator.random(samples // 800 + 1).repeat(800)[:samples]
    file = folder / f"{name}_{rate}.{form}"
    signal = 0.2 * envelope * generator.standard_normal(samples) + offset
    options = {"format": "OGG", "subtype": "OPUS"} if form == "opus" else {}
    soundfile.write(file, signal.clip(-0.99, 0.99), rate, **options)
    return {"audio_filepath": str(file), "duration": seconds}


def manifest(folder: Path, name: str, entries: list[dict]) -> str:
    (folder / name).write_text("\n".join(json.dumps(entry) for entry in entries))
    return str(folder / name)


def corpus(folder: Path, form: str = "wav", rate: int = RATE) -> tuple[str, str, str]:
    """Manifests of speech, of noises of which one has a sum below zero, and of noises whose sums are all above."""
    speech = [write(folder, f"speech{index}", SECONDS, form, rate) for index in range(UTTERANCES)]
    plain = [write(folder, name, length, form, rate, 0.01) for name, length in (("short", 2), ("long", 60))]
    below, above = (write(folder, name, 60, form, rate, value) for name, value in (("below", -0.01), ("above", 0.01)))
    name = f"{form}_{rate}"
    return (
        manifest(folder, f"speech_{name}.json", speech),
        manifest(folder, f"goal_{name}.json", [*plain, below]),
        manifest(folder, f"above_{name}.json", [*plain, above]),
    )


def data_of(side: tuple[ModuleType, ModuleType], speech: str, noise: str, **options) -> torch.utils.data.Dataset:
    return side[0].AudioNoiseDataset(
        noise_manifest=noise,
        batch_augmentor=side[1].MultiSpeakerNoiseAugmentation(**RECIPE),
        manifest_filepath=speech,
        labels=None,
        sample_rate=RATE,
        **options,
    )


def batch_of(data: torch.utils.data.Dataset) -> Callable:
    return lambda: data.collate_fn([data[index] for index in range(UTTERANCES)])


def bare_reading(speech: str) -> Callable:
    files = [json.loads(line)["audio_filepath"] for line in Path(speech).read_text().splitlines()]
    return lambda: [soundfile.read(file, dtype="float32") for file in files]


def medians(
    calls: dict[str, Callable], rounds: int, often: int = 8, seldom: tuple[str, ...] = ("NeMo",)
) -> dict[str, float]:
    """CPU seconds of each call. In every round all take their turn, those that are not `seldom` take it `often`."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for name, call in calls.items():
        if name not in seldom:
            call()
    for _ in range(rounds):
        for name, call in calls.items():
            for _ in range(1 if name in seldom else often):
                start = time.thread_time()
                call()
                times[name].append(time.thread_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report_batches(speech: str, noises: dict[str, str], rounds: int) -> list[Goal]:
    rows, goals = [], []
    for description, noise in noises.items():
        calls = {
            "bare reading": bare_reading(speech),
            "NeMo": batch_of(data_of(NEMOS, speech, noise)),
            "here": batch_of(data_of(OURS, speech, noise)),
            "here, noise_cache_mb: 0": batch_of(data_of(OURS, speech, noise, noise_cache_mb=0)),
        }
        times = medians(calls, rounds)
        for name, value in times.items():
            rows.append(
                (
                    description,
                    name,
                    f"{1e3 * value:.1f}",
                    f"{UTTERANCES / value:.1f}",
                    f"{times['NeMo'] / value:.1f} x",
                    f"{value / times['bare reading']:.2f} x",
                )
            )
        goals.append(("utterances a second and core, of NeMo's", times["NeMo"] / times["here"], "at least", 10))
        goals.append(("time of a batch, of bare reading", times["here"] / times["bare reading"], "at most", 2))
    header = ("noises", "", "ms a batch", "utterances a second and core", "speed, of NeMo's", "time, of bare reading")
    print(f"**A batch** of {UTTERANCES} utterances of {SECONDS:g} s, WAV of 16 kHz, `prob: 0.5`.\n")
    print(markdown_table(header, rows) + "\n", flush=True)
    return goals


def report_augmentation(rounds: int) -> list[Goal]:
    generator = torch.Generator().manual_seed(0)
    length = int(SECONDS * RATE)
    audio, noise = (0.1 * torch.randn(UTTERANCES, length, generator=generator) for _ in range(2))
    lengths = torch.full((UTTERANCES,), length)

    def call(side: tuple[ModuleType, ModuleType]) -> Callable:
        mixer = side[1].MultiSpeakerNoiseAugmentation(**{**RECIPE, "prob": 1.0})
        # NeMo overwrites the noise that it is given; ours is given the same, copied as well.
        return lambda: mixer(side[0].AudioNoiseBatch(None, audio, lengths, noise.clone(), lengths.clone()))

    times = medians({"NeMo": call(NEMOS), "here": call(OURS), "copying the noise": noise.clone}, 2 * rounds)
    rows = [
        (name, f"{1e3 * (times[name] - times['copying the noise']):.2f}", f"{times['NeMo'] / times[name]:.0f} x")
        for name in ("NeMo", "here")
    ]
    print("**The augmentation alone**, `prob: 1`, on a batch that is ready.\n")
    print(markdown_table(("", "ms a batch", "speed, of NeMo's"), rows) + "\n", flush=True)
    return [("augmentation alone, of NeMo's speed", times["NeMo"] / times["here"], "at least", 20)]


class Witness:
    """Collates, and adds what the worker has used so far: CPU seconds, and peak memory beyond its start, in MB."""

    def __init__(self, data: torch.utils.data.Dataset):
        self.data, self.start = data, None

    def __call__(self, items: list) -> tuple:
        if self.start is None:
            self.start = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        batch = self.data.collate_fn(items)
        used = resource.getrusage(resource.RUSAGE_SELF)
        return batch, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6 - self.start


def worker_use(data: torch.utils.data.Dataset, batches: int) -> tuple[float, float]:
    """CPU seconds of a batch in a worker that hands it over, and the worker's peak memory in MB."""
    repeated = Subset(data, list(range(UTTERANCES)) * batches)
    used = [rest for _, *rest in DataLoader(repeated, UTTERANCES, num_workers=1, collate_fn=Witness(data))]
    return (used[-1][0] - used[1][0]) / (batches - 2), used[-1][1]


def report_workers(speech: str, noise: str, rounds: int, step_seconds: list[float]) -> list[Goal]:
    sides = {
        "NeMo": (data_of(NEMOS, speech, noise), 2 + 2 * rounds),
        f"here, noise_cache_mb: {NOISE_CACHE_MB}": (data_of(OURS, speech, noise), 2 + 8 * rounds),
        "here, noise_cache_mb: 0": (data_of(OURS, speech, noise, noise_cache_mb=0), 2 + 8 * rounds),
    }
    used = {name: worker_use(data, batches) for name, (data, batches) in sides.items()}
    rows = [(name, f"{1e3 * seconds:.0f}", f"{memory:.0f}") for name, (seconds, memory) in used.items()]
    print("**A worker** of a data loader, noises whose sums are above zero; handing the batch over included.\n")
    print(markdown_table(("", "CPU ms a batch", "peak memory beyond its start, MB"), rows) + "\n")
    rows = [(name, *(f"{seconds / step:.2f}" for step in step_seconds)) for name, (seconds, _) in used.items()]
    header = ("", *(f"a step of {step:g} s" for step in step_seconds))
    print(f"**Workers that keep a GPU busy**, batches of {UTTERANCES} utterances of {SECONDS:g} s, a core each.\n")
    print(markdown_table(header, rows) + "\n", flush=True)
    (_, nemos), (_, ours), (_, ours_without_cache) = used.values()
    return [
        ("peak memory of a worker, MB", ours, "at most", nemos + NOISE_CACHE_MB),
        ("the same without the cache, MB", ours_without_cache, "at most", nemos),
    ]


def shares(call: Callable, repeats: int) -> dict[str, float]:
    """What share of the time of a call each of `PARTS` has, by the profiler."""
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    for _ in range(repeats):
        call()
    profile.disable()
    stats = pstats.Stats(profile)
    spent = dict.fromkeys(PARTS, 0.0)
    for (file, _, function), (_, _, _, cumulative, _) in stats.stats.items():
        for part, (its_file, its_function) in PARTS.items():
            if (os.path.basename(file), function) == (its_file, its_function):
                spent[part] += cumulative
    spent["mix"] -= spent["noise"]
    return {part: value / stats.total_tt for part, value in spent.items()}


def report_formats(folder: Path, rounds: int) -> None:
    rows = []
    for form, rate in FORMATS:
        if {"opus": "OGG"}.get(form, form.upper()) not in soundfile.available_formats():
            continue
        speech, _, noise = corpus(folder, form, rate)
        calls = {
            "bare reading": bare_reading(speech),
            "NeMo": batch_of(data_of(NEMOS, speech, noise)),
            "here": batch_of(data_of(OURS, speech, noise)),
        }
        times = medians(calls, max(2, rounds // 2))
        parts = shares(calls["here"], 4)
        rows.append(
            (
                f"{form.upper()}, {rate / 1000:g} kHz",
                f"{UTTERANCES / times['bare reading']:.0f}",
                f"{UTTERANCES / times['NeMo']:.1f}",
                f"{UTTERANCES / times['here']:.0f}",
                f"{times['here'] / times['bare reading']:.2f} x",
                *(f"{100 * parts[part]:.0f} %" for part in PARTS),
            )
        )
    header = ("speech and noise", "bare reading", "NeMo", "here", "time, of bare reading", *PARTS)
    print("**Formats and rates**: utterances a second and core, and where the time goes here.\n")
    print(markdown_table(header, rows) + "\n", flush=True)


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    logging.setLevel("ERROR")
    random.seed(0)
    np.random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        speech, goal, above = corpus(folder)
        noises = {"2 s, 60 s, and 60 s with an offset of -0.01": goal, "the same with an offset of 0.01": above}
        goals = report_batches(speech, noises, arguments.rounds)
        goals += report_augmentation(arguments.rounds)
        goals += report_workers(speech, above, arguments.rounds, arguments.step_seconds)
        report_formats(folder, arguments.rounds)
    rows = [
        (name, f"{value:.3g}", f"{bound} {limit:.3g}", "met" if is_met(value, bound, limit) else "**missed**")
        for name, value, bound, limit in goals
    ]
    print("**Goals**\n\n" + markdown_table(("", "here", "goal", ""), rows))


def is_met(value: float, bound: str, limit: float) -> bool:
    return value >= limit if bound == "at least" else value <= limit


if __name__ == "__main__":
    main()
