"""What pictures show of a recipe's contexts and masks on one utterance."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from nemo.collections.asr.modules.ssl_modules.masking_ways import MASKING_WAYS, MaskingWay
from nemo.collections.asr.parts.attention_context import AttentionContext
from nest_tools.audio import AudioReader, UnusableAudio
from nest_tools.recipe import Recipe
from nest_tools.report.picture_data import ContextView, Interval, SampledMask, Spectrogram
from nest_tools.report.plots import plot_context, plot_side_by_side
from nest_tools.report.speech import check_length
from nest_tools.utterances import Utterance

BEFORE_AND_AFTER = {
    "none": "Before: NeMo's masks, not in step",
    "literal": "Before: left counted in feature frames",
    "sliding": "After: in step (sliding)",
}
"""Ways of masking that the overview compares, with their headings."""


def plot_contexts(model: nn.Module, wav: Path, out: Path) -> list[Path]:
    """Plots all contexts of a model on one utterance: a PNG for each context, and one of all side by side.

    Args:
        model: a NeMo model with a Conformer encoder, with or without masking.
        wav: an audio file of any rate and number of channels.
        out: the folder for the pictures; it is made if need be.

    Returns:
        The PNG files.

    Raises:
        TypeError, ValueError: as `Recipe.of_model`, or the audio cannot be used; the message says why.
    """
    recipe, utterance = Recipe.of_model(model), Utterance.of_file(wav)
    try:
        samples = AudioReader(recipe.sample_rate, convert=True).read(utterance)
        check_length(recipe, samples)
    except UnusableAudio as error:
        raise ValueError(f"{wav} cannot be plotted: {error}") from error
    return plot_pictures(recipe, utterance.name, recipe.features(samples), recipe.contexts(), Path(out))


def plot_pictures(
    recipe: Recipe, name: str, features: Tensor, contexts: Sequence[AttentionContext], out: Path, seed: int = 0
) -> list[Path]:
    """Plots contexts over the features [D, T] of one utterance, and returns the PNG files, the overview first."""
    out.mkdir(parents=True, exist_ok=True)
    speech = Spectrogram(name, features.numpy(), recipe.reach.hop)
    views = context_views(recipe, features.shape[1], contexts, seed)
    overview = out / "contexts.png"
    columns = dict(BEFORE_AND_AFTER)
    if recipe.masking is not None and recipe.masking.frames_per_encoder_frame == 1:
        del columns["literal"]  # there, a number of frames is a number of encoder frames
    plot_side_by_side(speech, views, columns, overview)
    files = [overview]
    for context, view in zip(contexts, tqdm(views, "Pictures", unit="picture"), strict=True):
        files.append(out / f"context_{context.label}.png")
        plot_context(speech, view, files[-1])
    return files


def context_views(
    recipe: Recipe, length: int, contexts: Sequence[AttentionContext], seed: int = 0
) -> list[ContextView]:
    """What the pictures show of contexts, on an utterance of `length` feature frames."""
    reach, settings = recipe.reach, recipe.masking
    frame = _position(recipe, length, seed)
    views = []
    for context in contexts:
        layer = reach.layer_span(frame, context)
        features = reach.feature_span(reach.stack_span(frame, context))
        masks = {}
        if settings is not None:
            masks = {way.name: _sampled_mask(recipe, way, length, context.left, seed) for way in MASKING_WAYS.values()}
        views.append(
            ContextView(
                context=str(context),
                presets=recipe.preset_names(context),
                layers=reach.layers,
                frame=_seconds(frame, frame + 1, reach.frame_seconds),
                layer=_seconds(layer.first, layer.last + 1, reach.frame_seconds),
                stack=_seconds(features.first, features.last + 1, reach.hop),
                masks=masks,
                shown=settings.own_way if settings is not None else None,
            )
        )
    return views


def _position(recipe: Recipe, length: int, seed: int) -> int:
    """The masked encoder frame nearest to three quarters of the utterance, the same for all contexts."""
    wanted = (length * 3 // 4) // recipe.reach.factor
    if recipe.masking is None:
        return wanted
    lengths, generator = recipe.mask_lengths([length]), torch.Generator().manual_seed(seed)
    mask = recipe.masking.sample(MASKING_WAYS["none"], lengths, -1, generator).mask
    frames = recipe.masking.wholly_masked(mask)[0].nonzero()[:, 0]
    return wanted if len(frames) == 0 else int(frames[(frames - wanted).abs().argmin()])


def _sampled_mask(recipe: Recipe, way: MaskingWay, length: int, left: int, seed: int) -> SampledMask:
    settings, frame_seconds = recipe.masking, recipe.reach.frame_seconds
    assert settings is not None
    lengths = recipe.mask_lengths([length])
    sampled = settings.sample(way, lengths, left, torch.Generator().manual_seed(seed))
    audit = settings.audit(sampled, lengths, left)
    unit = frame_seconds / settings.frames_per_encoder_frame
    end = float(sampled.window.end())
    return SampledMask(
        masked=_runs(sampled.mask[0], unit),
        blind=_runs(settings.blind(sampled.mask, lengths, left)[0], frame_seconds),
        window=_seconds(end - float(sampled.window.width), end, unit),
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
