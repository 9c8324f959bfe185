"""What one context for every batch costs in a step, and what it saves where several ranks train together.

    python benchmarks/context_overhead.py
    python benchmarks/context_overhead.py --device cuda --batch 32

First the step (forward and backward) of the small recipe (14M parameters), under each context; calls alternate between
the contexts, so that a busy machine slows all of them alike. Then what drawing, pinning and syncing add to it, each
measured alone over many calls. Last, the step of several ranks that wait for each other: with one draw for all, its
mean is that of the contexts' times; with independent draws (NeMo), that of the slowest rank's, computed exactly from
the measured times. The interval is the bootstrap's, 90 %.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf
from stopwatch import seconds_of

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder, _nemo_create_masks
from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.collections.asr.parts.utils.streaming_utils import (
    release_dynamic_context,
    set_dynamic_context,
    sync_masking_context_with_attention,
)
from nemo.utils import logging

CONFIG = "examples/asr/conf/ssl/nest/nest_fast-conformer_streaming_dynamic.yaml"
SMALL = {"d_model": 176, "n_heads": 4, "n_layers": 16}
RANKS = (2, 8, 64, 512)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of torch")
    parser.add_argument("--repeats", type=int, default=7, help="steps under each context")
    parser.add_argument("--calls", type=int, default=5000, help="calls of each of the small things")
    return parser.parse_args()


def small_recipe(device: torch.device) -> EncDecDenoiseMaskedTokenPredModel:
    config = OmegaConf.load(Path(__file__).resolve().parent.parent / CONFIG).model
    config.encoder.update(SMALL)
    config.update(train_ds=None, validation_ds=None)
    torch.manual_seed(0)
    return EncDecDenoiseMaskedTokenPredModel(config).to(device).train()


def step_times(
    model: EncDecDenoiseMaskedTokenPredModel, arguments: argparse.Namespace
) -> dict[AttentionContext, list[float]]:
    """Seconds of forward and backward under each context, for every repeat."""
    device = model.device
    audio = 0.1 * torch.randn(arguments.batch, int(16000 * arguments.seconds), device=device)
    lengths = torch.full((arguments.batch,), audio.shape[1], device=device)

    def step() -> None:
        log_probs, encoded_len, masks, tokens = model.forward(audio, lengths, apply_mask=True)
        loss = model.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len)
        loss.backward()
        model.zero_grad()

    times = {context: [] for context in model.encoder.context.trained}
    for repeat in range(arguments.repeats + 1):
        for context in times:
            set_dynamic_context(model, context)
            elapsed = seconds_of(step, device)
            if repeat > 0:  # the first round warms up
                times[context].append(elapsed)
    release_dynamic_context(model)
    return times


def small_things(model: EncDecDenoiseMaskedTokenPredModel, frames: int) -> dict[str, tuple[Callable, int]]:
    """What a step does about contexts, and how often; and what users may call in every step besides."""
    encoder = model.encoder
    lengths = torch.full((2,), frames, device=model.device)

    def masks(create: Callable) -> Callable:
        return lambda: create(
            encoder, [80, 0], padding_length=lengths, max_audio_length=frames, offset=None, device=model.device
        )

    return {
        "draw: ContextSampler.next": (model.context_sampler.next, 1),
        "choose and tell the encoder": (model._choose_context, 1),
        "attention masks, NeMo's": (masks(_nemo_create_masks), 0),
        "attention masks, pinned": (masks(ConformerEncoder._create_masks), 0),
        "set_dynamic_context": (lambda: set_dynamic_context(model, [160, 0]), 0),
        "sync_masking_context_with_attention": (lambda: sync_masking_context_with_attention(model), 0),
    }


def call_seconds(call: Callable, calls: int) -> float:
    """Seconds of one call: the median over ten rounds of many."""
    rounds = []
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(calls // 10):
            call()
        rounds.append((time.perf_counter() - start) / (calls // 10))
    return statistics.median(rounds)


def slowest_of(times: Sequence[float], ranks: int) -> float:
    """The expected maximum of `ranks` independent draws from equally likely times."""
    ordered = sorted(times)
    shares = [(index / len(ordered)) ** ranks for index in range(len(ordered) + 1)]
    return sum(value * (shares[index + 1] - shares[index]) for index, value in enumerate(ordered))


def gain(times: dict[AttentionContext, list[float]], ranks: int) -> float:
    """The step with independent draws over the step with one draw for all."""
    medians = [statistics.median(values) for values in times.values()]
    return slowest_of(medians, ranks) / statistics.mean(medians)


def bootstrap(times: dict[AttentionContext, list[float]], ranks: int, samples: int = 1000) -> tuple[float, float]:
    """The 5 % and 95 % quantiles of `gain` over resampled measurements."""
    generator = random.Random(0)
    gains = sorted(
        gain({context: generator.choices(values, k=len(values)) for context, values in times.items()}, ranks)
        for _ in range(samples)
    )
    return gains[samples // 20], gains[-(samples // 20)]


def main() -> None:
    arguments = parse_arguments()
    logging.setLevel(logging.ERROR)
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    model = small_recipe(device)
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    print(f"{parameters / 1e6:.1f}M parameters, batch {arguments.batch}, {arguments.seconds:g} s")
    print(f"{device}, torch {torch.__version__}, {arguments.threads} CPU threads\n")

    times = step_times(model, arguments)
    step = statistics.mean(statistics.median(values) for values in times.values())
    print("| context | step, s | of the mean |\n|---|---|---|")
    for context, values in times.items():
        print(f"| {context} | {statistics.median(values):.3f} | {statistics.median(values) / step:.3f} |")

    frames = int(arguments.seconds * 100) // 8 + 1
    print("\n| alone | us a call | calls in a step | of the step |\n|---|---|---|---|")
    total, medians = 0.0, {}
    for name, (call, in_a_step) in small_things(model, frames).items():
        calls = arguments.calls if "masks" not in name else arguments.calls // 10
        medians[name] = call_seconds(call, calls)
        total += in_a_step * medians[name]
        print(f"| {name} | {1e6 * medians[name]:.1f} | {in_a_step} | {medians[name] / step:.6%} |")
    total += max(0.0, medians["attention masks, pinned"] - medians["attention masks, NeMo's"])
    print(f"\nadded to a step: {1e6 * total:.1f} us, {total / step:.5%} of it")

    print("\n| ranks | independent / shared draws | 90 % interval |\n|---|---|---|")
    for ranks in RANKS:
        low, high = bootstrap(times, ranks)
        print(f"| {ranks} | {gain(times, ranks):.3f} | {low:.3f} .. {high:.3f} |")


if __name__ == "__main__":
    main()
