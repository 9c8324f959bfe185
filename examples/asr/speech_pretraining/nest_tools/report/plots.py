"""Pictures of what an encoder sees of an utterance, and of what masking hides from it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from nest_tools.command import written_whole
from nest_tools.report.picture_data import ContextView, Interval, SampledMask, Spectrogram

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# Okabe and Ito's colours can be told apart with any kind of colour vision. ("Color Universal Design", 2008.)
LAYER, STACK, MASKED, BLIND, WINDOW = "#000000", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"
WINDOW_STRENGTH = 0.55
"""The window is a background, and so paler than what lies on it."""
MASK_STRENGTH = 0.85
"""How much a mask covers the spectrogram."""
OUTSIDE = "#E9E9E9"

STYLE: "dict[RcKeyType, Any]" = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.05,
}
WIDTH = 9.0
"""Inches."""
DPI = 160


def plot_context(speech: Spectrogram, view: ContextView, file: Path) -> None:
    """Writes a PNG of one context: its reach, the spectrogram with one mask, and the masks of all ways below."""
    bars = _visible_bars(view)
    heights = [0.26 * len(bars), 2.2] + ([0.3 * len(view.masks) + 0.1] if view.masks else [])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights) + 1.3), dpi=DPI, layout="constrained")
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        names = f" ({', '.join(view.presets)})" if view.presets else ""
        title = f"Attention context {view.context}{names}, utterance {speech.name}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        _plot_bars(axes[0], speech.seconds, bars)
        _plot_spectrogram(axes[1], speech, view, view.masks.get(view.shown) if view.shown else None)
        if view.masks:
            _beside(axes[1], speech.log_mel.shape[0] / 2, 0.02, f"mask shown:\n{view.shown}")
            _plot_lanes(axes[2], speech.seconds, view)
        axes[-1].set_xlabel("Time (s)")
        axes[-1].set_xlim(0, speech.seconds)
        edges = [
            Line2D([], [], color=LAYER, linestyle=":", linewidth=1.4, label="edge of one layer"),
            Line2D([], [], color=STACK, linestyle="--", linewidth=1.4, label=f"edge of all {view.layers} layers"),
        ]
        figure.legend(handles=[_POSITION, *edges, *(_MASK_COLOURS if view.masks else [])], **_BELOW)
        _save(figure, file)


def plot_side_by_side(
    speech: Spectrogram, views: Sequence[ContextView], columns: Mapping[str, str], file: Path
) -> None:
    """Writes a PNG with a row for each context and a column for each of some ways of masking.

    Args:
        views: contexts, in the order of the rows.
        columns: headings by the name of the way of masking. Views without masks have one column, without a heading.
    """
    columns = columns if views[0].masks else {"": ""}
    with matplotlib.rc_context({**STYLE, "font.size": 8}):
        figure = Figure(figsize=(WIDTH + 1, 1.15 * len(views) + 1.2), dpi=DPI, layout="constrained")
        grid = figure.subplots(len(views), len(columns), sharex=True, sharey=True, squeeze=False)
        for row, view in zip(grid, views, strict=True):
            for axes, way in zip(row, columns, strict=True):
                _plot_cell(axes, speech, view, view.masks.get(way))
            label = "\n".join([view.context, *view.presets])
            row[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for axes, heading in zip(grid[0], columns.values(), strict=True):
            above = {"textcoords": "offset points", "ha": "center", "va": "bottom", "weight": "bold"}
            axes.annotate(heading, (0.5, 1), (0, 18), "axes fraction", **above)
        for axes in grid[-1]:
            axes.set_xlabel("Time (s)")
        seen = [
            Patch(color=LAYER, label="one layer sees"),
            Patch(color=STACK, label=f"all {views[0].layers} layers see"),
        ]
        figure.legend(handles=[_POSITION, *seen, *(_MASK_COLOURS if views[0].masks else [])], **_BELOW)
        _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    with written_whole(file) as temporary:
        figure.savefig(temporary)


class _Bar(NamedTuple):
    label: str
    interval: Interval
    colour: str
    length: str


def _visible_bars(view: ContextView) -> list[_Bar]:
    """What is seen from the view's encoder frame."""
    return [
        _Bar("one layer sees", view.layer, LAYER, extent_in_words(view.layer, view.frame)),
        _Bar(f"all {view.layers} layers see", view.stack, STACK, extent_in_words(view.stack, view.frame)),
    ]


def extent_in_words(seen: Interval, frame: Interval) -> str:
    """How far that is to both sides of the encoder frame, in words."""
    left, right = frame.start - seen.start, seen.end - frame.end
    text = "all the past" if math.isinf(left) else f"{left:.1f} s back"
    if math.isinf(right):
        return f"{text}, all the future"
    return text if right < 0.005 else f"{text}, {right:.1f} s ahead"


def _plot_bars(axes: Axes, seconds: float, bars: list[_Bar]) -> None:
    for place, bar in enumerate(bars):
        _fill(axes, [bar.interval], (place - 0.2, 0.4), bar.colour, seconds)
        for outside, edge, marker in ((bar.interval.start < 0, 0, "<"), (bar.interval.end > seconds, seconds, ">")):
            if outside:
                axes.plot(edge, place, marker, color=bar.colour, markersize=7, clip_on=False)
        _beside(axes, place, 0.02, bar.length)
    _label_rows(axes, [bar.label for bar in bars])


