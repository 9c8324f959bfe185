"""What a stream holds and computes follows its left context, and nothing else."""

import pytest
import torch
from stream_cases import FRAME, TinyModel, noise
from torch.utils.flop_counter import FlopCounterMode

from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS
from nemo.collections.asr.parts.streaming import EncoderStream


@pytest.mark.parametrize("context", ["very_low", "low", "medium", "high"])
def test_memory_is_within_a_tenth_of_the_arithmetic(context):
    model = TinyModel(conv_kernel_size=9)
    memory = EncoderStream(model, context, batch_size=3).memory()
    left = CONTEXT_PRESETS[context][0]
    arithmetic = 2 * (2 * left + 9 - 1) * 16 * 4
    assert arithmetic < memory.caches < 1.1 * arithmetic
    assert memory.tables < 1.1 * 2 * (left + 1) * (16 + 2) * 4


def test_waiting_samples_are_counted_for_each_stream(regular):
    stream = EncoderStream(regular, [8, 0], batch_size=3)
    before = stream.memory().waiting
    stream.push(torch.zeros(3, 100))
    assert stream.memory().waiting == before + 100 * 4


def test_copied_weights_are_those_of_query_key_and_value(regular):
    assert EncoderStream(regular, [8, 0]).memory().weights == 2 * 3 * 16 * 16 * 4


def test_memory_does_not_grow_with_the_stream(regular):
    stream = EncoderStream(regular, [8, 0])
    stream.push(noise(2000))
    before = stream.memory()
    for _ in range(30):
        stream.push(noise(2000))
    after = stream.memory()
    assert (after.caches, after.tables) == (before.caches, before.tables)
    assert after.waiting < before.waiting + 4 * 4 * FRAME


def test_past_frames_are_not_projected_again(regular):
    """A longer left context costs more attention, and nothing else."""
    short, long = (EncoderStream(regular, [left, 0]) for left in (40, 80))
    for stream in (short, long):
        stream.push(noise(85 * FRAME))
    assert 0 < operations(long) - operations(short) <= attention_operations(40)


def test_the_cost_of_an_unlimited_stream_follows_its_history(regular):
    stream = EncoderStream(regular, "unlimited")
    stream.push(noise(20 * FRAME))
    early = operations(stream)
    stream.push(noise(150 * FRAME))
    assert 0 < operations(stream) - early <= attention_operations(151)


def operations(stream: EncoderStream) -> int:
    """Floating-point operations of one step."""
    with FlopCounterMode(display=False) as counter:
        assert stream.push(noise(FRAME))[1].item() == 1
    return counter.get_total_flops()


def attention_operations(history: int) -> int:
    """Those of attending to so many frames in two layers: keys, positions and values, each d_model wide."""
    return 2 * 3 * 2 * history * 16
