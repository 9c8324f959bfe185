"""Utterances become a batch, and noise is read where it is asked for."""

from types import SimpleNamespace

import torch

from nemo.collections.asr.data.noise_recordings import NoiseRecordings
from nemo.collections.asr.data.noisy_batches import RecordedNoise, augmented, pad_together
from nemo.collections.asr.data.ssl_dataset import AudioNoiseBatch


def test_signals_of_any_lengths_are_put_together():
    signals = [torch.arange(1.0, n + 1) for n in (3, 5, 1)]
    padded, lengths = pad_together(signals)
    assert padded.tolist() == [[1, 2, 3, 0, 0], [1, 2, 3, 4, 5], [1, 0, 0, 0, 0]] and lengths.tolist() == [3, 5, 1]
    assert pad_together(signals, 7)[0].shape == (3, 7)


def test_without_an_augmentor_the_batch_is_clean_and_shares_no_memory():
    batch = AudioNoiseBatch(audio=torch.randn(2, 5), audio_len=torch.tensor([5, 3]))
    out = augmented(batch, None, RecordedNoise(NoiseRecordings([]), 16000, [5, 3]))
    assert torch.equal(out.noisy_audio, batch.audio) and not out.noise.any()
    out.noisy_audio += 1
    assert not torch.equal(out.noisy_audio, batch.audio)


def test_noise_is_read_only_where_it_is_mixed():
    asked = []

    class Counted(NoiseRecordings):
        def sample(self, length, window, sample_rate, anywhere=False):
            asked.append((length, window))
            return super().sample(length, window, sample_rate, anywhere)

    class HalfOfTheSecond:
        def mix(self, batch, noise):
            return noise.segment(1, 20)

    batch = SimpleNamespace()
    assert len(augmented(batch, HalfOfTheSecond(), RecordedNoise(Counted([]), 16000, [50, 40]))) == 0
    assert asked == [(20, 40)]
