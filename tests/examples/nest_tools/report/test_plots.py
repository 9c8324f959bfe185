"""The pictures of a report: colours and words."""

import math

import numpy as np
import pytest
import torch
from context_examples import SpeechEncoder, dense, parse, speech, with_masks
from nest_tools.recipe import Recipe
from picture_colours import of_colour, picture

pytest.importorskip("matplotlib", reason="the report's pictures are plotted by matplotlib, which is not installed")

from nest_tools.report import plots, write_report  # noqa: E402
from nest_tools.report.picture_data import Interval, Spectrogram  # noqa: E402
from nest_tools.report.plots import plot_context  # noqa: E402
from nest_tools.report.views import context_views  # noqa: E402
from nest_tools.utterances import Utterance  # noqa: E402


@pytest.mark.slow
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
