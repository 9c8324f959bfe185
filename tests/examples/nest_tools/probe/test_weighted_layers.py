"""The probe on a learned weighting of layers."""

import torch
from nest_tools.probe.weighted_layers import WeightedLayersProbe


def layers_and_labels(frames: int = 1500):
    """Three layers, of which the second says what the label is."""
    generator = torch.Generator().manual_seed(0)
    layers = torch.randn(3, frames, 4, generator=generator) * torch.tensor([100.0, 1.0, 1.0])[:, None, None]
    return layers, layers[1, :, :3].argmax(1)


def test_the_layer_that_says_it_gets_the_weight():
    layers, labels = layers_and_labels()
    probe = WeightedLayersProbe(layers[:, :1000], labels[:1000], penalty=1e-4)
    assert probe.importance[1] > 0.8 and abs(sum(probe.importance) - 1) < 1e-6
    assert probe.accuracy(layers[:, 1000:], labels[1000:]) > 0.9


def test_frames_without_a_label_do_not_count():
    layers, labels = layers_and_labels()
    other = layers.clone()
    other[:, :100] = 1e3
    unknown = labels.clone()
    unknown[:100] = -1
    ours, theirs = WeightedLayersProbe(other, unknown), WeightedLayersProbe(layers[:, 100:], labels[100:])
    assert ours.accuracy(other, unknown) == theirs.accuracy(layers[:, 100:], labels[100:])
    assert ours.importance == theirs.importance
