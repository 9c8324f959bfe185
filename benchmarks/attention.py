"""Attention in blocks against NeMo's attention of all pairs: time, memory, and how both grow with the length.

    python benchmarks/attention.py
    python benchmarks/attention.py --device cuda --batch 8 --precision bf16

Both sides are one encoder of this process: `blockwise_attention: false` runs NeMo's own masks and NeMo's own forward.
They take turns, and a figure is the median of the ratios of turns, so that a busy machine slows both alike. On a CPU
the clock is that of the process (seconds of computing, one thread), on a GPU the wall's.

1. A layer of the large recipe, forward and backward, by length and context; `auto` is what the encoder chooses.
2. The whole step of the small recipe (features, masking, tokens, encoder, loss; forward and backward).
3. Memory of that step at its peak, beyond what lay there before; each in a process of its own.
4. Long utterances: time for each second of audio, and what NeMo's encoder keeps for the backward pass, which is
   computed on the `meta` device, since it would not fit.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from omegaconf import OmegaConf
from stopwatch import seconds_of
from torch.multiprocessing.reductions import StorageWeakRef

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.modules import ConformerEncoder
from nemo.collections.asr.parts.utils.markdown import markdown_table
from nemo.collections.asr.parts.utils.streaming_utils import set_dynamic_context
from nemo.utils import logging

CONFIG = "examples/asr/conf/ssl/nest/nest_fast-conformer_streaming_dynamic.yaml"
SMALL = {"d_model": 176, "n_heads": 4, "n_layers": 16}
CONTEXTS = {"[80, 0]": [80, 0], "[320, 0]": [320, 0], "[-1, 0]": [-1, 0], "[80, 13]": [80, 13]}
PRECISIONS = {"32": None, "bf16": torch.bfloat16}
PARTS = ("layer", "step", "memory", "long")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="32", help="bf16: under autocast")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--repeats", type=int, default=9, help="turns of each side, after one to warm up")
    parser.add_argument("--seconds", type=float, nargs="+", default=[1, 2, 4, 8, 11, 16, 30, 60, 120])
    parser.add_argument("--contexts", nargs="+", choices=CONTEXTS, default=list(CONTEXTS))
    parser.add_argument("--step-seconds", type=float, nargs="+", default=[16, 60])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--one", help=argparse.SUPPRESS)  # one measurement, in a process of its own
    return parser.parse_args()


def recipe(**encoder) -> OmegaConf:
    config = OmegaConf.load(Path(__file__).resolve().parent.parent / CONFIG).model
    config.encoder.update(encoder)
    config.update(train_ds=None, validation_ds=None)
    return config


def frames_of(seconds: float) -> int:
    """Encoder frames: 80 ms each, and one more with causal subsampling."""
    return int(100 * seconds) // 8 + 1


class Turns:
    """Times several calls in turns."""

    def __init__(self, arguments: argparse.Namespace):
        self.device = torch.device(arguments.device)
        self.clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        self.repeats = arguments.repeats

    def measure(self, calls: dict[str, Callable], repeats: int | None = None) -> dict[str, list[float]]:
        times = {name: [] for name in calls}
        for turn in range(1 + (repeats or self.repeats)):
            for name, call in calls.items():
                elapsed = seconds_of(call, self.device, self.clock)
                if turn > 0:
                    times[name].append(elapsed)
        return times


def ratio(times: dict[str, list[float]], theirs: str, ours: str) -> str:
    ratios = sorted(a / b for a, b in zip(times[theirs], times[ours], strict=True))
    quarter = len(ratios) // 4
    return f"{statistics.median(ratios):.2f} x ({ratios[quarter]:.2f} .. {ratios[-1 - quarter]:.2f})"


# ----------------------------------------------------------------------------------------------------------- one layer


def large_layer(device: torch.device) -> ConformerEncoder:
    """The encoder of the large recipe with a single layer."""
    torch.manual_seed(0)
    config = OmegaConf.to_container(recipe(n_layers=1), resolve=True)["encoder"]
    return ConformerEncoder.from_config_dict({**config, "feat_in": 80}).to(device).train()


def layer_call(encoder: ConformerEncoder, setting: bool | str, context: list[int], x, dtype) -> tuple[Callable, bool]:
    """A call that runs the layer forward and backward; and whether it computes in blocks."""
    layer = encoder.layers[0]
    encoder.blockwise_attention, encoder.context.pinned, encoder.att_context_size = setting, True, context
    inputs = {}
    hook = layer.register_forward_pre_hook(lambda _, args, kwargs: inputs.update(kwargs), with_kwargs=True)
    with torch.no_grad():
        encoder(audio_signal=x, length=torch.full((len(x),), x.shape[1], device=x.device), bypass_pre_encode=True)
    hook.remove()
    masks = {name: inputs[name] for name in ("att_mask", "pos_emb", "pad_mask")}

    def call() -> None:
        with torch.autocast(x.device.type, dtype) if dtype else nullcontext():
            output = layer(x=x, **masks)
        output.float().sum().backward()

    return call, not isinstance(masks["att_mask"], torch.Tensor)


def compare_layers(arguments: argparse.Namespace) -> None:
    turns, rows = Turns(arguments), []
    encoder, dtype = large_layer(turns.device), PRECISIONS[arguments.precision]
    for name in arguments.contexts:
        for seconds in arguments.seconds:
            frames = frames_of(seconds)
            encoder.update_max_seq_length(frames, turns.device)
            x = torch.randn(arguments.batch, frames, 512, device=turns.device, requires_grad=True)
            calls, blocks = {}, {}
            for side, setting in (("NeMo", False), ("auto", "auto"), ("blocks", True)):
                calls[side], blocks[side] = layer_call(encoder, setting, CONTEXTS[name], x, dtype)
            repeats = arguments.repeats if seconds >= 30 else 3 * arguments.repeats
            times = turns.measure(calls, repeats)
            rows.append(
                (
                    name,
                    f"{seconds:g}",
                    frames,
                    f"{1000 * statistics.median(times['NeMo']):.1f}",
                    ratio(times, "NeMo", "blocks"),
                    "blocks" if blocks["auto"] else "NeMo's",
                    ratio(times, "NeMo", "auto"),
                )
            )
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    header = ["context", "s", "frames", "NeMo, ms", "blocks", "auto takes", "auto"]
    print(f"\nA layer of the large recipe, forward and backward:\n\n{markdown_table(header, rows)}")


# ------------------------------------------------------------------------------------------------------ the whole step


def step_call(model, seconds: float, batch: int, dtype) -> Callable:
    audio = 0.1 * torch.randn(batch, int(16000 * seconds), device=model.device)
    lengths = torch.full((batch,), audio.shape[1], device=model.device)

    def call() -> None:
        with torch.autocast(model.device.type, dtype) if dtype else nullcontext():
            log_probs, encoded_len, masks, tokens = model.forward(audio, lengths, apply_mask=True)
            loss = model.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len)
        loss.backward()
        model.zero_grad()

    return call


def small_model(device: torch.device, context: list[int]) -> EncDecDenoiseMaskedTokenPredModel:
    torch.manual_seed(0)
    model = EncDecDenoiseMaskedTokenPredModel(recipe(**SMALL)).to(device).train()
    set_dynamic_context(model, context)
    return model


def compare_steps(arguments: argparse.Namespace) -> None:
    turns, rows = Turns(arguments), []
    model, dtype = small_model(turns.device, [80, 0]), PRECISIONS[arguments.precision]
    for seconds in arguments.step_seconds:
        call = step_call(model, seconds, arguments.batch, dtype)

        def side(setting, call=call) -> Callable:
            def run() -> None:
                model.encoder.blockwise_attention = setting
                call()

            return run

        times = turns.measure({"NeMo": side(False), "auto": side("auto")})
        rows.append((f"{seconds:g}", f"{statistics.median(times['NeMo']):.3f}", ratio(times, "NeMo", "auto")))
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    header = ["s", "with NeMo's attention, s", "auto"]
    print(f"\nThe whole step of the small recipe at [80, 0]:\n\n{markdown_table(header, rows)}")


# ------------------------------------------------------------------------------------ memory, in processes of its own


def in_a_process(arguments: argparse.Namespace, **task) -> dict:
    """Runs `measure_one` in a new process."""
    command = [sys.executable, __file__, "--one", json.dumps(task)]
    for name in ("device", "precision", "batch", "threads"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{task} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_one(arguments: argparse.Namespace) -> dict:
    """Seconds and bytes of one training step."""
    task, device = json.loads(arguments.one), torch.device(arguments.device)
    if task.get("limit"):
        resource.setrlimit(resource.RLIMIT_DATA, (task["limit"], task["limit"]))
    model = small_model(device, [80, 0])
    model.encoder.blockwise_attention = task["setting"]
    call = step_call(model, task["seconds"], arguments.batch, PRECISIONS[arguments.precision])
    step_call(model, 1.0, 1, None)()
    before = forget_peak(device)
    elapsed = seconds_of(call, device, time.process_time if device.type == "cpu" else time.perf_counter)
    return {"seconds": elapsed, "bytes": peak(device) - before, "whole": peak(device)}


def forget_peak(device: torch.device) -> int:
    """Bytes in use now; the peak is counted from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    Path("/proc/self/clear_refs").write_text("5")
    return status_of_process("VmRSS")


def peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else status_of_process("VmHWM")


def status_of_process(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def compare_memory(arguments: argparse.Namespace) -> None:
    rows = []
    for seconds in (16, 60, 120):
        theirs, ours = (in_a_process(arguments, seconds=seconds, setting=setting) for setting in (False, "auto"))
        share = f"{ours['bytes'] / theirs['bytes']:.2f} x"
        rows.append((seconds, f"{theirs['bytes'] / 1e9:.2f} GB", f"{ours['bytes'] / 1e9:.2f} GB", share))
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    header = ["s", "with NeMo's attention", "auto", "of NeMo's"]
    print(f"\nPeak memory of a step of the small recipe at [80, 0]:\n\n{markdown_table(header, rows)}")


def kept_on_meta(setting: bool, seconds: float, batch: int) -> int:
    """Bytes that the small recipe's encoder keeps for the backward pass, computed without memory."""
    encoder = small_model(torch.device("cpu"), [80, 0]).encoder
    encoder.blockwise_attention = setting
    frames = int(100 * seconds)
    encoder.to("meta").update_max_seq_length(frames, torch.device("meta"))
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[StorageWeakRef(storage).cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder(
            audio_signal=torch.empty(batch, 80, frames, device="meta"),
            length=torch.empty(batch, dtype=torch.long, device="meta"),
        )
    return sum(storage.nbytes() for storage in kept.values())


def show_long_utterances(arguments: argparse.Namespace) -> None:
    rows, limit = [], 16 * 10**9
    for seconds in (60, 120, 300, 600):
        ours = [in_a_process(arguments, seconds=seconds, setting="auto", limit=limit) for _ in range(3)]
        each = statistics.median(one["seconds"] for one in ours) / seconds
        theirs = kept_on_meta(False, seconds, arguments.batch)
        row = (f"{1000 * each:.1f}", f"{max(one['whole'] for one in ours) / 1e9:.2f} GB", f"{theirs / 1e9:.1f} GB")
        rows.append((seconds, *row))
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    header = ["s", "auto, ms for each second", "auto, whole process", "NeMo's encoder keeps"]
    print("\nLong utterances, a step of the small recipe at [80, 0], in processes that may have 16 GB:\n")
    print(markdown_table(header, rows))


def main() -> None:
    arguments = parse_arguments()
    logging.setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)
    if arguments.one:
        print(json.dumps(measure_one(arguments)))
        return
    where = (
        torch.cuda.get_device_name() if arguments.device == "cuda" else f"{platform.machine()}, {os.cpu_count()} CPUs"
    )
    print(f"{where}, torch {torch.__version__}, {arguments.threads} thread(s), batch {arguments.batch}", end=", ")
    print(f"precision {arguments.precision}, {arguments.repeats} turns")
    parts = dict(zip(PARTS, (compare_layers, compare_steps, compare_memory, show_long_utterances), strict=True))
    for part in arguments.parts:
        parts[part](arguments)


if __name__ == "__main__":
    main()