def _label_rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params("y", left=False, pad=8)
    axes.tick_params("x", bottom=False)
    axes.spines[:].set_visible(False)


def _beside(axes: Axes, place: float, right: float, text: str, **options: Any) -> None:
    """Writes to the right of the axes, at a height in its own units."""
    axes.text(1 + right, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8, **options)


def _plot_spectrogram(axes: Axes, speech: Spectrogram, view: ContextView, mask: SampledMask | None) -> None:
    channels = speech.log_mel.shape[0]
    low, high = np.percentile(speech.log_mel, [5, 99.5])
    axes.imshow(
        speech.log_mel,
        origin="lower",
        aspect="auto",
        cmap="gray_r",
        vmin=low,
        vmax=high + 0.25 * (high - low),  # lines and masks stay visible on the darkest frames
        extent=(0, speech.seconds, 0, channels),
    )
    axes.set_ylabel("Mel channel")
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if mask is not None:
        for intervals, colour in ((mask.masked, MASKED), (mask.blind, BLIND)):
            _fill(axes, intervals, (0, channels), colour, speech.seconds, alpha=MASK_STRENGTH)
    for interval, colour, style in ((view.stack, STACK, "--"), (view.layer, LAYER, ":")):
        for edge in interval:
            at_position = view.frame.start <= edge <= view.frame.end
            if 0 < edge < speech.seconds and not at_position:
                axes.vlines(edge, 0, channels, color=colour, linestyle=style, linewidth=1.4)
    axes.axvline(sum(view.frame) / 2, color=LAYER, linewidth=1.4)


def _fill(
    axes: Axes,
    intervals: Sequence[Interval],
    heights: tuple[float, float],
    colour: str,
    seconds: float,
    **options: Any,
) -> None:
    """Fills intervals, as far as they lie in the utterance, from `heights[0]` upwards by `heights[1]`."""
    clipped = [interval.within(seconds) for interval in intervals]
    axes.broken_barh([(start, end - start) for start, end in clipped], heights, color=colour, linewidth=0, **options)


def _plot_lanes(axes: Axes, seconds: float, view: ContextView) -> None:
    for place, mask in enumerate(view.masks.values()):
        lane = (place - 0.36, 0.72)
        around = [Interval(0, mask.window.start), Interval(mask.window.end, seconds)]
        _fill(axes, around, lane, OUTSIDE, seconds)
        _fill(axes, [mask.window], lane, WINDOW, seconds, alpha=WINDOW_STRENGTH)
        _fill(axes, mask.masked, lane, MASKED, seconds)
        _fill(axes, mask.blind, lane, BLIND, seconds)
        for right, text in zip(_COLUMNS.values(), _figures(mask), strict=True):
            _beside(axes, place, right, text, ha="right")
    for heading, right in _COLUMNS.items():
        _beside(axes, -0.85, right, heading, ha="right", color="#555555")
    _label_rows(axes, list(view.masks))
    axes.tick_params("x", bottom=True)


_COLUMNS = {"hidden": 0.075, "targets": 0.15, "blind": 0.21}
"""Headings of the figures beside the lanes, and where they end, in widths of the axes."""


def _figures(mask: SampledMask) -> tuple[str, str, str]:
    return f"{100 * mask.masked_fraction:.0f} %", str(mask.targets), str(mask.blind_targets)


def _plot_cell(axes: Axes, speech: Spectrogram, view: ContextView, mask: SampledMask | None) -> None:
    """One small picture: the spectrogram with a mask, and bars above it for the layer, the stack and the window."""
    _plot_spectrogram(axes, speech, view, mask)
    bars = [(view.layer, LAYER, 1.0), (view.stack, STACK, 1.0)]
    if mask is not None:
        bars.insert(0, (mask.window, WINDOW, WINDOW_STRENGTH))
        hidden, targets, blind = _figures(mask)
        axes.set_title(f"{hidden} hidden, {targets} targets, {blind} blind", loc="left", fontsize=8, pad=3)
    channels = speech.log_mel.shape[0]
    for place, (interval, colour, strength) in enumerate(bars):
        heights = channels * (1.05 + 0.12 * place), 0.08 * channels
        _fill(axes, [interval], heights, colour, speech.seconds, alpha=strength)
    axes.set_ylim(0, channels * (1.05 + 0.12 * len(bars)))
    axes.set_xlim(0, speech.seconds)
    axes.set(ylabel="", yticks=[])
    axes.spines["left"].set_visible(False)


_BELOW: dict[str, Any] = {
    "loc": "outside lower left",
    "ncols": 6,
    "frameon": False,
    "handlelength": 1.6,
    "columnspacing": 1.4,
}
_POSITION = Line2D([], [], color=LAYER, linewidth=1.4, label="position")
_MASK_COLOURS = [
    Patch(color=WINDOW, alpha=WINDOW_STRENGTH, linewidth=0, label="masks may fall here"),
    Patch(color=MASKED, label="hidden"),
    Patch(color=BLIND, label="blind targets"),
]
