"""Probes with the penalty that validation likes best."""

import pytest
import torch
from nest_tools.probe.labels import FrameLabels
from objective_parts import probing
from objective_parts.arms import CONTEXTS, SIZES, arm_named
from objective_parts.models import build_model
from objective_parts.speech import read_speech
from phone_corpus import write_phone_corpus

TINY = SIZES["tiny"]


class Recorded:
    """A probe whose accuracies are known."""

    on_validation = {1e-4: 0.3, 1e-3: 0.5, 1e-2: 0.4}
    on_test = {1e-4: 0.9, 1e-3: 0.2, 1e-2: 0.8}

    def __init__(self, frames, labels, penalty, iterations):
        self.penalty = penalty

    def accuracy(self, frames, labels):
        return (self.on_validation if frames == "validation" else self.on_test)[self.penalty]


def test_the_penalty_is_chosen_on_validation_and_not_on_the_test_part():
    parts = [(name, None) for name in ("train", "validation", "test")]
    assert probing.chosen_and_tested(Recorded, *parts) == (1e-3, 0.2)
    assert probing.chosen_and_tested(Recorded, *parts, penalty=1e-2) == (1e-2, 0.8)


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    speech = read_speech(write_phone_corpus(tmp_path_factory.mktemp("corpus")))
    model = build_model(arm_named("none"), TINY, 0).eval()
    return model, speech, FrameLabels(model, speech.labels)


def test_every_input_is_probed_at_every_context(probed):
    found = probing.probe_encoder(*probed, TINY)
    for name in ("all_layers", "last_layer", "weighted_layers"):
        assert set(found[name]) == {str(context) for context in CONTEXTS}
        assert found["penalties"][name] in probing.PENALTIES
        assert all(0 < share <= 1 for share in found[name].values())


def test_log_mels_are_stacked_over_what_a_frame_has_heard(probed, monkeypatch):
    newest = torch.arange(5.0)[:, None].expand(5, 2)
    monkeypatch.setattr(probing, "log_mel_frames", lambda model, audio, shift: newest)
    model, speech, number = probed
    stacked, labels = probing._log_mels(model, speech.test[:1], number, 24)
    assert stacked.shape == (5, 6) and len(labels) == 5
    assert stacked[:, ::2].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
