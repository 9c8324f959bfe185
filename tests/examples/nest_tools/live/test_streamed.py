"""What comes of a streamed source: frames, times and the table."""

import numpy as np
import torch
from nest_tools.live import Streamed, stream_source, table


class EveryTenSamples:
    """In place of an `EncoderStream`: each sample whose number is a multiple of ten is a frame [1, 1, 1]."""

    sample_rate = 100

    def reset(self):
        self.seen = np.zeros(0, np.float32)

    def push(self, piece):
        before = len(self.seen) // 10
        self.seen = np.concatenate([self.seen, piece])
        given = self.seen[9::10][before:]
        return torch.from_numpy(given)[None, None], torch.tensor([len(given)])

    def finish(self):
        return torch.full((1, 1, 1), -1.0), torch.tensor([1])


def test_frames_of_all_pieces_are_kept_in_order_with_the_audio():
    audio = np.arange(25, dtype=np.float32)
    result, kept = stream_source(EveryTenSamples(), "speech", iter(np.split(audio, [8, 16])), 25)
    assert result.arrays([])["encoded"].tolist() == [[9.0], [19.0], [-1.0]]
    assert result.samples == 25 and np.array_equal(kept, audio)
    assert result.first_after == 16  # the second piece brought the first frame
    assert result.computing >= result.first_computing > 0


def test_a_source_without_a_sample_has_what_the_end_gives():
    result, kept = stream_source(EveryTenSamples(), "nothing", iter([]), None)
    assert len(kept) == 0 and result.arrays([])["encoded"].tolist() == [[-1.0]]


def test_outputs_of_layers_are_written_beside_the_encoders(tmp_path):
    result = Streamed("speech", samples=160)
    for step in range(2):
        result.add([torch.full((1, 3, 2), float(step)), torch.full((1, 3, 2), 10.0 + step)], 0.5)
    result.write([4], tmp_path / "new")
    arrays = np.load(tmp_path / "new" / "speech.npz")
    assert list(arrays) == ["layer_4", "encoded"] and arrays["layer_4"].shape == (4, 3)
    assert arrays["layer_4"][:, 0].tolist() == [0, 0, 1, 1] and arrays["encoded"][:, 0].tolist() == [10, 10, 11, 11]
    assert result.computing == 1.0 and result.first_computing == 0.5


def test_the_table_tells_when_the_first_frame_came():
    outputs = [[torch.zeros(3, 10)]]
    done = Streamed("a", 32000, 0.5, 1600, 0.02, outputs, difference=1.5e-6)
    empty = Streamed("b", outputs=[[torch.zeros(3, 0)]])
    lines = table([done, empty], 16000).splitlines()
    assert lines[-2] == "| a | 2.00 s | 10 | 0.2500 | 100 ms + 20.0 ms | 1.5e-06 |"
    assert lines[-1].startswith("| b | 0.00 s | 0 | none |")
