"""Shows what each attention context sees, and what each way of masking asks of it: pictures and a table.

    python context_report.py --model nest.nemo --audio speech.wav --out report
    python context_report.py --config ../conf/ssl/nest/nest_fast-conformer_streaming_dynamic.yaml \
        --audio speech.wav --manifest validation.json --context low --context 8,0 --out report

Writes into the folder `report.md` and `report.json` (the table), a picture `context_80_0.png` for each context, and
`contexts.png` with all of them side by side, before and after masking is brought in step with attention. From a config
no model is built. Contexts are the trained ones and the presets, unless `--context` names others.
"""

import argparse
import json
import math
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from context_pictures import ContextView, DrawnMask, Interval, Spectrogram, draw_context, draw_side_by_side
from context_recipe import WAYS, EncoderGeometry, MaskSettings, Recipe, Span, WayOfMasking
from extract_features import Utterance, parse_context
from torch import Tensor, nn
from tqdm import tqdm

from nemo.collections.asr.modules.ssl_modules import block_masks
from nemo.collections.asr.modules.ssl_modules.mask_audit import audit_masks
from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.core import ModelPT

# -------------------------------------------------------------------------------------------------------------- table


def context_table(
    recipe: Recipe,
    lengths: Sequence[int],
    contexts: Sequence[AttentionContext] | None = None,
    *,
    draws: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """What each context sees and costs, and what each way of masking makes of it.

    Args:
        lengths: the utterances, in feature frames.
        contexts: None for `recipe.contexts()`.
        draws: masks of each utterance; figures are means over all masks of all utterances.
        seed: of the masks. Every way of every context starts from it, so that `none` and `sliding` share their blocks.

    Returns:
        A row for each context, fit for JSON. Whatever has no limit is None, a left or right context too is -1.

    Raises:
        ValueError: there is no utterance, or no draw.
    """
    if not lengths or draws < 1:
        raise ValueError(f"a table needs utterances and draws, but there are {len(lengths)} and {draws}")
    rows = []
    for context in tqdm(recipe.contexts() if contexts is None else contexts, "Contexts", disable=not progress):
        row = {**_context_figures(recipe, context), "masks": {}}
        if recipe.masking is not None:
            repeated = recipe.mask_lengths(lengths).repeat_interleave(draws)
            row["masks"] = {way.name: _mask_figures(recipe.masking, way, repeated, context.left, seed) for way in WAYS}
            longest = context.left * recipe.geometry.factor
            row["utterances_within_window"] = sum(length <= longest for length in lengths)
        rows.append(row)
    return rows


def _context_figures(recipe: Recipe, context: AttentionContext) -> dict[str, Any]:
    geometry = recipe.geometry
    reach = geometry.reach(context)
    features = geometry.feature_span(Span(-reach.first, reach.last))
    return {
        "context": context.as_list(),
        "label": context.label,
        "presets": recipe.preset_names(context),
        "trained": context in recipe.encoder.context.trained,
        "left": context.left,
        "left_seconds": _figure(context.left * geometry.frame_seconds) if context.left >= 0 else None,
        "right": context.right,
        "right_seconds": _figure(context.right * geometry.frame_seconds) if context.right >= 0 else None,
        "latency_seconds": _figure(geometry.latency(context)),
        "reach_left": _figure(reach.first),
        "reach_left_seconds": _figure(-features.first * geometry.hop),
        "reach_right": _figure(reach.last),
        "reach_right_seconds": _figure(max(0, features.last - geometry.factor + 1) * geometry.hop),
    }


def _figure(value: float) -> float | None:
    """A figure for JSON: None for one without limit, and no digits that floating point has made up."""
    return None if math.isinf(value) else round(value, 9)


def _mask_figures(
    settings: MaskSettings, way: WayOfMasking, lengths: Tensor, left: int, seed: int
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    audits = []
    for some in lengths.split(_MASKS_AT_ONCE):
        mask = settings.draw(way, some, left, generator).mask
        factor, threshold = settings.frames_per_encoder_frame, settings.target_threshold
        audits.append(audit_masks(mask, some, left, factor, target_threshold=threshold))
    targets = torch.cat([audit.targets for audit in audits]).double()
    return {
        "masked_fraction": float(torch.cat([audit.masked_fraction for audit in audits]).double().mean()),
        "targets": float(targets.mean()),
        "blind_targets": float(torch.cat([audit.blind_targets for audit in audits]).double().mean()),
        "without_target": float((targets == 0).double().mean()),
    }


_MASKS_AT_ONCE = 256
"""Bounds the memory of a table."""


# ----------------------------------------------------------------------------------------------------------- pictures


BEFORE_AND_AFTER = {
    "none": "Before: NeMo's masks, not in step",
    "literal": "Before: left counted in feature frames",
    "sliding": "After: in step (sliding)",
}
"""Ways of masking that the overview compares, with their headings."""


def draw_contexts(model: nn.Module, wav: Path, out: Path) -> list[Path]:
    """Draws all pictures of a model on one utterance: a PNG for each context, and one of all side by side.

    Args:
        model: a NeMo model with a Conformer encoder, with or without masking.
        wav: an audio file of any rate.
        out: the folder for the pictures; it is made if need be.

    Returns:
        The PNG files.

    Raises:
        TypeError, ValueError: as `Recipe.of_model`, or the audio cannot be used; the message says why.
    """
    recipe = Recipe.of_model(model)
    utterance = Utterance(Path(wav).stem, Path(wav))
    try:
        samples = read_samples(recipe, utterance)
    except ValueError as error:
        raise ValueError(f"{wav} cannot be drawn: {error}") from error
    return draw_pictures(recipe, utterance.name, recipe.features(samples), recipe.contexts(), Path(out))


def draw_pictures(
    recipe: Recipe, name: str, features: Tensor, contexts: Sequence[AttentionContext], out: Path, seed: int = 0
) -> list[Path]:
    """Draws contexts over the features [D, T] of one utterance, and returns the PNG files, the overview first."""
    out.mkdir(parents=True, exist_ok=True)
    speech = Spectrogram(name, features.numpy(), recipe.geometry.hop)
    views = context_views(recipe, features.shape[1], contexts, seed)
    overview = out / "contexts.png"
    columns = dict(BEFORE_AND_AFTER)
    if recipe.masking is not None and recipe.masking.frames_per_encoder_frame == 1:
        del columns["literal"]  # there, a number of frames is a number of encoder frames
    draw_side_by_side(speech, views, columns, overview)
    files = [overview]
    for context, view in zip(contexts, tqdm(views, "Pictures", unit="picture"), strict=True):
        files.append(out / f"context_{context.label}.png")
        draw_context(speech, view, files[-1])
    return files


def context_views(
    recipe: Recipe, length: int, contexts: Sequence[AttentionContext], seed: int = 0
) -> list[ContextView]:
    """What the pictures show of contexts, on an utterance of `length` feature frames."""
    geometry, settings = recipe.geometry, recipe.masking
    frame = _frame_to_look_from(recipe, length, seed)
    views = []
    for context in contexts:
        layer = geometry.layer_span(frame, context)
        features = geometry.feature_span(geometry.stack_span(frame, context))
        masks = {} if settings is None else {way.name: _drawn(recipe, way, length, context.left, seed) for way in WAYS}
        views.append(
            ContextView(
                context=str(context),
                presets=recipe.preset_names(context),
                layers=geometry.layers,
                frame=_seconds(frame, frame + 1, geometry.frame_seconds),
                layer=_seconds(layer.first, layer.last + 1, geometry.frame_seconds),
                stack=_seconds(features.first, features.last + 1, geometry.hop),
                masks=masks,
                shown=settings.own_way if settings is not None else None,
            )
        )
    return views


def _frame_to_look_from(recipe: Recipe, length: int, seed: int) -> int:
    """The hidden encoder frame nearest to three quarters of the utterance, the same for all contexts."""
    wanted = (length * 3 // 4) // recipe.geometry.factor
    if recipe.masking is None:
        return wanted
    lengths = recipe.mask_lengths([length])
    mask = recipe.masking.draw(WAYS[0], lengths, -1, torch.Generator().manual_seed(seed)).mask
    groups = block_masks.encoder_frames(mask, recipe.masking.frames_per_encoder_frame, False).all(dim=2)[0]
    frames = groups.nonzero()[:, 0]
    return wanted if len(frames) == 0 else int(frames[(frames - wanted).abs().argmin()])


def _drawn(recipe: Recipe, way: WayOfMasking, length: int, left: int, seed: int) -> DrawnMask:
    settings, geometry = recipe.masking, recipe.geometry
    lengths = recipe.mask_lengths([length])
    factor = settings.frames_per_encoder_frame
    mask, window, _ = settings.draw(way, lengths, left, torch.Generator().manual_seed(seed))
    audit = audit_masks(mask, lengths, left, factor, target_threshold=settings.target_threshold)
    unit = geometry.frame_seconds / factor
    end = float(window.end())
    return DrawnMask(
        hidden=_runs(mask[0], unit),
        blind=_runs(settings.blind(mask, lengths, left)[0], geometry.frame_seconds),
        window=_seconds(end - float(window.width), end, unit),
        masked_fraction=float(audit.masked_fraction),
        targets=int(audit.targets),
        blind_targets=int(audit.blind_targets),
    )


def _runs(marked: Tensor, unit: float) -> list[Interval]:
    """The runs of a bool [T], in seconds."""
    edges = np.flatnonzero(np.diff(marked.numpy().astype(np.int8), prepend=0, append=0))
    return [_seconds(start, end, unit) for start, end in edges.reshape(-1, 2).tolist()]


def _seconds(start: float, end: float, unit: float) -> Interval:
    return Interval(start * unit, end * unit)


# -------------------------------------------------------------------------------------------------------------- speech


@dataclass(frozen=True)
class Skipped:
    """What a report leaves out, and why."""

    what: str
    reason: str


def read_samples(recipe: Recipe, utterance: Utterance) -> np.ndarray:
    """The samples [N] of an utterance that a picture or a table can be made of.

    Raises:
        ValueError: there is no such file, it cannot be read, or it is shorter than an encoder frame.
    """
    if not utterance.path.is_file():
        raise ValueError("the file does not exist")
    try:
        samples = utterance.samples(recipe.sample_rate)
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise ValueError(f"the file cannot be read as audio: {error}") from error
    if not np.isfinite(samples).all():
        raise ValueError("the file holds samples that are not finite")
    if recipe.feature_frames(len(samples)) < recipe.geometry.factor:
        raise ValueError(
            f"the utterance is {len(samples) / recipe.sample_rate:.3f} s long, shorter than one encoder frame of "
            f"{recipe.geometry.frame_seconds:.3f} s"
        )
    return samples


def read_manifest(manifest: Path) -> tuple[list[Utterance], list[Skipped]]:
    """The utterances of a NeMo manifest (paths in it are relative to it), and the lines that are none.

    Raises:
        FileNotFoundError: there is no such manifest.
    """
    if not manifest.is_file():
        raise FileNotFoundError(f"there is no manifest {manifest}")
    utterances, skipped = [], []
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            path = manifest.parent / entry["audio_filepath"]
            offset, duration = float(entry.get("offset") or 0), float(entry.get("duration") or 0)
        except (ValueError, KeyError, TypeError, AttributeError):
            skipped.append(Skipped(f"{manifest.name}:{number}", f"no manifest entry of an audio file: {line[:80]}"))
            continue
        utterances.append(Utterance(path.stem, path, offset, duration or None))
    return utterances, skipped


def spread(utterances: Sequence[Utterance], most: int) -> list[Utterance]:
    """At most so many of them, evenly spread."""
    step = max(1.0, len(utterances) / most)
    return [utterances[int(index * step)] for index in range(min(most, len(utterances)))]


@dataclass(frozen=True)
class Speech:
    """The utterances of a report."""

    name: str
    """Of the utterance that the pictures show."""
    features: Tensor
    """Its features [D, T]."""
    lengths: list[int]
    """Of all utterances, in feature frames."""
    skipped: list[Skipped]

    @classmethod
    def read(cls, recipe: Recipe, utterances: Sequence[Utterance]) -> "Speech":
        """Reads all that can be read; the pictures show the first of them.

        Raises:
            ValueError: none can; the message names the first reasons.
        """
        name, features, lengths, skipped = None, None, [], []
        for utterance in tqdm(utterances, "Utterances", unit="file", disable=len(utterances) < 2):
            try:
                samples = read_samples(recipe, utterance)
            except ValueError as error:
                skipped.append(Skipped(str(utterance.path), str(error)))
                continue
            lengths.append(recipe.feature_frames(len(samples)))
            if features is None:
                name, features = utterance.name, recipe.features(samples)
        if features is None:
            reasons = "; ".join(f"{skip.what}: {skip.reason}" for skip in skipped[:5])
            raise ValueError(f"no utterance can be used ({reasons or 'none was given'})")
        return cls(name, features, lengths, skipped)


# -------------------------------------------------------------------------------------------------------------- report


@dataclass(frozen=True)
class Report:
    """All that a report says; `markdown` and `as_dict` say the same."""

    source: str
    geometry: EncoderGeometry
    masking: MaskSettings | None
    utterances: int
    seconds: float
    """Of speech, in all utterances together."""
    draws: int
    seed: int
    rows: list[dict[str, Any]]
    pictures: list[str]
    skipped: list[Skipped]

    def as_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return {**asdict(self), "ways_of_masking": {way.name: way.meaning for way in WAYS}}

    def markdown(self) -> str:
        """The report as Markdown, with links to the pictures."""
        parts = [f"# Attention contexts and masks of {self.source}", self._contexts(), self._masks()]
        if self.skipped:
            lines = [f"- {skip.what}: {skip.reason}" for skip in self.skipped]
            parts.append("\n".join(["## Left out", "", *lines]))
        pictures = [f"![{Path(file).stem}]({file})" for file in self.pictures]
        parts.append("\n\n".join(["## Pictures", _ABOUT_PICTURES, *pictures]))
        return "\n\n".join(parts) + "\n"

    def _contexts(self) -> str:
        geometry = self.geometry
        lines = [
            "| context | presets | trained | left (frames) | left (s) | right (frames) | right (s) | latency (ms) "
            "| reach back (s) | reach ahead (s) |",
            "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for row in self.rows:
            cells = [str(row["context"]), ", ".join(row["presets"]), "yes" if row["trained"] else "no"]
            for side in ("left", "right"):
                cells += [_number(None if row[side] < 0 else row[side], 0), _number(row[f"{side}_seconds"], 2)]
            latency = row["latency_seconds"]
            cells.append(_number(None if latency is None else 1000 * latency, 1))
            cells += [_number(row[f"reach_{side}_seconds"], 2) for side in ("left", "right")]
            lines.append(f"| {' | '.join(cells)} |")
        frame, window = 1000 * geometry.frame_seconds, 1000 * geometry.window
        notes = [
            f"- Left and right: what one attention layer sees, in encoder frames of {frame:g} ms.",
            "- Latency: algorithmic, which no computer can shorten. It is the look-ahead of the whole encoder (of all "
            f"its layers, or the rest of a chunk) and half an analysis window of {window:g} ms: the audio that an "
            "output waits for, at most, after the centre of the newest feature frame that its own encoder frame sees. "
            f"Encoder frames come every {frame:g} ms, so a sound may be that much older.",
            f"- Reach: what all {geometry.layers} layers see together, before and after an encoder frame's own "
            f"{geometry.factor} feature frames. Each layer adds the context of its attention and that of its "
            f"convolution ({geometry.conv_left} encoder frames back, {geometry.conv_right} ahead); the subsampling "
            "adds its own.",
        ]
        return "## Contexts\n\n" + "\n".join(lines) + "\n\n" + "\n".join(notes)

    def _masks(self) -> str:
        if self.masking is None:
            return "## Masks\n\nThe model has no masking that could be drawn, so this part is left out."
        settings = self.masking
        lines = ["| context | masking | hidden | targets | blind targets | without a target |"]
        lines.append("|---|---|---:|---:|---:|---:|")
        for row in self.rows:
            for name, figures in row["masks"].items():
                lines.append(
                    f"| {row['context']} | {name} | {100 * figures['masked_fraction']:.1f} % "
                    f"| {figures['targets']:.1f} | {figures['blind_targets']:.2f} "
                    f"| {100 * figures['without_target']:.0f} % |"
                )
        unit = "encoder" if settings.frames_per_encoder_frame == 1 else "feature"
        overlap = "with" if settings.allow_overlap else "without"
        notes = [
            f"- Utterances: {self.utterances}, {self.seconds:.0f} s together, each with {self.draws} masks (seed "
            f"{self.seed}) of blocks of {settings.block_size} {unit} frames, `mask_prob` {settings.mask_prob:g}, "
            f"{overlap} overlap. Means over all masks: the share of the frames that is hidden, targets and blind "
            "targets of an utterance, and the share of the masks without a target.",
            "- A target is an encoder frame of which more than "
            f"{100 * settings.target_threshold:g} % is hidden. It is blind if one attention layer shows no other: all "
            "encoder frames in its left context are wholly hidden, or lie before the utterance.",
            *(f"- `{way.name}`: {way.meaning}." for way in WAYS),
            f"- The model itself masks by `{settings.own_way}`.",
            *self._masks_of_encoder_frames(),
            *self._short_utterances(),
        ]
        return "## Masks\n\n" + "\n".join(lines) + "\n\n" + "\n".join(notes)

    def _masks_of_encoder_frames(self) -> list[str]:
        if self.masking.frames_per_encoder_frame > 1:
            return []
        return ["- Masking comes after the convolutions, so its frames are encoder frames and `literal` is `tail`."]

    def _short_utterances(self) -> list[str]:
        return [
            f"- Utterances that are no longer than the window of {row['context']} ({row['left_seconds']:.1f} s): "
            f"{row['utterances_within_window']} of {self.utterances}. There, `tail` and `random` may hide any frame."
            for row in self.rows
            if row["left"] > 0 and row["utterances_within_window"]
        ]


_ABOUT_PICTURES = """\
One mask of each way, on one utterance. An encoder frame is drawn over the feature frames that its token is made of.
The position is the same hidden frame in all pictures; from there, the bars show what attention sees."""


def _number(value: float | None, digits: int) -> str:
    return "all" if value is None else f"{value:.{digits}f}"


def write_report(
    source: str,
    recipe: Recipe,
    utterances: Sequence[Utterance],
    out: Path,
    *,
    contexts: Sequence[AttentionContext] | None = None,
    draws: int = 20,
    seed: int = 0,
    skipped: Sequence[Skipped] = (),
) -> Report:
    """Writes tables and pictures into a folder.

    Args:
        source: what the report calls the model.
        utterances: the first that can be read is drawn, all of them count in the table.
        contexts: None for `recipe.contexts()`.
        draws, seed: as in `context_table`.
        skipped: what has been left out before.

    Raises:
        ValueError: no utterance can be used.
    """
    skipped = list(skipped)
    if contexts is None:
        contexts = recipe.contexts()
        skipped += [Skipped(f"preset {name}", reason) for name, reason in recipe.refused_presets().items()]
    contexts = list(dict.fromkeys(contexts))
    speech = Speech.read(recipe, utterances)
    out.mkdir(parents=True, exist_ok=True)
    pictures = draw_pictures(recipe, speech.name, speech.features, contexts, out, seed)
    report = Report(
        source=source,
        geometry=recipe.geometry,
        masking=recipe.masking,
        utterances=len(speech.lengths),
        seconds=sum(speech.lengths) * recipe.geometry.hop,
        draws=draws,
        seed=seed,
        rows=context_table(recipe, speech.lengths, contexts, draws=draws, seed=seed, progress=True),
        pictures=[file.name for file in pictures],
        skipped=[*skipped, *speech.skipped],
    )
    (out / "report.md").write_text(report.markdown(), encoding="utf-8")
    (out / "report.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
    return report


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, help=".nemo file of a model with a Conformer encoder")
    source.add_argument("--config", type=Path, help="training config (.yaml)")
    parser.add_argument("--audio", type=Path, help="the utterance to draw (default: the first of the manifests)")
    parser.add_argument(
        "--manifest", type=Path, action="append", default=[], help="NeMo manifest of utterances that the table counts"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument(
        "--context",
        action="append",
        help="a preset's name or LEFT,RIGHT in encoder frames (--context=-1,0 for no limit); can be given more than "
        "once (default: the trained contexts and the presets)",
    )
    parser.add_argument("--draws", type=int, default=20, help="masks of each utterance (default: 20)")
    parser.add_argument("--max-utterances", type=int, default=100, help="most utterances of a manifest (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the masks (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON instead of Markdown")
    options = parser.parse_args(arguments)
    if options.audio is None and not options.manifest:
        parser.error("there is no speech: give --audio or --manifest")
    for name in ("draws", "max_utterances"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name)}, but must be at least 1")
    return options


def restore(file: Path) -> ModelPT:
    """The model of a `.nemo` file, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no `.nemo` file.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no model {file}")
    try:
        return ModelPT.restore_from(str(file), map_location="cpu")
    except tarfile.TarError as error:
        raise ValueError(f"{file} is no .nemo file: {error}") from error


def main(arguments: Sequence[str] | None = None) -> Report:
    """Writes the report that the command line asks for, and prints its table."""
    options = parse_arguments(arguments)
    if options.config is not None:
        source, recipe = options.config.name, Recipe.of_config(options.config)
    else:
        source, recipe = options.model.name, Recipe.of_model(restore(options.model))
    contexts = [recipe.context(parse_context(context)) for context in options.context] if options.context else None
    utterances = [Utterance(options.audio.stem, options.audio)] if options.audio is not None else []
    skipped = []
    for manifest in options.manifest:
        found, unread = read_manifest(manifest)
        utterances += spread(found, options.max_utterances)
        skipped += unread
    report = write_report(
        source,
        recipe,
        utterances,
        options.out,
        contexts=contexts,
        draws=options.draws,
        seed=options.seed,
        skipped=skipped,
    )
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.markdown())
    for skip in report.skipped:
        print(f"left out: {skip.what}: {skip.reason}", file=sys.stderr)
    return report


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, TypeError, ValueError) as error:
        sys.exit(f"context_report.py: {error}")
