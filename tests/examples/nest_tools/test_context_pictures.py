"""The pictures of a report: the masks and colours that they show."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from context_examples import SpeechEncoder, dense, parse, speech, with_masks
from nest_tools.recipe import Recipe

from nemo.collections.asr.modules.ssl_modules.masking_ways import MASKING_WAYS
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS

pytest.importorskip("matplotlib", reason="the report's pictures are plotted by matplotlib, which is not installed")

from nest_tools.report import plot_contexts, plots, views, write_report  # noqa: E402
from nest_tools.report.picture_data import Interval, Spectrogram  # noqa: E402
from nest_tools.report.plots import plot_context  # noqa: E402
from nest_tools.report.views import BEFORE_AND_AFTER, context_views, plot_pictures  # noqa: E402
from nest_tools.utterances import Utterance  # noqa: E402


@pytest.fixture(scope="module")
def recipe(tiny_model) -> Recipe:
    return Recipe.of_model(tiny_model())


def seconds_of(intervals) -> float:
    return sum(end - start for start, end in intervals)


def test_pictures_show_the_masks_that_they_give_figures_of(recipe):
    recipe, context, length = dense(recipe), parse(6, 0), 900
    view = context_views(recipe, length, [context], seed=1)[0]
    for way, mask in view.masks.items():
        assert seconds_of(mask.masked) == pytest.approx(mask.masked_fraction * length * 0.01, abs=1e-6)
        assert seconds_of(mask.blind) == pytest.approx(mask.blind_targets * 0.08, abs=1e-6)
        assert all(mask.window.start <= start and end <= mask.window.end for start, end in mask.masked), way
    assert view.masks["none"].blind_targets > 0
    assert view.masks["none"].window == view.masks["sliding"].window == (0, 9.0)
    assert view.masks["tail"].window == pytest.approx((9.0 - 6 * 0.08, 9.0))
    assert view.masks["literal"].window == pytest.approx((9.0 - 6 * 0.01, 9.0))
    assert seconds_of([view.masks["random"].window]) == pytest.approx(6 * 0.08)
    assert view.layer == pytest.approx((view.frame.start - 6 * 0.08, view.frame.end))
    assert view.stack.start == pytest.approx(view.frame.start - 2 * (6 + 8) * 0.08 - 0.14)
    assert any(start <= view.frame.start and view.frame.end <= end for start, end in view.masks["none"].masked)


def test_before_and_after_differ_in_what_was_opened_alone(recipe):
    masks = context_views(dense(recipe), 900, [parse(6, 0)], seed=1)[0].masks
    before, after = masks["none"], masks["sliding"]
    assert after.masked_fraction < before.masked_fraction
    assert all(any(a <= start and end <= b for a, b in before.masked) for start, end in after.masked)


def picture(file: Path) -> np.ndarray:
    from matplotlib.image import imread

    return (imread(file)[..., :3] * 255).round().astype(int)


def of_colour(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Which pixels have a colour, bool [height, width]."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return np.abs(pixels - wanted).max(axis=2) <= 1


def test_plotting_a_model_gives_a_picture_of_each_context_and_one_of_all(tiny_model, tmp_path):
    presets = {name: [16, 0] for name in CONTEXT_PRESETS if name != "unlimited"}
    model = tiny_model({"context_presets": presets}).train()
    wav = speech(tmp_path / "utterance.wav", 4.0)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    files = plot_contexts(model, wav, tmp_path / "new" / "pictures")
    names = ["contexts.png", "context_8_0.png", "context_16_0.png", "context_-1_0.png"]
    assert files == [tmp_path / "new" / "pictures" / name for name in names]
    for file in files:
        height, width, _ = picture(file).shape
        assert 1200 <= width <= 2000 and 500 <= height <= 2000, file
    assert model.training and model.preprocessor.training and model.encoder.att_context_size == [8, 0]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_picture_has_the_colours_of_what_it_shows(recipe, tmp_path):
    noise = Spectrogram("noise", torch.randn(80, 700).numpy(), 0.01)

    def plotted(recipe: Recipe) -> np.ndarray:
        view = context_views(recipe, 700, [parse(3, 0)])[0]
        plot_context(noise, view, tmp_path / "picture.png")
        return picture(tmp_path / "picture.png")

    def area(pixels: np.ndarray, colour: str) -> int:
        """Of what has this colour, more than a legend's patch."""
        return int(of_colour(pixels, colour).sum()) - 800

    hiding = plotted(dense(recipe))
    for colour in (plots.LAYER, plots.STACK, plots.MASKED, plots.BLIND):
        assert area(hiding, colour) > 0, colour
    plain = plotted(with_masks(recipe, mask_prob=0.0))
    assert area(plain, plots.STACK) > 0
    assert area(plain, plots.MASKED) < 0 and area(plain, plots.BLIND) < 0


def test_a_model_without_masking_has_pictures_and_a_table_of_its_contexts(tmp_path):
    model, wav = SpeechEncoder(), speech(tmp_path / "utterance.wav", 2.0)
    report = write_report(
        "plain", Recipe.of_model(model), [Utterance("utterance", wav)], tmp_path, contexts=[parse(3, 0)]
    )
    assert report.rows[0]["masks"] == {} and report.rows[0]["left"] == 3
    assert "no masking" in report.markdown()
    for name in ("contexts.png", "context_3_0.png"):
        pixels = picture(tmp_path / name)
        assert of_colour(pixels, plots.LAYER).any()
        assert not of_colour(pixels, plots.MASKED).any()


def test_masks_of_encoder_frames_have_no_literal_column(tiny_model, tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(views, "plot_side_by_side", lambda *arguments: compared.append(list(arguments[2])))
    for position in ("pre_conv", "post_conv"):
        recipe = Recipe.of_model(tiny_model({"mask_position": position}))
        plot_pictures(recipe, "noise", torch.randn(80, 300), [], tmp_path)
    assert compared == [["none", "literal", "sliding"], ["none", "sliding"]]


def test_a_reach_is_told_in_words():
    frame = Interval(8.0, 8.08)
    words = {
        (6.4, 8.08): "1.6 s back",
        (-4.0, 8.01): "12.0 s back",
        (7.0, 9.08): "1.0 s back, 1.0 s ahead",
        (-math.inf, math.inf): "all the past, all the future",
    }
    for seen, expected in words.items():
        assert plots.extent_in_words(Interval(*seen), frame) == expected


def test_a_file_that_cannot_be_plotted_is_named(tiny_model, tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.wav cannot be plotted: the file does not exist"):
        plot_contexts(tiny_model(), tmp_path / "nothing.wav", tmp_path)


def test_the_overview_compares_ways_of_masking_that_there_are():
    assert set(BEFORE_AND_AFTER) <= {way.name for way in MASKING_WAYS.values()}
