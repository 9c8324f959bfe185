"""Writes audio and manifests for tests, and looks at what data loaders make of them."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

from nemo.collections.asr.data.ssl_dataset import AudioNoiseBatch

RATE = 16000

KINDS = ("plain", "concat", "tarred", "buckets", "adaptive buckets", "concat tarred", "lhotse cuts", "lhotse shar")
"""The data sets that NeMo has for speech with noise."""


def write_audio(file: Path, samples: np.ndarray, rate: int = RATE, **options) -> Path:
    """Writes samples [N] or [N, channels]; options are those of `soundfile.write`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, samples, rate, **options)
    return file


def write_manifest(file: Path, entries: list[dict]) -> Path:
    """Writes one JSON object a line."""
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return file


def speech_like(seed: int, seconds: float, rate: int = RATE) -> np.ndarray:
    """Noise [N] with a moving envelope."""
    generator = np.random.default_rng(seed)
    samples = int(seconds * rate)
    envelope = generator.random(samples // 160 + 1).repeat(160)[:samples]
    return 0.1 * envelope * generator.standard_normal(samples)


def entries_of(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def tar_up(manifest: Path, folder: Path) -> dict[str, str]:
    """Puts the files of a manifest into two tar files, and returns the options that name them."""
    folder.mkdir(exist_ok=True)
    entries = entries_of(manifest)
    for shard in range(2):
        with tarfile.open(folder / f"audio_{shard}.tar", "w") as tar:
            for entry in entries[shard::2]:
                tar.add(entry["audio_filepath"], arcname=Path(entry["audio_filepath"]).name)
    names = [{**entry, "audio_filepath": Path(entry["audio_filepath"]).name} for entry in entries]
    written = write_manifest(folder / "tarred_audio_manifest.json", names)
    return {"manifest_filepath": str(written), "tarred_audio_filepaths": str(folder / "audio__OP_0..1_CL_.tar")}


def utterances(batches) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Audio, noise and noisy audio [N] of each utterance; lengths and padding are checked on the way."""
    for batch in batches:
        assert isinstance(batch, AudioNoiseBatch)
        lengths = batch.audio_len.tolist()
        assert batch.noise_len.tolist() == batch.noisy_audio_len.tolist() == lengths
        assert batch.audio.dtype == batch.noisy_audio.dtype == torch.float32 and batch.audio_len.dtype == torch.int64
        assert batch.audio.shape == batch.noise.shape == batch.noisy_audio.shape == (len(lengths), max(lengths))
        for index, length in enumerate(lengths):
            for signal in (batch.audio, batch.noise, batch.noisy_audio):
                assert not signal[index, length:].any()
            yield batch.audio[index, :length], batch.noise[index, :length], batch.noisy_audio[index, :length]


class BatchesOfLoaders(torch.utils.data.Dataset):
    """Item k is the list of all batches of data loader k, made by whoever asks for it."""

    def __init__(self, loaders: list[torch.utils.data.DataLoader]):
        self.loaders = loaders

    def __len__(self) -> int:
        return len(self.loaders)

    def __getitem__(self, index: int) -> list[AudioNoiseBatch]:
        return list(self.loaders[index])
