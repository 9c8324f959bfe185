"""The results of the phone probe, in words."""

from collections.abc import Sequence
from typing import Any

from nemo.collections.asr.parts.utils.markdown import markdown_table
from nest_tools.probe.labels import LabelledAudio

COLUMNS = ("frames", "offline", "online", "offline, last layer alone")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `probe` in Markdown."""
    cells = []
    for row in rows:
        figures = [row[column] for column in ("offline", "online", "last_layer")]
        cells.append((row["frames"], *("-" if figure is None else f"{100 * figure:.1f} %" for figure in figures)))
    return markdown_table(COLUMNS, cells)


def note(
    rows: Sequence[dict[str, Any]], train: Sequence[LabelledAudio], test: Sequence[LabelledAudio], rate: int
) -> str:
    """What the figures were measured on, and what could not be streamed; `rate` is the audio's, in Hz."""
    fitted_on, tested_on = (sum(len(utterance.audio) for utterance in split) / rate / 60 for split in (train, test))
    phones = {label for utterance in train for label, _, _ in utterance.phones}
    text = (
        f"Frame accuracy of {len(phones)} phones: fitted on {fitted_on:.0f} minutes of the training voices, tested on "
        f"{tested_on:.1f} minutes of voices not heard before, which say the same sentences."
    )
    refused = sorted({row["not_streamed"] for row in rows if "not_streamed" in row})
    return text + "".join(f"\n\nNot streamed: {reason}." for reason in refused)
