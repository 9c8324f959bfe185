"""Adds noise or other utterances to some utterances of a batch; the others stay clean."""

import random
from dataclasses import replace

import torch
from torch import Tensor

from nemo.collections.asr.data.batch_memory import copied, zeros_like
from nemo.collections.asr.data.ssl_dataset import AudioNoiseBatch
from nemo.collections.asr.modules.ssl_modules.added_audio import (
    AddedAudio,
    BatchNoise,
    NoiseSource,
    repeated,
    sample_piece_lengths,
    sample_places,
)
from nemo.collections.asr.modules.ssl_modules.augmentation import (
    MultiSpeakerNoiseAugmentation as NemoMultiSpeakerNoiseAugmentation,
)
from nemo.collections.asr.modules.ssl_modules.augmentation import (
    SpeakerNoiseAugmentation as NemoSpeakerNoiseAugmentation,
)
from nemo.collections.asr.parts.utils.checks import check_number, check_whole_number


class SpeakerNoiseAugmentation(NemoSpeakerNoiseAugmentation):
    """Adds one stretch of noise, or of another utterance of the batch, to some of the utterances (WavLM, algorithm 1).

    Args:
        prob: share of the utterances that something is added to.
        noise_ratio: share of those that get noise; the others get speech. A batch of one has no other speech.
        min_r_speech, max_r_speech: energy ratio of added speech, dB; uniform between the two.
        min_r_noise, max_r_noise: energy ratio of added noise, dB.
        min_mix_rate, max_mix_rate: share of the utterance that is covered; uniform between the two.

    The energy ratio is the mean energy of the utterance over the mean energy of what is added, both per sample: the
    utterance's over all its length, the other's over the part that is covered.

    Raises:
        TypeError, ValueError: an argument is no number, out of its range, or a minimum is above its maximum.
    """

    def __init__(
        self,
        prob: float = 0.0,
        noise_ratio: float = 0.0,
        min_r_speech: float = -5.0,
        max_r_speech: float = 5.0,
        min_r_noise: float = -5.0,
        max_r_noise: float = 20.0,
        min_mix_rate: float = 0.0,
        max_mix_rate: float = 1.0,
    ):
        check_number("prob", prob, 0, 1)
        check_number("noise_ratio", noise_ratio, 0, 1)
        _check_range("r_speech", min_r_speech, max_r_speech)
        _check_range("r_noise", min_r_noise, max_r_noise)
        _check_range("mix_rate", min_mix_rate, max_mix_rate, 0, 1)
        super().__init__(
            prob, noise_ratio, min_r_speech, max_r_speech, min_r_noise, max_r_noise, min_mix_rate, max_mix_rate
        )

    def __call__(self, batch: AudioNoiseBatch) -> AudioNoiseBatch:
        """Mixes a batch with the noise that it holds.

        Args:
            batch: `audio` [B, N], `audio_len` [B], `noise` [B, N], `noise_len` [B].

        Returns:
            As `mix`. `batch` is not changed.
        """
        return self.mix(batch, BatchNoise(batch.noise, batch.noise_len))

    def mix(self, batch: AudioNoiseBatch, noise: NoiseSource) -> AudioNoiseBatch:
        """Mixes a batch with noise that is read only where it is added.

        Args:
            batch: `audio` [B, N], `audio_len` [B]; `noise` is not looked at.
            noise: where noise comes from.

        Returns:
            A batch with `noise` [B, N], that which was added, zero elsewhere; `noisy_audio` [B, N], audio and noise;
            and their lengths, those of the audio.
        """
        lengths = batch.audio_len.tolist()
        added, noisy = zeros_like(batch.audio), copied(batch.audio)
        for index, length in enumerate(lengths):
            if length > 0 and random.random() < self.prob:
                audio = self._sample(index, batch.audio, lengths, noise)
                gain = audio.gain(batch.audio[index, :length])
                for start, piece in zip(audio.starts, audio.pieces, strict=True):
                    place = slice(start, start + len(piece))
                    torch.mul(piece, gain, out=added[index, place])
                    noisy[index, place] += added[index, place]
        return replace(
            batch,
            noise=added,
            noise_len=batch.audio_len.clone(),
            noisy_audio=noisy,
            noisy_audio_len=batch.audio_len.clone(),
        )

    def _sample(self, index: int, audio: Tensor, lengths: list[int], noise: NoiseSource) -> AddedAudio:
        """What is added to utterance `index` of `audio` [B, N]."""
        mixed = self._sample_mixed_length(lengths[index])
        start = random.randint(0, lengths[index] - mixed)
        others = _others(index, lengths)
        is_noise, ratio = self._sample_kind(others)
        if is_noise:
            piece = _noise(noise.segment(index, mixed, anywhere=True), mixed)
        else:
            other = random.choice(others)
            piece = _speech(audio[other, : lengths[other]], mixed)
        return AddedAudio([piece], [start], ratio)

    def _sample_mixed_length(self, length: int) -> int:
        return max(1, int(length * random.uniform(self.min_mix_rate, self.max_mix_rate)))

    def _sample_kind(self, others: list[int]) -> tuple[bool, float]:
        """Whether noise is added rather than speech of one of the `others`, and the energy ratio in dB."""
        if random.random() < self.noise_ratio or not others:
            return True, random.uniform(self.min_r_noise, self.max_r_noise)
        return False, random.uniform(self.min_r_speech, self.max_r_speech)


