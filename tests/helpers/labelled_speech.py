"""Noise that is said to have phones, for tests of the phone probe."""

import torch
from nest_tools.probe import LabelledAudio

PHONES = [("a", 0.3 * n, 0.3 * n + 0.15) if n % 2 else ("b", 0.3 * n, 0.3 * n + 0.3) for n in range(8)]


def speech(seconds: float, phones: list[tuple[str, float, float]], seed: int = 0) -> LabelledAudio:
    generator = torch.Generator().manual_seed(seed)
    return LabelledAudio(0.1 * torch.randn(int(16000 * seconds), generator=generator), phones)
