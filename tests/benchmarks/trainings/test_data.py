"""The data of trainings: batches, and random crops in an order of their own."""

import json

import pytest
import torch
from trainings.data import RandomCrops, padded, read_audio

UTTERANCES = [torch.arange(length, dtype=torch.float).expand(2, -1) + 1000 * length for length in (90, 150, 300, 400)]


def test_a_batch_is_padded_with_zeros():
    batch, lengths = padded([torch.ones(2, 3), torch.ones(2, 5)])
    assert batch.shape == (2, 2, 5) and lengths.tolist() == [3, 5] and batch.is_contiguous()
    assert batch.sum(dim=2).tolist() == [[3, 3], [5, 5]] and not batch[0, :, 3:].any()


def test_crops_are_pieces_of_different_utterances_and_short_ones_are_whole():
    crops = RandomCrops(UTTERANCES, batch=4, seconds=1, seed=0)
    batch, lengths = crops.next()
    assert sorted(lengths.tolist()) == [90, 100, 100, 100]
    whole = {int(row[0, 0]) // 1000 for row in batch}
    assert whole == {90, 150, 300, 400}
    for row, length in zip(batch, lengths.tolist(), strict=True):
        assert torch.equal(row[0, 1:length] - row[0, : length - 1], torch.ones(length - 1))


def test_the_order_depends_on_the_seed_and_goes_on_from_a_state():
    ours, same, other = (RandomCrops(UTTERANCES, batch=2, seconds=1, seed=seed) for seed in (0, 0, 1))
    first = [ours.next()[0] for _ in range(3)]
    assert all(torch.equal(crop, same.next()[0]) for crop in first)
    assert not all(torch.equal(crop, other.next()[0]) for crop in first)
    state = ours.state_dict()
    expected = ours.next()[0]
    other.load_state_dict(state)
    assert torch.equal(other.next()[0], expected)


def test_a_corpus_that_lacks_a_file_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"audio_filepath": "missing.wav"}))
    with pytest.raises(ValueError, match=r"the corpus must be whole; got .*missing\.wav: the file does not exist"):
        list(read_audio(tmp_path / "manifest.json"))
