"""What the pictures of a report show of contexts and masks."""

import pytest
import torch
from context_examples import dense, parse, speech
from nest_tools.recipe import Recipe
from picture_colours import picture

from nemo.collections.asr.modules.ssl_modules.masking_ways import MASKING_WAYS
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS

pytest.importorskip("matplotlib", reason="the report's pictures are plotted by matplotlib, which is not installed")

from nest_tools.report import plot_contexts, views  # noqa: E402
from nest_tools.report.views import BEFORE_AND_AFTER, context_views, plot_pictures  # noqa: E402


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


@pytest.mark.slow
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


def test_masks_of_encoder_frames_have_no_literal_column(tiny_model, tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(views, "plot_side_by_side", lambda *arguments: compared.append(list(arguments[2])))
    for position in ("pre_conv", "post_conv"):
        recipe = Recipe.of_model(tiny_model({"mask_position": position}))
        plot_pictures(recipe, "noise", torch.randn(80, 300), [], tmp_path)
    assert compared == [["none", "literal", "sliding"], ["none", "sliding"]]


def test_a_file_that_cannot_be_plotted_is_named(tiny_model, tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.wav cannot be plotted: the file does not exist"):
        plot_contexts(tiny_model(), tmp_path / "nothing.wav", tmp_path)


def test_the_overview_compares_ways_of_masking_that_there_are():
    assert set(BEFORE_AND_AFTER) <= {way.name for way in MASKING_WAYS.values()}
