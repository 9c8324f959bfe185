"""One side of the training step: a step for each line, answered by a line."""

import io
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from training_step_parts.one_side import InTurns

TRAINER = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))


def test_each_step_waits_for_a_line_and_is_answered_by_one(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    answers, model = io.StringIO(), torch.nn.Linear(2, 3)
    turns = InTurns(answers, steps=2, parts=None)
    for step in range(2):
        turns.on_train_batch_start(TRAINER, model, None, step)
        turns.on_train_batch_end(TRAINER, model, {"loss": torch.tensor(1.5)}, None, step)
    answered = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert [answer["loss"] for answer in answered] == [1.5, 1.5]
    assert all(answer["parameters"] == 9 and answer["seconds"] > 0 and "profile" not in answer for answer in answered)


def test_a_side_ends_when_nobody_asks_any_more(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(SystemExit, match="the benchmark has ended"):
        InTurns(io.StringIO(), steps=1, parts=None).on_train_batch_start(TRAINER, None, None, 0)
