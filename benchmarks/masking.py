"""Masking against NeMo's, in one run: every window, with and without overlap, beside the time of writing alone.

    python benchmarks/masking.py
    python benchmarks/masking.py --device cuda
    python benchmarks/masking.py --shapes 32,80,2000 --seconds 20
    python benchmarks/masking.py --cpu-time          (CPU seconds of one thread: for a host shared with others)

Times are medians of calls that alternate between the variants, so that a busy machine slows all of them alike; a ratio
is the median over the rounds of a variant's time by NeMo's in the same round. "writing" is `torch.where` alone with a
mask that is ready. On a CPU the bounds are 1.0 x NeMo's time without causal masking, and 1.25 x for each window. On a
CUDA device the number of kernels that a call launches is shown too, and the time of a call that was compiled, or
captured in a graph.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from stopwatch import seconds_of
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from nemo.collections.asr.modules.ssl_modules.masking import NemoRandomBlockMasking, RandomBlockMasking
from nemo.collections.asr.parts.utils.markdown import markdown_table

RECIPES = {
    "overlap": {"mask_prob": 0.01, "block_size": 40, "allow_overlap": True},
    "separate": {"mask_prob": 0.5, "block_size": 48, "allow_overlap": False},
}
WINDOWS = ("tail", "random", "sliding")
BOUNDS = {"not causal": 1.0, "tail": 1.25, "random": 1.25, "sliding": 1.25}
LEFT, FACTOR = 80, 8


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shapes = ["8,80,800", "16,80,1600", "32,80,2000", "64,80,3000", "128,80,6000"]
    parser.add_argument("--shapes", nargs="+", default=shapes, metavar="B,D,T")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each shape and recipe")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of torch")
    parser.add_argument("--cpu-time", action="store_true", help="CPU seconds of one thread, not the clock's")
    return parser.parse_args()


def rounds(
    calls: dict[str, Callable],
    seconds: float,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Times of each call, for as long as `seconds` and at least 5 rounds; each round begins with another call."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    begun = time.perf_counter()
    while len(times[names[0]]) < 5 or time.perf_counter() - begun < seconds:
        for name in names:
            times[name].append(seconds_of(calls[name], device, clock))
        names.append(names.pop(0))
    return times


def modules(recipe: dict, channels: int, device: torch.device) -> dict[str, torch.nn.Module]:
    ours = {"not causal": RandomBlockMasking(channels, **recipe)}
    for window in WINDOWS:
        ours[window] = RandomBlockMasking(
            channels, **recipe, causal=True, causal_window=window, left_context_size=LEFT, subsampling_factor=FACTOR
        )
    return {
        name: module.to(device)
        for name, module in {"NeMo": NemoRandomBlockMasking(channels, **recipe), **ours}.items()
    }


def launches(call: Callable) -> int:
    """How many kernels one call launches."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        call()
        torch.cuda.synchronize()
    return sum(event.count for event in profiled.key_averages() if "LaunchKernel" in event.key)


def graphed(module: torch.nn.Module, feats: torch.Tensor, lengths: torch.Tensor) -> Callable:
    """The forward captured in a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            module(feats, lengths)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(feats, lengths)
    return graph.replay


def measure(shape: tuple[int, ...], recipe: str, arguments: argparse.Namespace) -> tuple[list[list[str]], bool]:
    """Measures one shape and recipe: the rows of the table, and whether the bounds hold."""
    batch, channels, frames = shape
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    feats = torch.randn(batch, channels, frames, device=device)
    lengths = torch.randint(frames // 2, frames + 1, (batch,), device=device)
    masking = modules(RECIPES[recipe], channels, device)
    calls = {name: (lambda module=module: module(feats, lengths)) for name, module in masking.items()}
    mask = masking["not causal"].sample(lengths, frames).unsqueeze(1)
    embedding = masking["not causal"].mask_embedding.view(1, -1, 1)
    calls["writing"] = lambda: torch.where(mask, embedding, feats)

    clock = time.thread_time if arguments.cpu_time else time.perf_counter
    times = rounds(calls, arguments.seconds, device, clock)
    cells, held = [str(list(shape)), recipe, "eager", ms(times["writing"]), ms(times["NeMo"])], True
    for name, bound in BOUNDS.items():
        ratio = statistics.median(a / b for a, b in zip(times[name], times["NeMo"], strict=True))
        over = device.type == "cpu" and ratio > bound
        held = held and not over
        cells.append(f"{ms(times[name])} ({ratio:.2f} x{' !' if over else ''})")
    rows = [[*cells, str(len(times["NeMo"]))]]
    if device.type == "cuda":
        rows += measure_cuda(masking, feats, lengths, arguments.seconds)
    return rows, held


def measure_cuda(masking: dict, feats: torch.Tensor, lengths: torch.Tensor, seconds: float) -> list[list[str]]:
    """Further rows: compiled, captured in a graph, and the kernels that an eager call launches."""
    rows = []
    for way in ("compiled", "graphed"):
        torch.compiler.reset()
        if way == "graphed":
            calls = {name: graphed(masking[name], feats, lengths) for name in BOUNDS}
        else:
            calls = {name: partial(torch.compile(masking[name], fullgraph=True), feats, lengths) for name in BOUNDS}
        times = rounds(calls, seconds / 2, feats.device)
        rows.append(["", "", way, "", "", *(ms(times[name]) for name in BOUNDS), str(len(times["tail"]))])
    counts = {name: launches(lambda module=module: module(feats, lengths)) for name, module in masking.items()}
    rows.append(["", "", "kernels launched", "", str(counts["NeMo"]), *(str(counts[name]) for name in BOUNDS), ""])
    return rows


def ms(times: Sequence[float]) -> str:
    return f"{1e3 * statistics.median(times):.3f}"


def main() -> None:
    arguments = parse_arguments()
    if arguments.cpu_time:
        arguments.threads = 1
    torch.set_num_threads(arguments.threads)
    threads = "CPU time of 1 thread" if arguments.cpu_time else f"{arguments.threads} CPU threads"
    shapes = [tuple(int(size) for size in shape.split(",")) for shape in arguments.shapes]
    rows, held = [], []
    with torch.inference_mode():
        for shape, recipe in tqdm([(shape, recipe) for shape in shapes for recipe in RECIPES], leave=False):
            measured, within_bounds = measure(shape, recipe, arguments)
            rows += measured
            held.append(within_bounds)
    print(f"{arguments.device}, torch {torch.__version__}, {threads}; left context {LEFT}")
    print("ms, and in brackets the ratio to NeMo's; ! is over the bound\n")
    print(markdown_table(("[B, D, T]", "recipe", "way", "writing", "NeMo", *BOUNDS, "rounds"), rows))
    if arguments.device == "cpu":
        print(f"\n{sum(held)} of {len(held)} rows within the bounds")


if __name__ == "__main__":
    main()