class MultiSpeakerNoiseAugmentation(SpeakerNoiseAugmentation, NemoMultiSpeakerNoiseAugmentation):
    """Adds noise, or speech of several other utterances, in several pieces.

    Args:
        min_num_segments, max_num_segments: into how many pieces the covered part is cut; uniform between the two.
        min_num_speakers, max_num_speakers: from how many other utterances speech is taken, no more than there are.

    Other arguments, energy ratio and errors are those of `SpeakerNoiseAugmentation`.
    """

    def __init__(
        self,
        prob: float = 0.0,
        noise_ratio: float = 0.0,
        min_r_speech: float = -5.0,
        max_r_speech: float = 5.0,
        min_r_noise: float = -5.0,
        max_r_noise: float = 20.0,
        min_mix_rate: float = 0.0,
        max_mix_rate: float = 1.0,
        min_num_segments: int = 1,
        max_num_segments: int = 5,
        min_num_speakers: int = 1,
        max_num_speakers: int = 4,
    ):
        _check_counts("num_segments", min_num_segments, max_num_segments)
        _check_counts("num_speakers", min_num_speakers, max_num_speakers)
        super().__init__(
            prob, noise_ratio, min_r_speech, max_r_speech, min_r_noise, max_r_noise, min_mix_rate, max_mix_rate
        )
        self.min_num_segments, self.max_num_segments = min_num_segments, max_num_segments
        self.min_num_speakers, self.max_num_speakers = min_num_speakers, max_num_speakers

    def _sample(self, index: int, audio: Tensor, lengths: list[int], noise: NoiseSource) -> AddedAudio:
        mixed = self._sample_mixed_length(lengths[index])
        pieces = sample_piece_lengths(mixed, random.randint(self.min_num_segments, self.max_num_segments))
        starts = sample_places(pieces, lengths[index])
        speakers = random.randint(self.min_num_speakers, self.max_num_speakers)
        others = _others(index, lengths)
        is_noise, ratio = self._sample_kind(others)
        if is_noise:
            added = _noise(noise.segment(index, mixed), mixed).split(pieces)
        else:
            heard = random.sample(others, min(speakers, len(others)))
            turns = _sample_turns(len(pieces), len(heard))
            speech = [audio[other, : lengths[other]] for other in heard]
            added = [_speech(speech[turn], piece) for turn, piece in zip(turns, pieces, strict=True)]
        return AddedAudio(list(added), starts, ratio)


def _others(index: int, lengths: list[int]) -> list[int]:
    return [other for other, length in enumerate(lengths) if other != index and length > 0]


def _noise(segment: Tensor, length: int) -> Tensor:
    """Noise [length]: the segment again and again, or silence where there is no noise."""
    return repeated(segment, length) if len(segment) else segment.new_zeros(length)


def _speech(utterance: Tensor, length: int) -> Tensor:
    """A random part [length] of an utterance [N], or all of it again and again where it is too short."""
    start = random.randint(0, max(0, len(utterance) - length))
    return repeated(utterance[start:], length)


def _sample_turns(pieces: int, speakers: int) -> list[int]:
    """Which speaker each piece is taken from: one after the other; after the last one, on from a random one."""
    turns: list[int] = []
    for _ in range(pieces):
        following = turns[-1] + 1 if turns else 0
        turns.append(following if following < speakers else random.randrange(speakers))
    return turns


def _check_range(
    name: str, minimum: float, maximum: float, lowest: float | None = None, highest: float | None = None
) -> None:
    check_number(f"min_{name}", minimum, lowest, highest)
    check_number(f"max_{name}", maximum, lowest, highest)
    check_number(f"max_{name}", maximum, minimum, allowed=f"at least min_{name} = {minimum}")


def _check_counts(name: str, minimum: int, maximum: int) -> None:
    check_whole_number(f"min_{name}", minimum, 1)
    check_whole_number(f"max_{name}", maximum, 1)
    check_whole_number(f"max_{name}", maximum, minimum, allowed=f"at least min_{name} = {minimum}")
