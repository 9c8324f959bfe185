"""The report on contexts and masks: `report.md` and `report.json` say the same."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nemo.collections.asr.modules.ssl_modules.masking_ways import MASKING_WAYS
from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.collections.asr.parts.attention_context.reach import EncoderReach
from nemo.collections.asr.parts.utils.markdown import markdown_table
from nest_tools.command import write_text
from nest_tools.masks import MaskSettings
from nest_tools.recipe import Recipe
from nest_tools.report.speech import Speech
from nest_tools.report.table import context_table
from nest_tools.report.views import plot_pictures
from nest_tools.utterances import Skipped, Utterance


@dataclass(frozen=True)
class Report:
    """All that a report says."""

    source: str
    reach: EncoderReach
    masking: MaskSettings | None
    utterances: int
    seconds: float
    """Of speech, in all utterances together."""
    masks_per_utterance: int
    seed: int
    rows: list[dict[str, Any]]
    """As `context_table` gives them."""
    pictures: list[str]
    skipped: list[Skipped]
    """Audio that could not be used, and lines of manifests that are none."""
    refused_presets: dict[str, str]
    """Presets that the encoder cannot take, and why."""

    def as_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        figures = asdict(self)
        figures["geometry"] = figures.pop("reach")
        figures["draws"] = figures.pop("masks_per_utterance")
        if self.masking is not None:
            masking = figures["masking"]
            figures["masking"] = {**masking.pop("recipe"), **masking}
        return {**figures, "ways_of_masking": {way.name: way.meaning for way in MASKING_WAYS.values()}}

    def markdown(self) -> str:
        """The report as Markdown, with links to the pictures."""
        parts = [f"# Attention contexts and masks of {self.source}", self._contexts(), self._masks()]
        left_out = [*(f"preset {name}: {reason}" for name, reason in self.refused_presets.items()), *self.skipped]
        if left_out:
            parts.append("\n".join(["## Left out", "", *(f"- {one}" for one in left_out)]))
        pictures = [f"![{Path(file).stem}]({file})" for file in self.pictures]
        parts.append("\n\n".join(["## Pictures", _ABOUT_PICTURES, *pictures]))
        return "\n\n".join(parts) + "\n"

    def _contexts(self) -> str:
        reach = self.reach
        rows = []
        for row in self.rows:
            cells = [row["context"], ", ".join(row["presets"]), "yes" if row["trained"] else "no"]
            for side in ("left", "right"):
                cells += [_number(None if row[side] < 0 else row[side], 0), _number(row[f"{side}_seconds"], 2)]
            latency = row["latency_seconds"]
            cells.append(_number(None if latency is None else 1000 * latency, 1))
            cells += [_number(row[f"reach_{side}_seconds"], 2) for side in ("left", "right")]
            rows.append(cells)
        frame, window = 1000 * reach.frame_seconds, 1000 * reach.window
        notes = [
            f"- Left and right: what one attention layer sees, in encoder frames of {frame:g} ms.",
            "- Latency: algorithmic, which no computer can shorten. It is the look-ahead of the whole encoder (of all "
            f"its layers, or the rest of a chunk) and half an analysis window of {window:g} ms: the audio that an "
            "output waits for, at most, after the centre of the newest feature frame that its own encoder frame sees. "
            f"Encoder frames come every {frame:g} ms, so a sound may be that much older.",
            f"- Reach: what all {reach.layers} layers see together, before and after an encoder frame's own "
            f"{reach.factor} feature frames. Each layer adds the context of its attention and that of its "
            f"convolution ({reach.conv_left} encoder frames back, {reach.conv_right} ahead); the subsampling "
            "adds its own.",
        ]
        return "## Contexts\n\n" + markdown_table(_CONTEXT_COLUMNS, rows) + "\n\n" + "\n".join(notes)

    def _masks(self) -> str:
        if self.masking is None:
            return "## Masks\n\nThe model has no masking from which masks can be sampled, so this part is left out."
        settings = self.masking
        rows = [
            (
                row["context"],
                name,
                f"{100 * figures['masked_fraction']:.1f} %",
                f"{figures['targets']:.1f}",
                f"{figures['blind_targets']:.2f}",
                f"{100 * figures['without_target']:.0f} %",
            )
            for row in self.rows
            for name, figures in row["masks"].items()
        ]
        unit = "encoder" if settings.frames_per_encoder_frame == 1 else "feature"
        overlap = "with" if settings.recipe.allow_overlap else "without"
        notes = [
            f"- Utterances: {self.utterances}, {self.seconds:.0f} s together, each with {self.masks_per_utterance} "
            f"masks (seed {self.seed}) of blocks of {settings.recipe.block_size} {unit} frames, `mask_prob` "
            f"{settings.recipe.mask_prob:g}, {overlap} overlap. Means over all masks: the share of the frames that is "
            "hidden, targets and blind targets of an utterance, and the share of the masks without a target.",
            "- A target is an encoder frame of which more than "
            f"{100 * settings.target_threshold:g} % is hidden. It is blind if one attention layer shows no other: all "
            "encoder frames in its left context are wholly hidden, or lie before the utterance.",
            *(f"- `{way.name}`: {way.meaning}." for way in MASKING_WAYS.values()),
            f"- The model itself masks by `{settings.own_way}`.",
            *self._masks_of_encoder_frames(),
            *self._short_utterances(),
        ]
        return "## Masks\n\n" + markdown_table(_MASK_COLUMNS, rows) + "\n\n" + "\n".join(notes)

    def _masks_of_encoder_frames(self) -> list[str]:
        if self.masking is None or self.masking.frames_per_encoder_frame > 1:
            return []
        return ["- Masking comes after the convolutions, so its frames are encoder frames and `literal` is `tail`."]

    def _short_utterances(self) -> list[str]:
        return [
            f"- Utterances that are no longer than the window of {row['context']} ({row['left_seconds']:.1f} s): "
            f"{row['utterances_within_window']} of {self.utterances}. There, `tail` and `random` may hide any frame."
            for row in self.rows
            if row["left"] > 0 and row["utterances_within_window"]
        ]


_CONTEXT_COLUMNS = (
    "context",
    "presets",
    "trained",
    "left (frames)",
    "left (s)",
    "right (frames)",
    "right (s)",
    "latency (ms)",
    "reach back (s)",
    "reach ahead (s)",
)
_MASK_COLUMNS = ("context", "masking", "hidden", "targets", "blind targets", "without a target")
_ABOUT_PICTURES = """\
One mask of each way, on one utterance. An encoder frame is plotted over the feature frames that its token is made of.
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
    masks_per_utterance: int = 20,
    seed: int = 0,
    convert: bool = False,
    skipped: Sequence[Skipped] = (),
) -> Report:
    """Writes tables and pictures into a folder.

    Args:
        source: what the report calls the model.
        utterances: the first that can be read is plotted, all of them count in the table.
        contexts: None for `recipe.contexts()`.
        masks_per_utterance, seed: as in `context_table`.
        convert: as in `AudioReader`.
        skipped: what has been left out before.

    Raises:
        ValueError: no utterance can be used.
    """
    refused = recipe.refused_presets() if contexts is None else {}
    contexts = list(dict.fromkeys(recipe.contexts() if contexts is None else contexts))
    speech = Speech.read(recipe, utterances, convert)
    out.mkdir(parents=True, exist_ok=True)
    pictures = plot_pictures(recipe, speech.name, speech.features, contexts, out, seed)
    report = Report(
        source=source,
        reach=recipe.reach,
        masking=recipe.masking,
        utterances=len(speech.lengths),
        seconds=sum(speech.lengths) * recipe.reach.hop,
        masks_per_utterance=masks_per_utterance,
        seed=seed,
        rows=context_table(
            recipe, speech.lengths, contexts, masks_per_utterance=masks_per_utterance, seed=seed, progress=True
        ),
        pictures=[file.name for file in pictures],
        skipped=[*skipped, *speech.skipped],
        refused_presets=refused,
    )
    write_text(out / "report.md", report.markdown())
    write_text(out / "report.json", json.dumps(report.as_dict(), indent=2) + "\n")
    return report
