"""Data sets of speech with noise: what is not augmented is clean, and noise is read only where it is mixed."""

import io
import os
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from lhotse import CutSet
from lhotse.audio.utils import AudioLoadingError, DurationMismatchError, NonPositiveEnergyError
from lhotse.cut import Cut
from omegaconf import DictConfig
from torch import Tensor

from nemo.collections.asr.data.audio_files import (
    AudioFile,
    ChannelSelector,
    UnreadableAudio,
    read_audio,
    select_channel,
    usable,
)
from nemo.collections.asr.data.dataset_builders import changed, with_options
from nemo.collections.asr.data.noise_loading import load_noise_audio, load_noise_manifest, sample_noise  # noqa: F401
from nemo.collections.asr.data.noise_recordings import NoiseRecordings
from nemo.collections.asr.data.noisy_batches import RecordedNoise, augmented, pad_together
from nemo.collections.asr.data.speech_options import NOISE_CACHE_MB, SpeechOptions, check_data_config
from nemo.collections.asr.data.ssl_dataset import AudioNoiseBatch as NemoAudioNoiseBatch
from nemo.collections.asr.data.ssl_dataset import AudioNoiseDataset as NemoAudioNoiseDataset
from nemo.collections.asr.data.ssl_dataset import AudioNoiseItem, pad_audio
from nemo.collections.asr.data.ssl_dataset import TarredAudioNoiseDataset as NemoTarredAudioNoiseDataset
from nemo.collections.asr.data.ssl_dataset import _parse_manifest_item as _nemo_manifest_item
from nemo.collections.asr.data.ssl_dataset import (
    get_audio_noise_dataset as nemo_get_audio_noise_dataset,
)
from nemo.collections.asr.data.ssl_dataset import (
    get_audio_noise_dataset_from_config as nemo_get_audio_noise_dataset_from_config,
)
from nemo.collections.asr.data.ssl_dataset import (
    get_concat_audio_noise_dataset as nemo_get_concat_audio_noise_dataset,
)
from nemo.collections.asr.data.ssl_dataset import (
    get_concat_tarred_audio_noise_dataset as nemo_get_concat_tarred_audio_noise_dataset,
)
from nemo.collections.asr.data.ssl_dataset import (
    get_tarred_audio_noise_dataset as nemo_get_tarred_audio_noise_dataset,
)
from nemo.collections.asr.data.tar_order import shuffle_by_global_state
from nemo.collections.asr.parts.preprocessing.segment import AudioSegment
from nemo.collections.asr.parts.utils.checks import check_number
from nemo.core.classes import Serialization

if TYPE_CHECKING:
    from nemo.collections.asr.parts.preprocessing.features import WaveformFeaturizer


