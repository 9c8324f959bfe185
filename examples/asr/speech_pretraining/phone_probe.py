"""How much of the phones a linear classifier finds in the frames of a frozen encoder, at each attention context.

    python phone_probe.py --model nest.nemo --corpus demo/corpus --out probe

The corpus is that of `demo_corpus.py`, which knows when each phone was spoken. The classifier is trained on frames of
the training voices and tested on voices that it has not heard. It sees the outputs of all layers side by side, since
the last ones serve the prediction of tokens more than what was said; the last layer alone is shown too. It is tested
twice: on frames that the encoder gives for whole files, and on frames that an `EncoderStream` gives live. Beside that
stand the most frequent phone's share (chance), the same classifier on the log-mels that a frame is made of, and on an
encoder with random weights. Writes `probe.md` and `probe.json`.

The classifier is stopped early and has one penalty for all inputs, so compare encoders of a size with one another;
log-mels are wider, and a classifier tuned for them would do better. Phones that training lacks are not tested.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import soundfile
import torch
from context_recipe import subsampling
from context_report import restore
from demo_corpus import Corpus, make_corpus
from extract_features import parse_context
from omegaconf import open_dict
from torch import Tensor
from tqdm import tqdm

from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.modules.ssl_modules.target_alignment import resolve_target_shift
from nemo.collections.asr.parts.utils.streaming_utils import EncoderStream, dynamic_context


@dataclass(frozen=True)
class Utterance:
    """Audio [N] at 16 kHz, and its phones as (label, start, end) in seconds."""

    audio: Tensor
    phones: list[tuple[str, float, float]]


def read_split(manifest: Path, minutes: float | None = None) -> list[Utterance]:
    """The utterances of a manifest of `make_corpus`, up to this much speech."""
    utterances, seconds = [], 0.0
    for line in manifest.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if minutes is not None and seconds >= 60 * minutes:
            break
        seconds += entry["duration"]
        path = manifest.parent / entry["audio_filepath"]
        samples, _ = soundfile.read(path, dtype="float32")
        phones = json.loads(path.with_suffix(".phones.json").read_text(encoding="utf-8"))
        utterances.append(Utterance(torch.from_numpy(samples), [(p["label"], p["start"], p["end"]) for p in phones]))
    return utterances


class FrameLabels:
    """The phone in the middle of what an encoder frame has newly seen, as a number.

    Token `k` is made of the feature frames `k * factor ... k * factor + factor - 1`, and encoder frame `k + shift` is
    the first one that has seen them all. Its label is the phone in the middle of that token; the `shift` frames before
    the first token have none (-1).
    """

    def __init__(self, model: EncDecDenoiseMaskedTokenPredModel, labels: Sequence[str]):
        encoder = model.encoder
        self.factor = encoder.subsampling_factor
        self.shift = resolve_target_shift("auto", subsampling(encoder), self.factor)
        self.stride = model.cfg.preprocessor.window_stride
        self.numbers = {label: number for number, label in enumerate(labels)}

    def __call__(self, utterance: Utterance, frames: int) -> Tensor:
        """Int64 `[frames]`; phones that are not among the labels are -1."""
        middles = ((torch.arange(frames) - self.shift) * self.factor + (self.factor - 1) / 2) * self.stride
        ends = torch.tensor([end for _, _, end in utterance.phones])
        phone = torch.searchsorted(ends, middles.clamp_min(0), right=True).clamp_max(len(ends) - 1)
        numbers = torch.tensor([self.numbers.get(label, -1) for label, _, _ in utterance.phones])
        return torch.where(middles < 0, -1, numbers[phone])


class LinearProbe:
    """Multinomial logistic regression on standardised frames, fitted by L-BFGS.

    Args:
        frames: `[N, D]`, float.
        labels: `[N]`, int64; frames labelled -1 are left out.
        classes: how many labels there are.
        penalty: of the squared weights, per weight.
    """

    def __init__(self, frames: Tensor, labels: Tensor, classes: int, penalty: float = 1e-4, iterations: int = 60):
        frames, labels = frames[labels >= 0].float(), labels[labels >= 0]
        self.mean, self.scale = frames.mean(0), frames.std(0).clamp_min(1e-5)
        inputs = (frames - self.mean) / self.scale
        self.weight = torch.zeros(classes, frames.shape[1], requires_grad=True)
        self.bias = torch.zeros(classes, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [self.weight, self.bias], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(inputs @ self.weight.T + self.bias, labels)
            loss = loss + penalty * self.weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)

    @torch.no_grad()
    def accuracy(self, frames: Tensor, labels: Tensor) -> float:
        """The share of frames whose phone is found; frames labelled -1 do not count."""
        frames, labels = frames[labels >= 0].float(), labels[labels >= 0]
        scores = (frames - self.mean) / self.scale @ self.weight.T + self.bias
        return float((scores.argmax(1) == labels).double().mean())


@torch.inference_mode()
def offline_frames(model: EncDecDenoiseMaskedTokenPredModel, audio: Tensor, context: object) -> Tensor:
    """Encoder frames `[T, layers * D]` of audio `[N]`, computed at once: all layers, the encoder's output last."""
    lower = []
    hooks = [
        layer.register_forward_hook(lambda _, inputs, output: lower.append(output.transpose(1, 2)))
        for layer in model.encoder.layers[:-1]
    ]
    try:
        with dynamic_context(model, context):
            features, length = model.preprocessor(input_signal=audio[None], length=torch.tensor([len(audio)]))
            encoded, encoded_length = model.encoder(audio_signal=features, length=length)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat([*lower, encoded], dim=1)[0, :, : int(encoded_length)].T


