"""What data sets of speech with noise can be told, as in `model.train_ds`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo.collections.asr.data.audio_files import ChannelSelector
from nemo.collections.asr.data.noise_manifests import read_noise_manifests
from nemo.collections.asr.data.noise_recordings import NoiseRecordings
from nemo.collections.asr.data.unreadable_files import UnreadableFiles
from nemo.collections.asr.parts.utils.checks import check_choice, check_number, check_whole_number
from nemo.utils import logging

__all__ = ["NOISE_CACHE_MB", "SpeechOptions", "check_data_config"]

NOISE_CACHE_MB = 64
"""MB of noise that each worker keeps, unless told otherwise: 17 minutes at 16 kHz."""


@dataclass(frozen=True)
class SpeechOptions:
    """How utterances are read and augmented."""

    noise: NoiseRecordings
    """What noise is taken from; may be empty."""

    batch_augmentor: Callable | None = None
    """Adds noise to a batch; None leaves it clean."""

    unreadable: UnreadableFiles = field(default_factory=UnreadableFiles)
    """What is done about utterances that cannot be read."""

    channel_selector: ChannelSelector = None
    """Of files with several channels: a channel's number, from 0, or `average`."""

    min_audio_len_secs: float = 1.0
    """Seconds; shorter utterances are made as long as that."""

    pad_audio_mode: str = "repeat"
    """How: `repeat` plays them again and again, `zero` appends silence."""

    @classmethod
    def of(
        cls,
        noise_manifest: Any = None,
        batch_augmentor: Callable | None = None,
        noise_cache_mb: float = NOISE_CACHE_MB,
        unreadable_audio: str = "skip",
        channel_selector: ChannelSelector = None,
        min_audio_len_secs: float = 1.0,
        pad_audio_mode: str = "repeat",
    ) -> "SpeechOptions":
        """The options as a config has them.

        Raises:
            TypeError, ValueError, FileNotFoundError: one of them is not what is allowed.
        """
        unreadable = UnreadableFiles(unreadable_audio).share()
        check_number("min_audio_len_secs", min_audio_len_secs, minimum=0)
        check_choice("pad_audio_mode", pad_audio_mode, ("repeat", "zero"))
        noise = NoiseRecordings(read_noise_manifests(noise_manifest), noise_cache_mb, unreadable)
        if len(noise) and batch_augmentor is None:
            logging.warning(
                "noise_manifest is set, but no noise is added: batch_augmentor, which would add it, is null."
            )
        return cls(noise, batch_augmentor, unreadable, channel_selector, min_audio_len_secs, pad_audio_mode)

    @classmethod
    def from_config(cls, config: Mapping, batch_augmentor: Callable | None = None) -> "SpeechOptions":
        """The options of a config such as `model.train_ds`; null, or no key, stands for a default."""
        names = (
            "noise_manifest",
            "noise_cache_mb",
            "unreadable_audio",
            "channel_selector",
            "min_audio_len_secs",
            "pad_audio_mode",
        )
        given: dict[str, Any] = {name: config.get(name) for name in names if config.get(name) is not None}
        return cls.of(**given, batch_augmentor=batch_augmentor)


def check_data_config(config: Mapping) -> None:
    """Checks the numbers of a config such as `model.train_ds` before anything is read.

    Raises:
        TypeError, ValueError: a number is none, out of range, or a minimum is above its maximum.
    """
    check_whole_number("sample_rate", config.get("sample_rate"), minimum=1)
    shortest, longest = config.get("min_duration"), config.get("max_duration")
    if shortest is not None:
        check_number("min_duration", shortest)
    if longest is not None and longest != math.inf:
        check_number("max_duration", longest, minimum=0)
        if shortest is not None:
            check_number("max_duration", longest, shortest, allowed=f"at least min_duration = {shortest}")
