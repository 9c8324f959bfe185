"""Greedy decoding, a few frames at a time."""

import torch
from torch import nn

from nemo.collections.asr.parts.streaming.greedy_decoding import GreedyCTC, TimedToken


class Says(nn.Module):
    """A CTC decoder whose frames `[B, 1, S]` are the ids that it finds best; 3 is the blank."""

    num_classes_with_blank = 4

    def forward(self, encoder_output):
        return nn.functional.one_hot(encoder_output[:, 0].long(), 4).float()


def frames(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)[:, None]


def test_repetitions_count_once_across_pieces_and_again_after_a_blank():
    ctc = GreedyCTC(Says(), 1)
    assert ctc.advance(frames([3, 1, 1]), torch.tensor([3])) == [[TimedToken(1, 1)]]
    assert ctc.advance(frames([1, 1, 3]), torch.tensor([3])) == [[]]
    assert ctc.advance(frames([1, 2]), torch.tensor([2])) == [[TimedToken(1, 6), TimedToken(2, 7)]]


def test_padded_frames_say_nothing_and_streams_are_apart():
    ctc = GreedyCTC(Says(), 2)
    found = ctc.advance(frames([1, 2, 0], [2, 1, 1]), torch.tensor([3, 1]))
    assert found == [[TimedToken(1, 0), TimedToken(2, 1), TimedToken(0, 2)], [TimedToken(2, 0)]]
    assert ctc.advance(frames([0], [2]), torch.tensor([1, 1])) == [[], []]
    ctc.reset(1)
    assert ctc.advance(frames([0], [2]), torch.tensor([1, 1])) == [[], [TimedToken(2, 0)]]
    assert ctc.advance(frames([], []), torch.tensor([0, 0])) == [[], []]