@torch.inference_mode()
def streamed_frames(
    model: EncDecDenoiseMaskedTokenPredModel, audio: Tensor, context: object, chunk_seconds: float = 0.5
) -> Tensor:
    """As `offline_frames`, computed live from pieces of audio."""
    lower = range(len(model.encoder.layers) - 1)
    with dynamic_context(model, context) as sizes:
        whole_chunks = 4 * (max(0, sizes[-1]) + 1)
    with EncoderStream(model, context, frames_per_step=whole_chunks, layers=lower) as stream:
        given = [stream.push(piece)[0] for piece in audio.split(int(16000 * chunk_seconds))]
        given.append(stream.finish()[0])
    layers = [frames if lower else [frames] for frames in given]
    return torch.cat([torch.cat(frames, dim=1) for frames in layers], dim=2)[0].T


@torch.inference_mode()
def log_mel_frames(model: EncDecDenoiseMaskedTokenPredModel, audio: Tensor, shift: int) -> Tensor:
    """The log-mels of the token that each encoder frame has newly seen, stacked: `[T, factor * D]`."""
    features, length = model.preprocessor(input_signal=audio[None], length=torch.tensor([len(audio)]))
    factor = model.encoder.subsampling_factor
    stacked = features[0, :, : int(length) // factor * factor].T.reshape(-1, factor * features.shape[1])
    return torch.cat([torch.zeros(shift, stacked.shape[1]), stacked])


def probe(
    model: EncDecDenoiseMaskedTokenPredModel,
    train: Sequence[Utterance],
    test: Sequence[Utterance],
    contexts: Sequence[object],
    *,
    online: bool = True,
    baselines: bool = True,
    progress: bool = True,
) -> list[dict]:
    """Accuracy of a linear probe for each context, and of what it is to be compared with.

    Args:
        model: any NEST model of the streaming kind; put into evaluation mode.
        train, test: what the probe is fitted on, and tested on.
        contexts: as `set_dynamic_context` takes them.
        online: also tests on frames of an `EncoderStream`.
        baselines: adds rows for chance and for log-mels.

    Returns:
        a row for each context and baseline: `frames` says what it is of; `offline` and `online` are accuracies on all
        layers, `last_layer` that on the encoder's output alone, offline. None where there is none; where the encoder
        cannot stream, `not_streamed` says why.

    Raises:
        ValueError, TypeError: as `set_dynamic_context`, for any context, before anything is computed.
    """
    model.eval()
    for context in contexts:
        with dynamic_context(model, context):
            pass  # it is one that the model takes
    labels = sorted({label for utterance in train for label, _, _ in utterance.phones})
    number = FrameLabels(model, labels)
    width = model.cfg.encoder.d_model

    def fitted(frames_of: Callable[[Tensor], Tensor], columns: slice = slice(None)) -> tuple[LinearProbe, float]:
        one = LinearProbe(*_labelled(train, frames_of, number, columns), len(labels))
        return one, one.accuracy(*_labelled(test, frames_of, number, columns))

    rows = []
    for context in tqdm(contexts, desc="Probes", unit="context", disable=not progress):
        frames_of = cache(lambda audio, context=context: offline_frames(model, audio, context))
        one, offline = fitted(frames_of)
        _, last_layer = fitted(frames_of, slice(-width, None))
        row = {"frames": str(context), "offline": offline, "online": None, "last_layer": last_layer}
        rows.append(row)
        if online:
            try:
                live = _labelled(test, lambda audio, context=context: streamed_frames(model, audio, context), number)
            except ValueError as error:
                row["not_streamed"] = str(error)
            else:
                row["online"] = one.accuracy(*live)
    if baselines:
        _, accuracy = fitted(lambda audio: log_mel_frames(model, audio, number.shift))
        chance = _chance(train, test, model, number)
        rows.append({"frames": "log-mels", "offline": accuracy, "online": None, "last_layer": None})
        rows.append({"frames": "most frequent phone", "offline": chance, "online": None, "last_layer": None})
    return rows


def _labelled(
    utterances: Sequence[Utterance],
    frames_of: Callable[[Tensor], Tensor],
    number: FrameLabels,
    columns: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    frames = [frames_of(utterance.audio)[:, columns] for utterance in utterances]
    numbers = [number(utterance, len(one)) for utterance, one in zip(utterances, frames, strict=True)]
    return torch.cat(frames), torch.cat(numbers)


def _chance(
    train: Sequence[Utterance],
    test: Sequence[Utterance],
    model: EncDecDenoiseMaskedTokenPredModel,
    number: FrameLabels,
) -> float:
    """How often the phone is the one that training has most often."""

    def numbers(split: Sequence[Utterance]) -> Tensor:
        return _labelled(split, lambda audio: log_mel_frames(model, audio, number.shift), number)[1]

    trained, tested = numbers(train), numbers(test)
    most_frequent = torch.bincount(trained[trained >= 0]).argmax()
    return float((tested[tested >= 0] == most_frequent).double().mean())


def untrained(model: EncDecDenoiseMaskedTokenPredModel, seed: int = 0) -> EncDecDenoiseMaskedTokenPredModel:
    """A model of the same config with random weights."""
    config = model.cfg.copy()
    with open_dict(config):
        config.update(train_ds=None, validation_ds=None, test_ds=None)
    torch.manual_seed(seed)
    return type(model)(config)


def table(rows: Sequence[dict], train_frames: str) -> str:
    """Markdown."""
    lines = ["| frames | offline | online | offline, last layer alone |", "|---|---|---|---|"]
    for row in rows:
        figures = [row[column] for column in ("offline", "online", "last_layer")]
        cells = ["-" if figure is None else f"{100 * figure:.1f} %" for figure in figures]
        lines.append(f"| {row['frames']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", train_frames])


def corpus_of(folder: Path) -> Corpus:
    """The corpus that is in a folder.

    Raises:
        FileNotFoundError: there is none, or files of it are missing; the message names them.
    """
    stamp = folder / "corpus.json"
    if not stamp.is_file():
        raise FileNotFoundError(f"--corpus {folder} holds no corpus; make one with demo_corpus.py")
    made = json.loads(stamp.read_text(encoding="utf-8"))
    missing = [name for name in made["sizes"] if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"--corpus {folder} lacks {len(missing)} of its files: {', '.join(missing[:5])}; "
            "demo_corpus.py makes it anew"
        )
    return make_corpus(folder, **made["options"])


def main() -> None:
    """Probes a `.nemo` file and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a .nemo file")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of a corpus of demo_corpus.py")
    parser.add_argument("--out", type=Path, default=Path("probe"), help="folder for the results")
    parser.add_argument(
        "--context", action="append", help="a preset or left,right; may be repeated (default: those trained)"
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="speech that the probe is fitted on")
    arguments = parser.parse_args()

    corpus = corpus_of(arguments.corpus)
    model = restore(Path(arguments.model))
    contexts = [parse_context(text) for text in arguments.context or ()]
    contexts = contexts or [context.as_list() for context in model.encoder.context.trained]
    train, test = read_split(corpus.train_manifest, arguments.minutes), read_split(corpus.validation_manifest)
    rows = probe(model, train, test, contexts)
    for row in probe(untrained(model), train, test, contexts[-1:], online=False, baselines=False, progress=False):
        rows.append({**row, "frames": f"{row['frames']}, random weights"})
    note = (
        f"Frame accuracy of {len({label for one in train for label, _, _ in one.phones})} phones: fitted on "
        f"{sum(len(one.audio) for one in train) / 16000 / 60:.0f} minutes of the training voices, tested on "
        f"{sum(len(one.audio) for one in test) / 16000 / 60:.1f} minutes of voices not heard before, which say the "
        "same sentences."
    )
    refused = sorted({row["not_streamed"] for row in rows if "not_streamed" in row})
    note += "".join(f"\n\nNot streamed: {reason}." for reason in refused)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "probe.md").write_text(table(rows, note) + "\n", encoding="utf-8")
    (arguments.out / "probe.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
    print(f"\n{table(rows, note)}")


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, TypeError, ValueError) as error:
        sys.exit(f"phone_probe.py: {error}")
