"""The log-mel features of a NeMo preprocessor, computed while the audio arrives."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nemo.collections.asr.parts.preprocessing.features import FilterbankFeatures
from nemo.collections.asr.parts.preprocessing.fixed_statistics import fixed_statistics, normalize_by
from nemo.collections.asr.parts.streaming.audio_input import check_audio, check_finite, check_lengths, silence_past
from nemo.collections.asr.parts.streaming.ragged_queue import RaggedQueue
from nemo.collections.asr.parts.utils.checks import check_whole_number
from nemo.collections.asr.parts.utils.warn_once import warn_once

__all__ = ["OnlineFeatures"]

_UNSCALED = 64.0
"""Audio scaled to [-1, 1] never has such a peak; unscaled PCM does."""


class OnlineFeatures:
    """Returns each feature frame as soon as the audio under its window has arrived.

    All frames together equal those that the preprocessor computes from the whole signal in eval mode (without dither),
    however the audio was cut. `finish` returns the last ones. A feature frame is one hop of the preprocessor, 10 ms in
    NeMo's configs.

        >>> features = OnlineFeatures(model.preprocessor)
        >>> for piece in pieces:
        ...     frames, lengths = features.push(piece)
        >>> frames, lengths = features.finish()

    Args:
        preprocessor: an `AudioToMelSpectrogramPreprocessor` with `normalize: "NA"`, or with fixed statistics,
            `normalize: {fixed_mean: [...], fixed_std: [...]}`.
        batch_size: streams that run side by side.
        device: where to compute; None for the preprocessor's own device.

    Raises:
        TypeError: another kind of preprocessor, or a `batch_size` that is no whole number.
        ValueError: a setting that needs the whole signal, or a `batch_size` below 1.
    """

    def __init__(self, preprocessor: nn.Module, batch_size: int = 1, device: torch.device | str | None = None):
        _check_preprocessor(preprocessor)
        self.batch_size = check_whole_number("batch_size", batch_size, minimum=1)
        featurizer = preprocessor.featurizer
        self._featurizer = featurizer
        self._dtype = getattr(preprocessor, "dtype_sentinel_tensor", featurizer.fb).dtype
        self.device = torch.device(device if device is not None else featurizer.fb.device)
        self.sample_rate = featurizer.sample_rate
        self.hop = featurizer.hop_length
        """Samples from one frame to the next."""

        size = featurizer.win_length
        self._padding = ((featurizer.n_fft - size) // 2, featurizer.n_fft - size - (featurizer.n_fft - size) // 2)
        self._window = F.pad(featurizer.window.to(self.device, torch.float32), self._padding)
        self._filters = featurizer.fb[0].to(self.device, torch.float32)
        self._statistics = fixed_statistics(featurizer.normalize, len(self._filters))
        left = featurizer.n_fft // 2 - self._padding[0]
        self.lookahead_samples = max(size - left, self.hop)
        """Samples after the centre of a frame that must have arrived before the frame is returned."""

        # Half a window of silence precedes the first sample, and one sample more for the pre-emphasis.
        self._lead = left + 1
        self._queue = RaggedQueue(batch_size, lead=self._lead, device=self.device)
        self._received = np.zeros(batch_size, dtype=np.int64)
        self._returned = np.zeros(batch_size, dtype=np.int64)
        self.finished = np.zeros(batch_size, dtype=bool)
        """Which streams have ended, `[B]`."""

    @property
    def nbytes(self) -> int:
        """Bytes of the samples that all streams hold."""
        return self._queue.nbytes

    def push(self, audio: Tensor | np.ndarray, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """Takes the next samples of each stream and returns the feature frames that they complete.

        Args:
            audio: `[B, N]`, or `[N]` for one stream; floating point, scaled to [-1, 1], at the preprocessor's rate.
            lengths: how many of the N samples belong to each stream, `[B]`; None for all.

        Returns:
            Features `[B, D, T]`, zero past each stream's own frames, and their numbers `[B]`. T may be 0.

        Raises:
            TypeError: samples or lengths of a wrong type.
            ValueError: a wrong shape, lengths out of range, samples that are not finite, or samples for a stream that
                has finished. The streams are not changed then.
        """
        frames, lengths = self.push_rows(audio, lengths)
        return _batch_of_frames(frames, lengths)

    def finish(self, stream: int | None = None) -> tuple[Tensor, Tensor]:
        """Ends one stream, or all of them, and returns the remaining frames in the form of `push`."""
        frames, lengths = self.finish_rows(self.rows(stream))
        return _batch_of_frames(frames, lengths)

    def reset(self, stream: int | None = None) -> None:
        """Restarts one stream, while the others go on, or all of them."""
        rows = self.rows(stream)
        with torch.inference_mode():
            self._queue.clear(rows)
        self._received[rows] = self._returned[rows] = 0
        self.finished[rows] = False

    def rows(self, stream: int | None) -> np.ndarray:
        """The indices of one stream, or of all of them for None.

        Raises:
            TypeError, ValueError: no index of a stream.
        """
        if stream is None:
            return np.arange(self.batch_size)
        last = self.batch_size - 1
        allowed = f"a whole number from 0 to {last}, or None for all streams"
        return np.array([check_whole_number("stream", stream, 0, last, allowed)])

    @torch.inference_mode()
    def push_rows(self, audio: Tensor | np.ndarray, lengths: Any = None) -> tuple[Tensor, np.ndarray]:
        """As `push`, but features `[B, T, D]`, undefined past each stream's own frames, and their numbers in NumPy."""
        audio, lengths = self._checked(audio, lengths)
        self._queue.append(audio, lengths)
        self._received += lengths
        needed = self._lead - 1 + self.lookahead_samples
        complete = np.maximum((self._queue.counts - 1 - needed) // self.hop + 1, 0)
        return self._next_frames(complete)

    @torch.inference_mode()
    def finish_rows(self, rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """As `finish`, for the streams of the given indices and in the form of `push_rows`."""
        remaining = np.zeros_like(self._returned)
        remaining[rows] = (self._received // self.hop - self._returned)[rows]
        frames, lengths = self._next_frames(remaining, ends=self._queue.counts)
        self.finished[rows] = True
        self._queue.clear(rows)
        return frames, lengths

    def _next_frames(self, lengths: np.ndarray, ends: np.ndarray | None = None) -> tuple[Tensor, np.ndarray]:
        """Computes the next `lengths[b]` frames of row b; its samples from `ends[b]` on are taken as zeros."""
        frames = int(lengths.max())
        if frames == 0:
            return self._filters.new_zeros(self.batch_size, 0, len(self._filters), dtype=self._dtype), lengths
        samples = self._queue.window(1 + (frames - 1) * self.hop + self._featurizer.win_length)
        emphasis = self._featurizer.preemph
        signal = samples[:, 1:] if emphasis is None else samples[:, 1:] - emphasis * samples[:, :-1]
        if ends is not None:
            place = torch.arange(1, samples.shape[1], device=self.device)
            signal = signal.masked_fill(place >= torch.from_numpy(ends).to(self.device)[:, None], 0.0)
        self._queue.drop(lengths * self.hop)
        self._returned += lengths
        with torch.autocast(self.device.type, enabled=False):
            return self._log_mel(signal).transpose(1, 2).to(self._dtype), lengths

    def _log_mel(self, signal: Tensor) -> Tensor:
        """Features `[B, D, T]` of a pre-emphasised signal `[B, N]`; the first window starts at the first sample.

        The window has the place in the Fourier frame that the preprocessor gives it, so that both round alike.
        """
        settings = self._featurizer
        spectrum = torch.stft(
            F.pad(signal, self._padding),
            settings.n_fft,
            hop_length=settings.hop_length,
            window=self._window,
            center=False,
            return_complex=True,
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        if settings.mag_power != 2.0:
            power = power.pow(settings.mag_power / 2)
        mel = torch.matmul(self._filters, power)
        if settings.log:
            guard = settings.log_zero_guard_value_fn(mel)
            mel = torch.log(mel + guard if settings.log_zero_guard_type == "add" else torch.clamp(mel, min=guard))
        return mel if self._statistics is None else normalize_by(self._statistics, mel)

    def _checked(self, audio: Any, lengths: Any) -> tuple[Tensor, np.ndarray]:
        """The samples as float32 `[B, N]`, zero past each length, and the lengths; or an error."""
        audio = check_audio(audio, self.batch_size)
        lengths = check_lengths(lengths, self.batch_size, audio.shape[1])
        late = np.flatnonzero(self.finished & (lengths > 0))
        if len(late):
            raise ValueError(
                f"audio must hold no samples of a finished stream; got some for stream {late[0]}. "
                f"Call reset({late[0]}) to begin a new stream there"
                + (", or set its length to 0" if self.batch_size > 1 else "")
            )
        audio = silence_past(audio.to(torch.float32), lengths)
        peak = check_finite(audio)
        if peak > _UNSCALED:
            warn_once(
                self,
                "unscaled",
                f"audio must be scaled to [-1, 1]; got a peak of {peak:g}. Divide 16-bit PCM by 32768.",
            )
        return audio.to(self.device), lengths


def _batch_of_frames(frames: Tensor, lengths: np.ndarray) -> tuple[Tensor, Tensor]:
    """Features `[B, T, D]` as NeMo's `[B, D, T]`, zero past each length."""
    counts = torch.from_numpy(lengths).to(frames.device)
    beyond = torch.arange(frames.shape[1], device=frames.device) >= counts[:, None]
    return frames.masked_fill(beyond[:, :, None], 0.0).transpose(1, 2), counts


def _check_preprocessor(preprocessor: nn.Module) -> None:
    settings = getattr(preprocessor, "featurizer", None)
    if not isinstance(settings, FilterbankFeatures):
        raise TypeError(
            f"preprocessor must be an AudioToMelSpectrogramPreprocessor; got {type(preprocessor).__name__}"
        )
    fixed = fixed_statistics(settings.normalize, settings.nfilt) is not None
    if not fixed and settings.normalize not in (None, "", "NA"):
        raise ValueError(
            "preprocessor.normalize must be 'NA', or fixed_mean and fixed_std, in a stream; got "
            f"{settings.normalize!r}, which takes mean and variance from the whole signal. Train the model with "
            'normalize: "NA" or with fixed statistics'
        )
    if settings.exact_pad:
        raise ValueError(
            "preprocessor.exact_pad must be false in a stream; got true, with which windows are not centred"
        )
    if settings.frame_splicing > 1:
        raise ValueError(
            f"preprocessor.frame_splicing must be 1 in a stream; got {settings.frame_splicing}, which stacks a frame "
            "with later ones"
        )
