"""The linear classifier of the probe."""

import pytest
import torch
from nest_tools.probe.classifier import LinearProbe


def test_the_probe_finds_what_can_be_found_linearly_and_no_more():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(3000, 5, generator=generator)
    labels = frames[:, :3].argmax(1)
    guessed = torch.randint(0, 3, labels.shape, generator=generator)
    assert LinearProbe(frames[:2000], labels[:2000]).accuracy(frames[2000:], labels[2000:]) > 0.95
    assert LinearProbe(frames[:2000], guessed[:2000]).accuracy(frames[2000:], guessed[2000:]) < 0.42


def test_frames_without_a_phone_do_not_count():
    frames = torch.eye(2).repeat(50, 1)
    labels = torch.tensor([0, 1]).repeat(50)
    odd = torch.cat([frames, 100 * torch.ones(7, 2)])
    fitted = LinearProbe(odd, torch.cat([labels, torch.full((7,), -1)]))
    assert fitted.accuracy(odd, torch.cat([labels, torch.full((7,), -1)])) == 1.0


def test_the_classifier_minimises_cross_entropy_and_its_penalty():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(400, 3, generator=generator) * torch.tensor([1.0, 10.0, 0.1]) + 5
    labels = (frames[:, 0] - 5 + torch.randn(400, generator=generator) > 0).long()
    inputs = (frames - frames.mean(0)) / frames.std(0, correction=0)
    weight, bias = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(inputs @ weight.T + bias, labels) + 1e-4 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    expected = ((inputs @ weight.T + bias).argmax(1) == labels).double().mean()
    assert LinearProbe(frames, labels).accuracy(frames, labels) == pytest.approx(float(expected), abs=0.006)
