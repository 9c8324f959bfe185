"""Log-mel frames of a NeMo preprocessor, from audio that arrives in pieces."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nemo.collections.asr.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.parts.streaming.ragged_queue import RaggedQueue
from nemo.collections.asr.parts.utils.warn_once import warn_once

__all__ = ["OnlineFeatures"]

_UNSCALED = 64.0
"""A peak that no audio scaled to [-1, 1] reaches."""


class OnlineFeatures:
    """Gives each feature frame as soon as the audio under its window has arrived.

    All frames together equal those that the preprocessor computes from the whole signal in evaluation (so without
    dither), whatever the pieces were; the last ones come with `finish`.

        >>> features = OnlineFeatures(model.preprocessor)
        >>> for piece in pieces:
        ...     frames, lengths = features.push(piece)
        >>> frames, lengths = features.finish()

    Args:
        preprocessor: an `AudioToMelSpectrogramPreprocessor` with `normalize: "NA"`.
        batch_size: streams that run side by side.
        device: where to compute; None for the preprocessor's own device.

    Raises:
        TypeError: another kind of preprocessor.
        ValueError: a setting that needs the whole signal; the message names it and says why.
    """

    def __init__(self, preprocessor: nn.Module, batch_size: int = 1, device: torch.device | str | None = None):
        _check_preprocessor(preprocessor)
        self.batch_size = check_whole_number(batch_size, "batch_size", least=1)
        featurizer = preprocessor.featurizer
        self._featurizer = featurizer
        self._dtype = preprocessor.dtype_sentinel_tensor.dtype
        self.device = torch.device(device if device is not None else featurizer.fb.device)
        self.sample_rate = featurizer.sample_rate
        self.hop = featurizer.hop_length
        """Samples from one frame to the next."""

        size = featurizer.win_length
        self._padding = ((featurizer.n_fft - size) // 2, featurizer.n_fft - size - (featurizer.n_fft - size) // 2)
        self._window = F.pad(featurizer.window.to(self.device, torch.float32), self._padding)
        self._filters = featurizer.fb[0].to(self.device, torch.float32)
        left = featurizer.n_fft // 2 - self._padding[0]
        self.reach = max(size - left, self.hop)
        """Samples from a frame's centre on that must have arrived before the frame is given."""

        # Before its first sample a signal is silent, for the window and (by one sample more) for the pre-emphasis.
        self._lead = left + 1
        self._queue = RaggedQueue(batch_size, lead=self._lead, device=self.device)
        self._received = np.zeros(batch_size, dtype=np.int64)
        self._given = np.zeros(batch_size, dtype=np.int64)
        self.finished = np.zeros(batch_size, dtype=bool)
        """Which streams have ended, `[B]`."""

    @property
    def nbytes(self) -> int:
        """Bytes of the samples that all streams keep."""
        return self._queue.nbytes

    def push(self, audio: Tensor | np.ndarray, lengths: Any = None) -> tuple[Tensor, Tensor]:
        """Takes the next samples of each stream and gives the frames that they complete.

        Args:
            audio: `[B, N]`, or `[N]` for one stream; floating point, scaled to [-1, 1], at the preprocessor's rate.
            lengths: how many of the N samples are each stream's own, `[B]`; None for all.

        Returns:
            Frames `[B, F, T]`, zero past each stream's own, and how many there are `[B]`. T may be 0.

        Raises:
            TypeError: samples or lengths of a wrong type.
            ValueError: a wrong shape, lengths out of range, samples that are not finite, a stream that has finished.
                Nothing is changed then.
        """
        frames, lengths = self.push_rows(audio, lengths)
        return _batch_of_frames(frames, lengths)

    def finish(self, stream: int | None = None) -> tuple[Tensor, Tensor]:
        """Ends one stream, or all of them, and gives the frames that were waiting for audio; as `push`."""
        frames, lengths = self.finish_rows(self.rows(stream))
        return _batch_of_frames(frames, lengths)

    def reset(self, stream: int | None = None) -> None:
        """Begins anew, with one stream (the others go on) or with all of them."""
        rows = self.rows(stream)
        with torch.inference_mode():
            self._queue.clear(rows)
        self._received[rows] = self._given[rows] = 0
        self.finished[rows] = False

    def rows(self, stream: int | None) -> np.ndarray:
        """The index of a stream as an array, after a check; None stands for all streams."""
        if stream is None:
            return np.arange(self.batch_size)
        if isinstance(stream, bool) or not isinstance(stream, (int, np.integer)):
            raise TypeError(f"stream is {stream!r}, but must be a whole number, or None for all")
        if not 0 <= stream < self.batch_size:
            raise ValueError(f"stream is {stream}, but must be from 0 to {self.batch_size - 1}, or None for all")
        return np.array([stream])

    @torch.inference_mode()
    def push_rows(self, audio: Tensor | np.ndarray, lengths: Any = None) -> tuple[Tensor, np.ndarray]:
        """As `push`, but frames `[B, T, F]` with anything past each stream's own, and the lengths in host memory."""
        audio, lengths = self._checked(audio, lengths)
        self._queue.append(audio, lengths)
        self._received += lengths
        complete = np.maximum((self._queue.counts - 1 - self._reach_from_start) // self.hop + 1, 0)
        return self._take(complete)

    @torch.inference_mode()
    def finish_rows(self, rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """As `finish`, for the streams of the given indices and in the form of `push_rows`."""
        waiting = np.zeros_like(self._given)
        waiting[rows] = (self._received // self.hop - self._given)[rows]
        waiting[self.finished] = 0
        frames, lengths = self._take(waiting, ends=self._queue.counts)
        self.finished[rows] = True
        self._queue.clear(rows)
        return frames, lengths

    @property
    def _reach_from_start(self) -> int:
        return self._lead - 1 + self.reach

    def _take(self, lengths: np.ndarray, ends: np.ndarray | None = None) -> tuple[Tensor, np.ndarray]:
        """Computes and hands out the next `lengths[b]` frames of row b; past `ends[b]` samples a row is silent."""
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
        self._given += lengths
        with torch.autocast(self.device.type, enabled=False):
            return self._log_mel(signal).transpose(1, 2).to(self._dtype), lengths

    def _log_mel(self, signal: Tensor) -> Tensor:
        """Features `[B, F, T]` of a pre-emphasised signal `[B, N]`, the first window starting at its first sample.

        Each window lies in the Fourier frame where `torch.stft` puts it, so that rounding is the preprocessor's own.
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
        if not settings.log:
            return mel
        guard = settings.log_zero_guard_value_fn(mel)
        return torch.log(mel + guard if settings.log_zero_guard_type == "add" else torch.clamp(mel, min=guard))

    def _checked(self, audio: Any, lengths: Any) -> tuple[Tensor, np.ndarray]:
        """The samples as float32 `[B, N]`, zero past each length, and the lengths; or an error."""
        audio = self._checked_audio(audio)
        lengths = self._checked_lengths(lengths, audio.shape[1])
        late = np.flatnonzero(self.finished & (lengths > 0))
        if len(late):
            raise ValueError(
                f"audio brings samples for stream {late[0]}, which has finished: call reset({late[0]}) to begin a new "
                "one there" + (", or give it 0 in lengths" if self.batch_size > 1 else "")
            )
        audio = audio.to(torch.float32)
        if (lengths < audio.shape[1]).any():
            own = torch.arange(audio.shape[1]) < torch.from_numpy(lengths)[:, None]
            audio = audio.masked_fill(~own.to(audio.device), 0.0)
        self._check_values(audio)
        return audio.to(self.device), lengths

    def _checked_audio(self, audio: Any) -> Tensor:
        if isinstance(audio, np.ndarray):
            audio = torch.from_numpy(np.require(audio, requirements=("C", "W")))
        if not isinstance(audio, Tensor):
            raise TypeError(f"audio is a {type(audio).__name__}, but must be a torch.Tensor or a numpy array")
        if not audio.dtype.is_floating_point:
            raise TypeError(
                f"audio is of type {audio.dtype}, but must be floating point scaled to [-1, 1]; "
                "for 16-bit PCM: audio.astype('float32') / 32768 (numpy) or audio.float() / 32768 (torch)"
            )
        if audio.dim() == 1 and self.batch_size == 1:
            audio = audio[None]
        if audio.dim() != 2 or audio.shape[0] != self.batch_size:
            allowed = f"[{self.batch_size}, N]" + (" or [N]" if self.batch_size == 1 else "")
            raise ValueError(f"audio is of shape {list(audio.shape)}, but must be {allowed}: one row for each stream")
        return audio

    def _checked_lengths(self, lengths: Any, samples: int) -> np.ndarray:
        if lengths is None:
            return np.full(self.batch_size, samples, dtype=np.int64)
        array = np.asarray(lengths.cpu() if isinstance(lengths, Tensor) else lengths)
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"lengths is {lengths!r}, but must be whole numbers, one for each stream")
        if array.shape != (self.batch_size,) or array.min() < 0 or array.max() > samples:
            raise ValueError(
                f"lengths is {array.tolist()}, but must be {self.batch_size} whole numbers from 0 to {samples}, "
                "one for each stream"
            )
        return array.astype(np.int64)

    def _check_values(self, audio: Tensor) -> None:
        if audio.numel() == 0:
            return
        peak = torch.linalg.vector_norm(audio, ord=float("inf")).item()
        if not np.isfinite(peak):
            stream, sample = torch.nonzero(~torch.isfinite(audio))[0].tolist()
            raise ValueError(
                f"audio holds {audio[stream, sample].item()} in stream {stream} at sample {sample}, "
                "but all samples must be finite"
            )
        if peak > _UNSCALED:
            warn_once(
                self,
                "unscaled",
                f"audio has a peak of {peak:g}, which looks like PCM that was not scaled to [-1, 1]; "
                "divide 16-bit samples by 32768.",
            )


def _batch_of_frames(frames: Tensor, lengths: np.ndarray) -> tuple[Tensor, Tensor]:
    """Frames `[B, T, F]` as NeMo's `[B, F, T]`, zero past each length."""
    counts = torch.from_numpy(lengths).to(frames.device)
    beyond = torch.arange(frames.shape[1], device=frames.device) >= counts[:, None]
    return frames.masked_fill(beyond[:, :, None], 0.0).transpose(1, 2), counts


def _check_preprocessor(preprocessor: nn.Module) -> None:
    if not isinstance(preprocessor, AudioToMelSpectrogramPreprocessor):
        raise TypeError(
            f"preprocessor is a {type(preprocessor).__name__}, but must be an AudioToMelSpectrogramPreprocessor"
        )
    settings = preprocessor.featurizer
    if settings.normalize not in (None, "", "NA"):
        raise ValueError(
            f"preprocessor.normalize is {settings.normalize!r}, which takes mean and variance from the whole "
            'signal; a stream has only seen its beginning, so the model must be trained with normalize: "NA"'
        )
    if settings.exact_pad:
        raise ValueError(
            "preprocessor.exact_pad is true, which frames the signal without centring its windows; "
            "online features are made for the centred frames of exact_pad: false"
        )
    if settings.frame_splicing > 1:
        raise ValueError(
            f"preprocessor.frame_splicing is {settings.frame_splicing}, which stacks frames that follow; "
            "online features are made for frame_splicing: 1"
        )


def check_whole_number(value: Any, name: str, least: int) -> int:
    """Returns `value` if it is a whole number of at least `least`.

    Raises:
        TypeError, ValueError: naming the argument, its value and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, but must be a whole number of at least {least}")
    if value < least:
        raise ValueError(f"{name} is {value}, but must be a whole number of at least {least}")
    return int(value)
