"""Mean and standard deviation are those of each utterance's valid frames alone."""

import pytest
import torch

from nemo.collections.asr.modules.ssl_modules.frame_statistics import ValidFrames, centre


def features(*shape):
    return -8 + 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("lengths", [[20, 13, 2], [20, 20, 20]])
def test_each_utterance_is_centred_by_its_own_frames(lengths):
    frames = features(3, 20, 5)
    centred, scale = centre(frames, ValidFrames.of(frames, torch.tensor(lengths)))
    for utterance, length in enumerate(lengths):
        valid = frames[utterance, :length].double()
        expected = torch.zeros(20, 5, dtype=torch.float64)
        expected[:length] = valid - valid.mean(0)
        torch.testing.assert_close(centred[utterance].double(), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(scale[utterance, 0].double(), valid.std(0) + 1e-5, rtol=1e-5, atol=0)


def test_without_lengths_all_frames_are_valid():
    frames = features(2, 9, 4)
    by_lengths = centre(frames, ValidFrames.of(frames, torch.tensor([9, 9])))
    for expected, found in zip(by_lengths, centre(frames, ValidFrames.of(frames, None)), strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("lengths", [[0, 1], None])
def test_no_frame_and_one_frame_give_zeros_and_no_nan(lengths):
    frames = features(2, 1, 4)
    centred, scale = centre(frames, ValidFrames.of(frames, None if lengths is None else torch.tensor(lengths)))
    assert not centred.any() and scale.isfinite().all() and (scale > 0).all()


@pytest.mark.parametrize("lengths", [[9, 4, 7], None])
def test_parts_are_those_of_the_whole(lengths):
    frames = features(3, 9, 4)
    valid = ValidFrames.of(frames, None if lengths is None else torch.tensor(lengths))
    parts = [centre(*part) for part in zip(frames.split(2), valid.split(2), strict=True)]
    for whole, split in zip(centre(frames, valid), zip(*parts, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(split))


def test_no_value_is_read_on_a_device():
    """Tensors of the device "meta" have no values: reading one raises."""
    frames, lengths = torch.zeros(2, 9, 4, device="meta"), torch.zeros(2, dtype=torch.long, device="meta")
    centred, scale = centre(frames, ValidFrames.of(frames, lengths))
    assert centred.shape == (2, 9, 4) and scale.shape == (2, 1, 4)
