"""What one context for every batch costs in a step, and what it saves where several ranks train together.

    python benchmarks/context_overhead.py
    python benchmarks/context_overhead.py --device cuda --batch 32

First the step (forward and backward) of the small recipe (14M parameters), under each context; calls alternate between
the contexts, so that a busy machine slows all of them alike. Then what choosing a context adds to it, and what the
helpers take, each measured alone over many calls. Last, the step of several ranks that wait for each other: with one
context for all, its mean is that of the contexts' times; with contexts sampled by each rank (NeMo), that of the
slowest rank's, computed exactly from the measured times. The interval is the bootstrap's, 90 %.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from omegaconf import OmegaConf
from scripts_path import CONFIGS
from stopwatch import seconds_of

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.collections.asr.parts.utils.markdown import markdown_table
from nemo.collections.asr.parts.utils.streaming_utils import (
    release_dynamic_context,
    set_dynamic_context,
    sync_masking_context_with_attention,
)
from nemo.utils import logging

CONFIG = CONFIGS / "nest_fast-conformer_streaming_dynamic.yaml"
SMALL = {"d_model": 176, "n_heads": 4, "n_layers": 16}
RANKS = (2, 8, 64, 512)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of torch")
    parser.add_argument("--repeats", type=int, default=7, help="steps under each context")
    parser.add_argument("--calls", type=int, default=5000, help="calls that set or sample a context")
    return parser.parse_args()


def small_recipe(device: torch.device) -> EncDecDenoiseMaskedTokenPredModel:
    config = OmegaConf.load(CONFIG).model
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


def context_calls(model: EncDecDenoiseMaskedTokenPredModel) -> dict[str, tuple[Callable, bool]]:
    """What is done about contexts, and whether each step does it."""
    return {
        "choose a context and tell the encoder": (model.attention_context.of_next_forward, True),
        "of that, ContextSampler.next": (model.context_sampler.next, False),
        "set_dynamic_context": (lambda: set_dynamic_context(model, [160, 0]), False),
        "sync_masking_context_with_attention": (lambda: sync_masking_context_with_attention(model), False),
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
    """The expected maximum of `ranks` independent samples of equally likely times."""
    ordered = sorted(times)
    shares = [(index / len(ordered)) ** ranks for index in range(len(ordered) + 1)]
    return sum(value * (shares[index + 1] - shares[index]) for index, value in enumerate(ordered))


def gain(times: dict[AttentionContext, list[float]], ranks: int) -> float:
    """The step with a context of its own for each rank, over the step with one context for all."""
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
    medians = {context: statistics.median(values) for context, values in times.items()}
    step = statistics.mean(medians.values())
    rows = [(context, f"{median:.3f}", f"{median / step:.3f}") for context, median in medians.items()]
    print(markdown_table(("context", "step, s", "of the mean"), rows))

    rows, total = [], 0.0
    for name, (call, in_a_step) in context_calls(model).items():
        seconds = call_seconds(call, arguments.calls)
        total += seconds if in_a_step else 0.0
        rows.append((name, f"{1e6 * seconds:.1f}", "yes" if in_a_step else "no", f"{seconds / step:.6%}"))
    print(f"\n{markdown_table(('alone', 'us a call', 'in each step', 'of the step'), rows)}")
    print(f"\nadded to a step: {1e6 * total:.1f} us, {total / step:.5%} of it\n")

    rows = []
    for ranks in RANKS:
        low, high = bootstrap(times, ranks)
        rows.append((ranks, f"{gain(times, ranks):.3f}", f"{low:.3f} .. {high:.3f}"))
    print(markdown_table(("ranks", "a context for each rank / one for all", "90 % interval"), rows))


if __name__ == "__main__":
    main()