@dataclass
class AudioNoiseBatch(NemoAudioNoiseBatch):
    """As NeMo's, which a data loader with `pin_memory: true` leaves as it is: torch pins no dataclass by itself."""

    if TYPE_CHECKING:  # NeMo's fields, which a type checker does not see; None for what is not there (yet)
        sample_id: Any = None
        audio: Any = None
        audio_len: Any = None
        noise: Any = None
        noise_len: Any = None
        noisy_audio: Any = None
        noisy_audio_len: Any = None

    def pin_memory(self) -> "AudioNoiseBatch":
        """The batch with its tensors in page-locked memory, from which a GPU copies beside its work."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return AudioNoiseBatch(
            **{name: value.pin_memory() if torch.is_tensor(value) else value for name, value in values.items()}
        )


def _parse_manifest_item(line: str, manifest_file: str) -> dict[str, Any]:
    item = _nemo_manifest_item(line, manifest_file)
    for key in ("duration", "offset"):
        if item[key] is not None:
            check_number(key, item[key], minimum=0)
    return item


def _audio_noise_collate_fn(
    batch: list[AudioNoiseItem],
    batch_augmentor: Callable | None = None,
    noise: NoiseRecordings | None = None,
    sample_rate: int = 16000,
) -> AudioNoiseBatch:
    """Puts utterances [N] into one batch [B, N], and augments it.

    Args:
        batch: utterances; those that have `noise` are given it, as NeMo does.
        batch_augmentor: see `augmented`.
        noise: where noise comes from for utterances that have none.
        sample_rate: Hz.
    """
    audio, lengths = pad_together([item.audio for item in batch])
    made = AudioNoiseBatch(audio=audio, audio_len=lengths)
    if batch_augmentor is not None and all(item.noise is not None for item in batch):
        made.noise, _ = pad_together([item.noise[: audio.shape[1]] for item in batch], audio.shape[1])
        made.noise_len = torch.stack([item.noise_len for item in batch]).long()
        return batch_augmentor(made)
    return augmented(made, batch_augmentor, RecordedNoise(noise or NoiseRecordings([]), sample_rate, lengths.tolist()))


class _NoisySpeech:
    """What data sets of files and of tar files have in common: reading an utterance, and making a batch."""

    # What NeMo's data sets have.
    featurizer: "WaveformFeaturizer"
    trim: bool

    def use_options(self, options: SpeechOptions) -> None:
        """Reads, augments and reports as these options say from now on."""
        self.noise, self.noise_data = options.noise, options.noise.entries
        self.batch_augmentor = options.batch_augmentor
        self.unreadable = options.unreadable
        self.channel_selector = options.channel_selector
        self.min_audio_len_secs, self.pad_audio_mode = options.min_audio_len_secs, options.pad_audio_mode

    def _read(self, file: AudioFile, entry: Any) -> Tensor | None:
        """The utterance [N] that `entry` of the manifest names, read from `file`; None if it is to be left out."""
        name = f"{entry.audio_file}" + (f" at {entry.offset} s" if entry.offset else "")
        rate, augmentor = self.featurizer.sample_rate, self.featurizer.augmentor
        try:
            samples = read_audio(file, rate, entry.offset, entry.duration, self.channel_selector, name)
            if self.trim or getattr(augmentor, "_pipeline", True):
                segment = AudioSegment(samples, rate, trim=self.trim, orig_sr=entry.orig_sr)
                samples = usable(self.featurizer.process_segment(segment).numpy())
        except UnreadableAudio as error:
            self.unreadable.report(name, error)
            return None
        return pad_audio(torch.from_numpy(samples), int(self.min_audio_len_secs * rate), self.pad_audio_mode)

    def _item(self, index: int, audio: Tensor | None) -> AudioNoiseItem:
        length = None if audio is None else torch.tensor(len(audio))
        return AudioNoiseItem(sample_id=str(index), audio=audio, audio_len=length)

    def _collate_fn(self, batch: list[AudioNoiseItem]) -> AudioNoiseBatch:
        return _audio_noise_collate_fn(batch, self.batch_augmentor, self.noise, self.featurizer.sample_rate)


class AudioNoiseDataset(_NoisySpeech, NemoAudioNoiseDataset):
    """Utterances of a manifest. Noise is not part of an item: it is read when a batch is made, where it is added.

    Args:
        noise_manifest: manifests of noise recordings.
        batch_augmentor: adds noise to a batch; None leaves it clean.
        min_audio_len_secs, pad_audio_mode, noise_cache_mb, unreadable_audio, channel_selector: see `SpeechOptions`.
        **kwargs: those of NeMo's `AudioToCharDataset`, such as `manifest_filepath` and `sample_rate`.

    Raises:
        TypeError, ValueError, FileNotFoundError: an option, a manifest or a file of noise is not what it must be; or
            no utterance is left.
    """

    def __init__(
        self,
        noise_manifest: str | Sequence[str] | None = None,
        batch_augmentor: Callable | None = None,
        min_audio_len_secs: float = 1.0,
        pad_audio_mode: str = "repeat",
        noise_cache_mb: float = NOISE_CACHE_MB,
        unreadable_audio: str = "skip",
        **kwargs: Any,
    ):
        check_data_config(kwargs)
        options = SpeechOptions.of(
            noise_manifest,
            batch_augmentor,
            noise_cache_mb,
            unreadable_audio,
            kwargs.get("channel_selector"),
            min_audio_len_secs,
            pad_audio_mode,
        )
        super().__init__(**kwargs)
        self.use_options(options)
        if len(self) == 0:
            raise ValueError(
                "manifest_filepath must name manifests with utterances between min_duration and max_duration; got "
                f"{kwargs['manifest_filepath']}, of which nothing is left"
            )

    def __getitem__(self, index: int) -> AudioNoiseItem:
        """The utterance of a line of the manifest; its `audio` is None if it cannot be read."""
        entry = self.manifest_processor.collection[index]
        return self._item(index, self._read(entry.audio_file, entry))

    def _collate_fn(self, batch: list[AudioNoiseItem]) -> AudioNoiseBatch:
        readable = [item for item in batch if item.audio is not None]
        return super()._collate_fn(readable or [self._readable_after(int(batch[-1].sample_id))])

    def _readable_after(self, index: int) -> AudioNoiseItem:
        """The next utterance of the manifest that can be read: ranks must have equally many batches."""
        for step in range(1, len(self) + 1):
            item = self[(index + step) % len(self)]
            if item.audio is not None:
                return item
        first = self.manifest_processor.collection[0].audio_file
        raise RuntimeError(f"None of the {len(self)} utterances can be read; the first is {first}")


class TarredAudioNoiseDataset(_NoisySpeech, NemoTarredAudioNoiseDataset):
    """Utterances of tar files; arguments and noise as `AudioNoiseDataset`, and those of NeMo's tarred data sets.

    The order of the tar files is taken from Python's global random state, which a data loader seeds in its workers.
    """

    def __init__(
        self,
        noise_manifest: str | Sequence[str] | None = None,
        batch_augmentor: Callable | None = None,
        min_audio_len_secs: float = 1.0,
        pad_audio_mode: str = "repeat",
        noise_cache_mb: float = NOISE_CACHE_MB,
        unreadable_audio: str = "skip",
        channel_selector: ChannelSelector = None,
        **kwargs: Any,
    ):
        check_data_config(kwargs)
        options = SpeechOptions.of(
            noise_manifest,
            batch_augmentor,
            noise_cache_mb,
            unreadable_audio,
            channel_selector,
            min_audio_len_secs,
            pad_audio_mode,
        )
        super().__init__(**kwargs)
        self.use_options(options)
        shuffle_by_global_state(self._dataset)

    def _build_sample(self, tup: tuple[bytes, str, int]) -> AudioNoiseItem | None:
        """The utterance of a file in a tar file, and of its n-th line of the manifest; None to go on to the next."""
        data, file, number = tup
        file_id, _ = os.path.splitext(os.path.basename(file))
        index = self.manifest_processor.collection.mapping[file_id][number]
        audio = self._read(io.BytesIO(data), self.manifest_processor.collection[index])
        return None if audio is None else self._item(index, audio)


class LhotseAudioNoiseDataset(torch.utils.data.Dataset):
    """Batches of Lhotse's cuts, with noise as `AudioNoiseDataset` has.

    Args:
        noise_manifest: manifests of noise recordings.
        batch_augmentor_cfg: config of what adds noise to a batch; None leaves it clean.
        noise_cache_mb, unreadable_audio, channel_selector: see `SpeechOptions`.

    Raises:
        TypeError, ValueError, FileNotFoundError: an option, a manifest or a file of noise is not what it must be.
    """

    def __init__(
        self,
        noise_manifest: str | Sequence[str] | None = None,
        batch_augmentor_cfg: DictConfig | None = None,
        noise_cache_mb: float = NOISE_CACHE_MB,
        unreadable_audio: str = "skip",
        channel_selector: ChannelSelector = None,
    ):
        super().__init__()
        augmentor = Serialization.from_config_dict(batch_augmentor_cfg) if batch_augmentor_cfg else None
        self.options = SpeechOptions.of(noise_manifest, augmentor, noise_cache_mb, unreadable_audio, channel_selector)
        self._last_read: Tensor | None = None

    @classmethod
    def from_config(cls, config: Mapping) -> "LhotseAudioNoiseDataset":
        """Takes its options from a config such as `model.train_ds`; null stands for a default."""
        names = ("noise_manifest", "noise_cache_mb", "unreadable_audio", "channel_selector")
        given: dict[str, Any] = {name: config.get(name) for name in names if config.get(name) is not None}
        return cls(batch_augmentor_cfg=config.get("batch_augmentor"), **given)

    def __getitem__(self, cuts: CutSet) -> AudioNoiseBatch:
        """A batch of the cuts that can be read; of the last cut that could be, if none of these can."""
        cuts = list(cuts)
        signals = [signal for signal in map(self._read, cuts) if signal is not None]
        if not signals:
            if self._last_read is None:
                raise RuntimeError(f"None of the first {len(cuts)} cuts can be read; the first is {cuts[0].id}")
            signals = [self._last_read]
        self._last_read = signals[-1]
        audio, lengths = pad_together(signals)
        noise = RecordedNoise(self.options.noise, cuts[0].sampling_rate, lengths.tolist())
        return augmented(AudioNoiseBatch(audio=audio, audio_len=lengths), self.options.batch_augmentor, noise)

    def _read(self, cut: Cut) -> Tensor | None:
        try:
            channels = cut.load_audio()
            # Lhotse has selected a channel already where a number says which.
            selector = self.options.channel_selector if len(channels) > 1 else None
            return torch.from_numpy(usable(select_channel(channels.T, selector, f"cut {cut.id}")))
        except (UnreadableAudio, AudioLoadingError, DurationMismatchError, NonPositiveEnergyError, OSError) as error:
            reason, _, _ = str(error).partition("\n")  # Lhotse's goes on for many lines
            self.options.unreadable.report(f"cut {cut.id}", f"{type(error).__name__}: {reason}")
            return None


get_audio_noise_dataset = with_options(nemo_get_audio_noise_dataset)
get_concat_audio_noise_dataset = with_options(nemo_get_concat_audio_noise_dataset)
get_tarred_audio_noise_dataset = with_options(nemo_get_tarred_audio_noise_dataset)
get_concat_tarred_audio_noise_dataset = with_options(nemo_get_concat_tarred_audio_noise_dataset)


def get_audio_noise_dataset_from_config(config: MutableMapping, global_rank: int, world_size: int) -> Any:
    """The data set that a config such as `model.train_ds` asks for; null leaves an augmentor out.

    Raises:
        TypeError, ValueError, FileNotFoundError: an option, a manifest or a file of noise is not what it must be.
    """
    nulls = [key for key in ("augmentor", "batch_augmentor") if key in config and config[key] is None]
    return nemo_get_audio_noise_dataset_from_config(changed(config, without=nulls), global_rank, world_size)
