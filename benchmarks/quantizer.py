"""The tokenizer against NeMo's, in one run: time, ids, memory, and what normalisation adds.

    python benchmarks/quantizer.py
    python benchmarks/quantizer.py --device cuda --batch 32
    python benchmarks/quantizer.py --batch 64 --seconds 60 --skip-nemo     (NeMo's would need hundreds of gigabytes)

Times are medians of calls that alternate between the classes, so that a busy machine slows all of them alike. Memory
is the peak of what a call allocates beyond its input. Ids are compared on equal weights; where they differ, the
largest difference between the two codes' scores is shown (a tie up to rounding, or a fault).
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from stopwatch import seconds_of

from nemo.collections.asr.modules.ssl_modules.quantizers import (
    NemoRandomProjectionVectorQuantizer,
    RandomProjectionVectorQuantizer,
)
from nemo.collections.asr.parts.utils.markdown import markdown_table

FRAMES_PER_SECOND = 100
CHANNELS = 80
GROUP = 8


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--classes", type=int, default=8192)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of torch")
    parser.add_argument("--repeats", type=int, default=41, help="calls of each of our variants; NeMo's gets a tenth")
    parser.add_argument("--skip-nemo", action="store_true")
    return parser.parse_args()


def peak_bytes(call: Callable, device: torch.device) -> int:
    """The most that `call` had allocated at one time."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    allocated = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        allocated += event["args"]["Bytes"]
        peak = max(peak, allocated)
    return peak


def worst_gap(ours: torch.Tensor, theirs: torch.Tensor, quantizer: torch.nn.Module, features: torch.Tensor) -> float:
    """Largest difference of scores (cosines) between our code and NeMo's, where the ids differ."""
    differ = ours != theirs
    frames = features.transpose(1, 2).reshape(*ours.shape, -1)[differ].double()
    vectors = F.normalize(frames @ quantizer.proj.weight.double().t(), dim=-1)
    codes = quantizer.codebooks[0]
    gaps = ((codes[ours[differ]] - codes[theirs[differ]]) * vectors).sum(-1).abs()
    return gaps.max().item() if len(gaps) else 0.0


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    frames = int(arguments.seconds * FRAMES_PER_SECOND) // GROUP * GROUP
    tokens = frames // GROUP
    torch.manual_seed(0)
    sizes = {
        "feat_in": CHANNELS,
        "code_dim": 16,
        "num_classes": arguments.classes,
        "num_books": 1,
        "dist_fn": "l2",
        "squeeze_single": True,
        "combine_time_steps": GROUP,
    }
    nemo = NemoRandomProjectionVectorQuantizer(**sizes).to(device)
    # Like log-mel features that are not normalised: a large mean of each channel, and a smaller deviation from it.
    features = (torch.randn(1, CHANNELS, 1) - 8 + 3 * torch.randn(arguments.batch, CHANNELS, frames)).to(device)
    lengths = torch.full((arguments.batch,), frames, device=device)

    calls = {}
    for normalize in RandomProjectionVectorQuantizer.NORMALIZE_LIST:
        ours = RandomProjectionVectorQuantizer(**sizes, normalize=normalize).to(device)
        ours.load_state_dict(nemo.state_dict())
        calls[normalize] = lambda ours=ours: ours(input_signal=features, input_lengths=lengths)[1]
    if not arguments.skip_nemo:
        calls["NeMo"] = lambda: nemo(input_signal=features)[1]

    results = {name: call() for name, call in calls.items()}  # also warms up
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(arguments.repeats):
        for name, call in calls.items():
            if name != "NeMo" or repeat % 10 == 0:
                times[name].append(seconds_of(call, device))
    medians = {name: statistics.median(values) for name, values in times.items()}
    peaks = {name: peak_bytes(call, device) for name, call in calls.items()}

    print(f"batch {arguments.batch}, {arguments.seconds:g} s ({tokens} tokens), {arguments.classes} classes")
    print(f"{device}, torch {torch.__version__}, {arguments.threads} CPU threads")
    bound = 1.5 * arguments.batch * tokens * arguments.classes * 4
    rows = []
    for name in calls:
        ids, normalizing = "", "-"
        if name in ("layer_norm", "per_feature"):
            extra = statistics.median(a - b for a, b in zip(times[name], times["none"], strict=True))
            normalizing = f"{extra / medians['none']:.1%}"
        if name == "none" and "NeMo" in results:
            different = (results[name] != results["NeMo"]).sum().item()
            gap = worst_gap(results[name], results["NeMo"], nemo, features)
            ids = f"{different} of {results[name].numel()} differ from NeMo's (largest gap {gap:.1e})"
        rows.append(
            (
                name if name == "NeMo" else f"ours, {name}",
                f"{1e3 * medians[name]:.2f}",
                f"{medians['NeMo'] / medians[name]:.1f}" if "NeMo" in medians else "-",
                normalizing,
                f"{peaks[name] / 1e6:.1f}",
                f"{peaks[name] / bound:.2f}",
                ids,
            )
        )
    print()
    print(markdown_table(("tokenizer", "ms", "NeMo / it", "normalising", "peak MB", "of bound", "ids"), rows))
    print("\nbound: 1.5 x batch x tokens x classes x 4 bytes")


if __name__ == "__main__":
    main()
