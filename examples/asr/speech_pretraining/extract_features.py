"""Computes encoder features of audio files at one or more attention contexts.

    python extract_features.py --model nest.nemo --out features --context low --context unlimited speech.wav more.flac
    python extract_features.py --model nest.nemo --out features --manifest manifest.json

Writes one `.npz` for each utterance: an array [frames, channels] (float32, one frame every 80 ms) under each context's
name, and prints a table of the contexts. `stream_features.py` computes the same frames live.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS
from nemo.collections.asr.parts.preprocessing.segment import AudioSegment
from nemo.collections.asr.parts.utils.streaming_utils import dynamic_context


@dataclass(frozen=True)
class Utterance:
    """A piece of an audio file, and the name of its features."""

    name: str
    path: Path
    offset: float = 0.0
    """Seconds."""
    duration: float | None = None
    """Seconds; None for the rest of the file."""

    def samples(self, rate: int) -> np.ndarray:
        """Mono samples in [-1, 1] at `rate` Hz: other rates are resampled, channels averaged."""
        segment = AudioSegment.from_file(
            str(self.path),
            target_sr=rate,
            offset=self.offset,
            duration=self.duration or 0,
            channel_selector="average",
        )
        return segment.samples.astype(np.float32)


def read_utterances(files: list[str], manifests: list[str]) -> list[Utterance]:
    """The utterances of audio files and of NeMo manifests (paths in those are relative to the manifest).

    Raises:
        FileNotFoundError: naming all files that do not exist.
        ValueError: a manifest's line is not JSON, or has no `audio_filepath`; or there is no utterance at all.
    """
    utterances = [Utterance(Path(file).stem, Path(file)) for file in files]
    for manifest in manifests:
        utterances.extend(_manifest_utterances(Path(manifest)))
    missing = [str(utterance.path) for utterance in utterances if not utterance.path.is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} audio files do not exist: {', '.join(missing[:5])}")
    if not utterances:
        raise ValueError("there is nothing to do: name audio files, or a manifest with --manifest")
    return [
        utterance if index == 0 else Utterance(f"{utterance.name}-{index}", *_place(utterance))
        for utterance, index in zip(utterances, _repeats(utterances), strict=True)
    ]


def _manifest_utterances(manifest: Path) -> Iterator[Utterance]:
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            path = manifest.parent / entry["audio_filepath"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{manifest}:{number} is no manifest entry with an 'audio_filepath': {line[:80]}"
            ) from error
        yield Utterance(path.stem, path, entry.get("offset") or 0.0, entry.get("duration"))


def _place(utterance: Utterance) -> tuple[Path, float, float | None]:
    return utterance.path, utterance.offset, utterance.duration


def _repeats(utterances: list[Utterance]) -> Iterator[int]:
    """For each utterance, how often its name has come before."""
    seen: dict[str, int] = {}
    for utterance in utterances:
        yield seen.get(utterance.name, 0)
        seen[utterance.name] = seen.get(utterance.name, 0) + 1


def parse_context(text: str) -> str | list[int]:
    """A preset's name, or `left,right` as a list of whole numbers."""
    if not any(character.isdigit() for character in text):
        return text
    try:
        return [int(size) for size in text.strip("[]").split(",")]
    except ValueError:
        return text


@torch.inference_mode()
def extract(
    model: EncDecDenoiseMaskedTokenPredModel, utterances: list[Utterance], contexts: list[str], out: Path
) -> list[dict[str, float | str]]:
    """Writes `out/NAME.npz` for each utterance, and returns a row of figures for each context."""
    out.mkdir(parents=True, exist_ok=True)
    model.eval()
    rate = model.cfg.preprocessor.sample_rate
    frame_seconds = model.cfg.preprocessor.window_stride * model.encoder.subsampling_factor
    rows = {name: {"context": name, "frames": 0, "seconds": 0.0, "computing": 0.0} for name in contexts}
    for utterance in tqdm(utterances, desc="Utterances", unit="file"):
        audio = torch.from_numpy(utterance.samples(rate)).to(model.device)[None]
        lengths = torch.tensor([audio.shape[1]], device=model.device)
        features = {}
        for name in contexts:
            with dynamic_context(model, parse_context(name)) as context:
                start = time.perf_counter()
                processed, processed_length = model.preprocessor(input_signal=audio, length=lengths)
                encoded, encoded_length = model.encoder(audio_signal=processed, length=processed_length)
                row = rows[name]
                row["computing"] += time.perf_counter() - start
            frames = int(encoded_length[0])
            features[name] = encoded[0, :, :frames].T.float().cpu().numpy()
            row["attention"], row["left"] = str(context), _seconds(context[0], frame_seconds)
            row["frames"] += frames
            row["seconds"] += audio.shape[1] / rate
        np.savez(out / f"{utterance.name}.npz", **features)
    return list(rows.values())


def _seconds(frames: int, frame_seconds: float) -> str:
    return "unlimited" if frames < 0 else f"{frames * frame_seconds:.1f} s"


def table(rows: list[dict[str, float | str]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| context | attention | left | frames | audio | real-time factor |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['context']} | {row['attention']} | {row['left']} | {row['frames']} | {row['seconds']:.1f} s "
            f"| {row['computing'] / max(row['seconds'], 1e-9):.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Reads the command line, and does it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="audio files (WAV, FLAC, ...); any rate, channels are averaged")
    parser.add_argument("--model", required=True, help=".nemo file of a pretrained model")
    parser.add_argument("--manifest", action="append", default=[], help="NeMo manifest; can be given more than once")
    parser.add_argument("--out", required=True, type=Path, help="folder for the .npz files")
    parser.add_argument(
        "--context",
        action="append",
        help=f"a preset ({', '.join(CONTEXT_PRESETS)}, or one of the model's) or LEFT,RIGHT in encoder frames; "
        "can be given more than once (default: every preset)",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    try:
        utterances = read_utterances(arguments.files, arguments.manifest)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    model = EncDecDenoiseMaskedTokenPredModel.restore_from(arguments.model, map_location=arguments.device)
    rows = extract(model, utterances, arguments.context or list(CONTEXT_PRESETS), arguments.out)
    print(f"\n{table(rows)}\n\n{len(utterances)} files of features in {arguments.out}")


if __name__ == "__main__":
    main()
