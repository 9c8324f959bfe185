"""The report: the same figures in Markdown and JSON, and what was left out."""

import json
from dataclasses import replace

import pytest
from context_examples import SpeechEncoder, parse, speech
from nest_tools.recipe import Recipe
from nest_tools.utterances import Skipped, Utterance

pytest.importorskip("matplotlib", reason="the report's pictures are plotted by matplotlib, which is not installed")

from nest_tools.report import context_table, report, write_report  # noqa: E402


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(report, "plot_pictures", lambda *arguments: [])


def test_presets_that_an_encoder_cannot_take_are_named(tmp_path):
    encoder = SpeechEncoder(self_attention_model="rel_pos_local_attn", att_context_size=[16, 16])
    recipe = replace(Recipe.of_model(encoder), presets={"all": (-1, 0), "some": (16, 16)})
    utterance = Utterance.of_file(speech(tmp_path / "utterance.wav", 2.0))
    written = write_report("local", recipe, [utterance], tmp_path)
    assert [row["context"] for row in written.rows] == [[16, 16]]
    assert list(written.refused_presets) == ["all"] and not written.skipped
    assert "- preset all: " in written.markdown() and "local attention" in written.markdown()


def test_markdown_and_json_have_the_figures_of_the_table(tiny_model, tmp_path):
    recipe = Recipe.of_model(tiny_model())
    utterances = [
        Utterance.of_file(speech(tmp_path / f"{name}.wav", seconds)) for name, seconds in (("a", 8), ("b", 3))
    ]
    contexts = [parse(40, 0), parse(160, 0)]
    skipped = [Skipped("manifest.json:5", "no manifest entry")]
    written = write_report(
        "tiny", recipe, utterances, tmp_path, contexts=contexts, masks_per_utterance=3, seed=2, skipped=skipped
    )
    assert written.rows == context_table(recipe, [800, 300], contexts, masks_per_utterance=3, seed=2)
    assert written.utterances == 2 and written.seconds == pytest.approx(11.0)
    text = (tmp_path / "report.md").read_text()
    assert text == written.markdown() and "- manifest.json:5: no manifest entry" in text
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(written.as_dict()))
    assert "window of [160, 0] (12.8 s): 2 of 2" in text and "window of [40, 0] (3.2 s): 1 of 2" in text
    for row in written.rows:
        for name, figures in row["masks"].items():
            share = f"{100 * figures['masked_fraction']:.1f} %"
            assert f"| {row['context']} | {name} | {share} | {figures['targets']:.1f} |" in text


def test_a_model_without_masking_is_reported_without_masks(tmp_path):
    utterance = Utterance.of_file(speech(tmp_path / "utterance.wav", 2.0))
    written = write_report("plain", Recipe.of_model(SpeechEncoder()), [utterance], tmp_path, contexts=[parse(3, 0)])
    assert written.rows[0]["masks"] == {} and written.rows[0]["left"] == 3
    assert "The model has no masking" in written.markdown()


def test_other_rates_and_channels_are_converted_where_that_is_asked_for(tmp_path):
    recipe = Recipe.of_model(SpeechEncoder())
    utterance = Utterance.of_file(speech(tmp_path / "slow.wav", 2.0, rate=8000))
    with pytest.raises(ValueError, match=r"no utterance can be used .*slow\.wav: the file must have .* got 1 at 8000"):
        write_report("plain", recipe, [utterance], tmp_path / "report", contexts=[parse(3, 0)])
    assert not (tmp_path / "report").exists()
    written = write_report("plain", recipe, [utterance], tmp_path / "report", contexts=[parse(3, 0)], convert=True)
    assert written.seconds == pytest.approx(2.0)


def test_what_is_written_of_masking_is_one_level_of_figures(recipe, tmp_path):
    utterance = Utterance.of_file(speech(tmp_path / "utterance.wav", 2.0))
    write_report("tiny", recipe, [utterance], tmp_path, contexts=[parse(8, 0)], masks_per_utterance=1)
    masking = json.loads((tmp_path / "report.json").read_text())["masking"]
    assert masking["mask_prob"] == recipe.masking.recipe.mask_prob and masking["own_way"] == recipe.masking.own_way
    assert "blocks of 16 feature frames, `mask_prob` 0.02, with overlap" in (tmp_path / "report.md").read_text()
