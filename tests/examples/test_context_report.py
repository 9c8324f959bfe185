"""The context report: what its table counts, what its pictures show, and what it does with speech it cannot use."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from torch import nn

from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.modules.ssl_modules.masking import RandomBlockMasking
from nemo.collections.asr.parts.attention_context import CONTEXT_PRESETS, AttentionContext
from nemo.collections.asr.parts.utils.streaming_utils import EncoderStream

pytest.importorskip("matplotlib", reason="the report's pictures are drawn by matplotlib, which is not installed")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "asr"
SCRIPTS = EXAMPLES / "speech_pretraining"
sys.path.insert(0, str(SCRIPTS))  # as when the script is started
import context_pictures  # noqa: E402
import context_report  # noqa: E402
from context_recipe import WAYS, EncoderGeometry, Recipe  # noqa: E402

sys.path.remove(str(SCRIPTS))

DEMO_CONFIG = EXAMPLES / "conf" / "ssl" / "nest" / "nest_streaming_demo.yaml"
RATE = 16000


class SpeechEncoder(nn.Module):
    """A model with an encoder and a preprocessor, and without masking."""

    def __init__(self, **encoder):
        super().__init__()
        torch.manual_seed(0)
        sizes = dict(feat_in=8, n_layers=2, d_model=16, n_heads=2, subsampling="dw_striding", subsampling_factor=8)
        sizes |= dict(subsampling_conv_channels=8, causal_downsampling=True, conv_norm_type="layer_norm")
        sizes |= dict(conv_context_size="causal", conv_kernel_size=5, att_context_size=[[3, 0], [-1, 0]])
        self.encoder = ConformerEncoder(**{**sizes, **encoder})
        self.preprocessor = AudioToMelSpectrogramPreprocessor(features=8, normalize="NA", pad_to=0)


def parse(*sizes: int) -> AttentionContext:
    return AttentionContext.parse(sizes)


def speech(file: Path, seconds: float, rate: int = RATE) -> Path:
    """Noise that swells and fades, as a file."""
    samples = np.random.default_rng(0).standard_normal(round(seconds * rate))
    soundfile.write(file, 0.1 * samples * np.sin(np.arange(len(samples)) / rate) ** 2, rate)
    return file


def dense(recipe: Recipe, **changes) -> Recipe:
    """The recipe with so many masks that short contexts have blind targets."""
    return replace(recipe, masking=replace(recipe.masking, mask_prob=0.06, **changes))


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model()


@pytest.fixture(scope="module")
def recipe(model) -> Recipe:
    return Recipe.of_model(model)


# ---------------------------------------------------------------------------------------------------------- geometry


def features_behind(model: SpeechEncoder, frame: int, context: AttentionContext, length: int = 400) -> tuple[int, int]:
    """The first and the last feature frame that the encoder's output at `frame` changes with."""
    encoder = model.encoder.double().eval()
    features = torch.randn(1, 8, length, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    features.requires_grad_(True)
    with encoder.context.evaluating(context):
        output, _ = encoder(audio_signal=features, length=torch.tensor([length]))
    (output[0, :, frame] * torch.arange(1.0, 17.0)).sum().backward()
    used = features.grad[0].abs().sum(dim=0).nonzero()[:, 0]
    return int(used[0]), int(used[-1])


@pytest.mark.parametrize(
    "encoder, context, frame",
    [
        ({}, (3, 0), 30),
        ({}, (-1, 0), 30),
        ({"causal_downsampling": False, "conv_context_size": None}, (3, 1), 24),
        ({"att_context_style": "chunked_limited", "att_context_size": [[4, 1]]}, (4, 1), 30),
        ({"att_context_style": "chunked_limited", "att_context_size": [[4, 1]]}, (4, 1), 31),
        ({"subsampling": "stacking"}, (2, 0), 30),
    ],
)
def test_the_reach_of_the_stack_is_what_the_output_changes_with(encoder, context, frame):
    model, context = SpeechEncoder(**encoder), parse(*context)
    geometry = EncoderGeometry.of(model.encoder, model.preprocessor)
    reached = geometry.feature_span(geometry.stack_span(frame, context))
    assert features_behind(model, frame, context) == (max(0, reached.first), reached.last)


@pytest.mark.parametrize(
    "encoder, context",
    [({}, (3, 0)), ({"att_context_style": "chunked_limited", "att_context_size": [[8, 3]]}, (8, 3))],
)
def test_latency_is_that_of_a_stream_which_computes_each_frame_or_chunk_at_once(encoder, context):
    model = SpeechEncoder(**encoder).eval()
    geometry = EncoderGeometry.of(model.encoder, model.preprocessor)
    with EncoderStream(model, list(context)) as stream:
        assert geometry.latency(parse(*context)) == pytest.approx(stream.latency, abs=1e-9)


def test_unlimited_sides_have_neither_reach_nor_latency_in_the_table():
    row = context_report.context_table(Recipe.of_model(SpeechEncoder()), [400], [parse(-1, -1)])[0]
    assert (row["left"], row["right"]) == (-1, -1)
    for figure in ("left_seconds", "right_seconds", "latency_seconds", "reach_left_seconds", "reach_right_seconds"):
        assert row[figure] is None


# ------------------------------------------------------------------------------------------------------------- recipe


@pytest.mark.parametrize("position", ["pre_conv", "post_conv"])
def test_a_config_says_what_its_model_says(position, tiny_config, tiny_model, tmp_path):
    changes = {"mask_position": position, "context_presets": {"short": [8, 0]}, "masking.causal_window": "random"}
    file = tmp_path / "config.yaml"
    OmegaConf.save(OmegaConf.create({"model": tiny_config(changes)}), file)
    model = tiny_model(changes)
    from_config, from_model = Recipe.of_config(file), Recipe.of_model(model)
    assert from_config.geometry == from_model.geometry
    assert from_config.masking == from_model.masking
    assert from_config.presets == from_model.presets
    assert from_config.contexts() == from_model.contexts()
    assert from_config.masking.own_way == "random"
    assert from_config.encoder.d_model < model.encoder.d_model

    lengths = [8, 15, 16, 17, 399, 400]
    signal = torch.zeros(len(lengths), max(lengths), 80)
    pre_encode = getattr(model.encoder.pre_encode, "pre_encode", model.encoder.pre_encode)
    _, encoded = pre_encode(x=signal, lengths=torch.tensor(lengths))
    expected = lengths if position == "pre_conv" else encoded.tolist()
    assert from_config.mask_lengths(lengths).tolist() == expected


def test_contexts_are_the_trained_ones_and_the_presets_that_the_encoder_can_take():
    assert [str(context) for context in Recipe.of_model(SpeechEncoder()).contexts()] == [
        "[3, 0]",
        *(str([*sizes]) for sizes in sorted(CONTEXT_PRESETS.values()) if sizes[0] > 0),
        "[-1, 0]",
    ]
    local = Recipe.of_model(SpeechEncoder(self_attention_model="rel_pos_local_attn", att_context_size=[16, 16]))
    assert parse(-1, 0) not in local.contexts()
    assert set(local.refused_presets()) == {"unlimited"}


# -------------------------------------------------------------------------------------------------------------- table


def counted_by_hand(mask: list[bool], left: int, factor: int, threshold: float) -> tuple[float, int, int]:
    """Masked fraction, targets and blind targets of one utterance."""
    groups = [mask[start : start + factor] for start in range(0, len(mask), factor)]
    targets = sum(sum(group) / factor > threshold for group in groups)
    blind = 0
    for index, group in enumerate(groups):
        seen = groups[0 if left < 0 else max(0, index - left) : index]
        blind += all(group) and all(all(other) for other in seen)
    return sum(mask) / len(mask), targets, blind


@pytest.mark.parametrize("position", ["pre_conv", "post_conv"])
def test_the_table_counts_what_one_counts_by_hand(position, tiny_model):
    settings = {"mask_position": position, "masking.block_size": 16}
    recipe = dense(Recipe.of_model(tiny_model(settings)), block_size=16 if position == "pre_conv" else 2)
    feature_frames, draws, seed = [150, 333], 4, 5
    contexts = [parse(3, 0), parse(20, 0), parse(-1, 0)]
    rows = context_report.context_table(recipe, feature_frames, contexts, draws=draws, seed=seed)

    factor = 8 if position == "pre_conv" else 1
    lengths = recipe.mask_lengths(feature_frames).repeat_interleave(draws)
    options = dict(feat_in=1, mask_prob=0.06, block_size=recipe.masking.block_size, allow_overlap=True)
    for row, context in zip(rows, contexts, strict=True):
        for way, processor in {
            "none": RandomBlockMasking(**options),
            "literal": RandomBlockMasking(**options, causal=True, causal_window="tail", subsampling_factor=1),
            "tail": RandomBlockMasking(**options, causal=True, causal_window="tail", subsampling_factor=factor),
            "random": RandomBlockMasking(**options, causal=True, causal_window="random", subsampling_factor=factor),
            "sliding": RandomBlockMasking(**options, causal=True, causal_window="sliding", subsampling_factor=factor),
        }.items():
            processor.left_context_size = context.left
            masks = processor.sample(lengths, int(lengths.max()), generator=torch.Generator().manual_seed(seed))
            by_hand = np.array(
                [
                    counted_by_hand(mask[:length].tolist(), context.left, factor, 0.8)
                    for mask, length in zip(masks, lengths.tolist(), strict=True)
                ]
            )
            figures = row["masks"][way]
            found = [figures[name] for name in ("masked_fraction", "targets", "blind_targets")]
            assert found == pytest.approx(by_hand.mean(axis=0).tolist(), abs=1e-6), (way, context)
            assert figures["without_target"] == pytest.approx((by_hand[:, 1] == 0).mean())


def test_sync_leaves_no_blind_target_and_the_literal_one_hardly_any_target(recipe):
    row = context_report.context_table(dense(recipe), [1600], [parse(8, 0)], draws=40)[0]
    masks = row["masks"]
    assert masks["none"]["blind_targets"] > 1
    assert masks["sliding"]["blind_targets"] == 0
    assert masks["sliding"]["targets"] > 0.8 * masks["none"]["targets"]
    assert masks["tail"]["targets"] < 0.1 * masks["none"]["targets"]
    assert masks["literal"]["targets"] < masks["tail"]["targets"]
    assert masks["literal"]["without_target"] > 0.5


def test_a_table_is_fit_for_json_and_the_same_every_time(recipe):
    first, again = (context_report.context_table(recipe, [500, 600], seed=3, draws=2) for _ in range(2))
    assert first == again == json.loads(json.dumps(first))
    assert [row["left"] for row in first] == [8, 16, 80, 160, 240, 320, -1]
    low = next(row for row in first if row["presets"] == ["low"])
    assert (low["left_seconds"], low["right_seconds"], low["trained"]) == (12.8, 0.0, False)
    assert low["reach_left_seconds"] == pytest.approx(0.01 * (2 * (160 + 8) * 8 + 14))


@pytest.mark.parametrize("lengths, draws", [([], 1), ([100], 0)])
def test_a_table_of_nothing_is_refused(recipe, lengths, draws):
    with pytest.raises(ValueError, match="utterances and draws"):
        context_report.context_table(recipe, lengths, draws=draws)


# ----------------------------------------------------------------------------------------------------------- pictures


def seconds_of(intervals) -> float:
    return sum(end - start for start, end in intervals)


def test_pictures_show_the_masks_that_they_give_figures_of(recipe):
    recipe, context, length = dense(recipe), parse(6, 0), 900
    view = context_report.context_views(recipe, length, [context], seed=1)[0]
    for way, mask in view.masks.items():
        assert seconds_of(mask.hidden) == pytest.approx(mask.masked_fraction * length * 0.01, abs=1e-6)
        assert seconds_of(mask.blind) == pytest.approx(mask.blind_targets * 0.08, abs=1e-6)
        assert all(mask.window.start <= start and end <= mask.window.end for start, end in mask.hidden), way
    assert view.masks["none"].blind_targets > 0
    assert view.masks["none"].window == view.masks["sliding"].window == (0, 9.0)
    assert view.masks["tail"].window == pytest.approx((9.0 - 6 * 0.08, 9.0))
    assert view.masks["literal"].window == pytest.approx((9.0 - 6 * 0.01, 9.0))
    assert seconds_of([view.masks["random"].window]) == pytest.approx(6 * 0.08)
    assert view.layer == pytest.approx((view.frame.start - 6 * 0.08, view.frame.end))
    assert view.stack.start == pytest.approx(view.frame.start - 2 * (6 + 8) * 0.08 - 0.14)
    assert any(start <= view.frame.start and view.frame.end <= end for start, end in view.masks["none"].hidden)


def test_before_and_after_differ_in_what_was_opened_alone(recipe):
    masks = context_report.context_views(dense(recipe), 900, [parse(6, 0)], seed=1)[0].masks
    before, after = masks["none"], masks["sliding"]
    assert after.masked_fraction < before.masked_fraction
    assert all(any(a <= start and end <= b for a, b in before.hidden) for start, end in after.hidden)


def picture(file: Path) -> np.ndarray:
    from matplotlib.image import imread

    return (imread(file)[..., :3] * 255).round().astype(int)


def of_colour(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Which pixels have a colour, bool [height, width]."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return np.abs(pixels - wanted).max(axis=2) <= 1


@pytest.mark.slow
def test_drawing_a_model_gives_a_picture_of_each_context_and_one_of_all(tiny_model, tmp_path):
    presets = {name: [16, 0] for name in CONTEXT_PRESETS if name != "unlimited"}
    model = tiny_model({"context_presets": presets}).train()
    wav = speech(tmp_path / "utterance.wav", 4.0)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    files = context_report.draw_contexts(model, wav, tmp_path / "new" / "pictures")
    names = ["contexts.png", "context_8_0.png", "context_16_0.png", "context_-1_0.png"]
    assert files == [tmp_path / "new" / "pictures" / name for name in names]
    for file in files:
        height, width, _ = picture(file).shape
        assert 1200 <= width <= 2000 and 500 <= height <= 2000, file
    assert model.training and model.preprocessor.training and model.encoder.att_context_size == [8, 0]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_picture_has_the_colours_of_what_it_shows(recipe, tmp_path):
    noise = context_pictures.Spectrogram("noise", torch.randn(80, 700).numpy(), 0.01)

    def drawn(recipe: Recipe) -> np.ndarray:
        view = context_report.context_views(recipe, 700, [parse(3, 0)])[0]
        context_pictures.draw_context(noise, view, tmp_path / "picture.png")
        return picture(tmp_path / "picture.png")

    def area(pixels: np.ndarray, colour: str) -> int:
        """Of what has this colour, more than a legend's patch."""
        return int(of_colour(pixels, colour).sum()) - 800

    hiding = drawn(dense(recipe))
    for colour in (context_pictures.LAYER, context_pictures.STACK, context_pictures.HIDDEN, context_pictures.BLIND):
        assert area(hiding, colour) > 0, colour
    plain = drawn(replace(recipe, masking=replace(recipe.masking, mask_prob=0.0)))
    assert area(plain, context_pictures.STACK) > 0
    assert area(plain, context_pictures.HIDDEN) < 0 and area(plain, context_pictures.BLIND) < 0


def test_a_model_without_masking_has_pictures_and_a_table_of_its_contexts(tmp_path):
    model, wav = SpeechEncoder(), speech(tmp_path / "utterance.wav", 2.0)
    report = context_report.write_report(
        "plain", Recipe.of_model(model), [context_report.Utterance("utterance", wav)], tmp_path, contexts=[parse(3, 0)]
    )
    assert report.rows[0]["masks"] == {} and report.rows[0]["left"] == 3
    assert "no masking" in report.markdown()
    for name in ("contexts.png", "context_3_0.png"):
        pixels = picture(tmp_path / name)
        assert of_colour(pixels, context_pictures.LAYER).any()
        assert not of_colour(pixels, context_pictures.HIDDEN).any()


def test_masks_of_encoder_frames_have_no_literal_column(tiny_model, tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(context_report, "draw_side_by_side", lambda *arguments: compared.append(list(arguments[2])))
    for position in ("pre_conv", "post_conv"):
        recipe = Recipe.of_model(tiny_model({"mask_position": position}))
        context_report.draw_pictures(recipe, "noise", torch.randn(80, 300), [], tmp_path)
    assert compared == [["none", "literal", "sliding"], ["none", "sliding"]]


def test_a_reach_is_told_in_words():
    frame = context_pictures.Interval(8.0, 8.08)
    words = {
        (6.4, 8.08): "1.6 s back",
        (-4.0, 8.01): "12.0 s back",
        (7.0, 9.08): "1.0 s back, 1.0 s ahead",
        (-math.inf, math.inf): "all the past, all the future",
    }
    for seen, expected in words.items():
        assert context_pictures._reach(context_pictures.Interval(*seen), frame) == expected


# ------------------------------------------------------------------------------------------------------- command line


@pytest.mark.slow
def test_the_command_writes_tables_and_pictures_and_leaves_out_what_cannot_be_used(tmp_path, capsys):
    speech(tmp_path / "long.wav", 8.0)
    speech(tmp_path / "short.wav", 0.05)
    (tmp_path / "broken.wav").write_text("this is no audio")
    entries = [
        {"audio_filepath": "long.wav", "offset": 1.0, "duration": 3.0},
        {"audio_filepath": "missing.wav"},
        {"audio_filepath": "short.wav"},
        {"audio_filepath": "broken.wav"},
        {"text": "an entry without a file"},
    ]
    manifest = tmp_path / "manifest.json"
    manifest.write_text("\n".join(map(json.dumps, entries)) + "\nno JSON\n")
    out = tmp_path / "report"
    arguments = ["--config", DEMO_CONFIG, "--audio", tmp_path / "long.wav", "--manifest", manifest, "--out", out]
    arguments += ["--context", "40,0", "--context", "low", "--draws", 3, "--seed", 2]
    report = context_report.main([*map(str, arguments), "--json"])

    assert sorted(file.name for file in out.iterdir()) == [
        "context_160_0.png",
        "context_40_0.png",
        "contexts.png",
        "report.json",
        "report.md",
    ]
    written = json.loads((out / "report.json").read_text())
    shown = capsys.readouterr()
    assert json.loads(shown.out[shown.out.index("{\n") :]) == written
    contexts = [parse(40, 0), parse(160, 0)]
    recipe = Recipe.of_config(DEMO_CONFIG)
    assert written["rows"] == context_report.context_table(recipe, [800, 300], contexts, draws=3, seed=2)
    assert written["utterances"] == 2 and written["seconds"] == pytest.approx(11.0)

    text = (out / "report.md").read_text()
    assert text == report.markdown()
    reasons = {"missing.wav": "does not exist", "short.wav": "shorter than one encoder frame", "broken.wav": "read as"}
    reasons |= {"manifest.json:5": "no manifest entry", "manifest.json:6": "no manifest entry"}
    for what, reason in reasons.items():
        line = next(line for line in text.splitlines() if line.startswith("- ") and what in line)
        assert reason in line and any(reason in told for told in shown.err.splitlines() if what in told)
    assert "window of [160, 0] (12.8 s): 2 of 2" in text and "window of [40, 0] (3.2 s): 1 of 2" in text
    for row in written["rows"]:
        for name, figures in row["masks"].items():
            share = f"{100 * figures['masked_fraction']:.1f} %"
            assert f"| {row['context']} | {name} | {share} | {figures['targets']:.1f} |" in text
    assert all(f"({name})" in text for name in written["pictures"])


def test_a_restored_file_gives_the_report_of_its_model(model, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(context_report, "draw_pictures", lambda *arguments: [])
    file, wav = tmp_path / "model.nemo", speech(tmp_path / "utterance.wav", 2.0)
    model.save_to(str(file))
    arguments = ["--model", file, "--audio", wav, "--context=-1,0", "--out", tmp_path / "report"]
    report = context_report.main([str(argument) for argument in arguments])
    assert (report.geometry, report.masking) == (recipe.geometry, recipe.masking)
    assert report.rows == context_report.context_table(recipe, [200], [parse(-1, 0)])


def test_presets_that_an_encoder_cannot_take_are_named_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(context_report, "draw_pictures", lambda *arguments: [])
    encoder = SpeechEncoder(self_attention_model="rel_pos_local_attn", att_context_size=[16, 16])
    recipe = replace(Recipe.of_model(encoder), presets={"all": (-1, 0), "some": (16, 16)})
    wav = speech(tmp_path / "utterance.wav", 2.0)
    report = context_report.write_report("local", recipe, [context_report.Utterance("utterance", wav)], tmp_path)
    assert [row["context"] for row in report.rows] == [[16, 16]]
    assert [skip.what for skip in report.skipped] == ["preset all"]
    assert "local attention" in report.markdown()


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"--context": "lo"}, ValueError, "did you mean 'low'"),
        ({"--context": "8"}, ValueError, r"context is \[8\]"),
        ({"--audio": "missing.wav"}, ValueError, r"missing\.wav: the file does not exist"),
        (
            {"--audio": "short.wav"},
            ValueError,
            r"short\.wav: the utterance is 0\.050 s long, shorter than",
        ),
        ({"--manifest": "missing.json"}, FileNotFoundError, r"no manifest .*missing\.json"),
        ({"--config": "missing.yaml"}, FileNotFoundError, r"no config .*missing\.yaml"),
        ({"--config": "syntax.yaml"}, ValueError, r"syntax\.yaml cannot be read as a training config"),
        ({"--config": "other.yaml"}, ValueError, r"model\.preprocessor\._target_ None"),
        ({"--config": "refused.yaml"}, ValueError, r"refused\.yaml: encoder\.att_context_probs has 2 entries"),
        ({"--config": None, "--model": "missing.nemo"}, FileNotFoundError, r"no model .*missing\.nemo"),
        ({"--config": None, "--model": "short.wav"}, ValueError, r"short\.wav is no \.nemo file"),
        ({"--audio": None}, SystemExit, "2"),
        ({"--draws": "0"}, SystemExit, "2"),
    ],
)
def test_what_cannot_be_reported_is_refused_and_nothing_is_written(changes, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    speech(Path("long.wav"), 1.0)
    speech(Path("short.wav"), 0.05)
    Path("syntax.yaml").write_text("model: [1\n")
    Path("other.yaml").write_text("model: {encoder: {n_layers: 2}}\n")
    refused = OmegaConf.load(DEMO_CONFIG.with_name("nest_fast-conformer_streaming_dynamic.yaml"))
    refused.model.encoder.att_context_probs = [0.5, 0.5]
    OmegaConf.save(refused, "refused.yaml")
    options = {"--config": str(DEMO_CONFIG), "--audio": "long.wav", "--out": "report", **changes}
    with pytest.raises(error, match=message):
        context_report.main([text for option, value in options.items() if value for text in (option, value)])
    assert not Path("report").exists()


def test_a_model_with_another_encoder_is_refused():
    model = SpeechEncoder()
    model.encoder = nn.Linear(8, 8)
    with pytest.raises(TypeError, match="Linear where a report needs a ConformerEncoder"):
        Recipe.of_model(model)


def test_a_file_that_cannot_be_drawn_is_named(model, tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.wav cannot be drawn: the file does not exist"):
        context_report.draw_contexts(model, tmp_path / "nothing.wav", tmp_path)


def test_a_long_manifest_is_spread_evenly():
    assert context_report.spread(range(10), 4) == [0, 2, 5, 7]
    assert context_report.spread(range(3), 4) == [0, 1, 2]


def test_every_way_of_masking_has_a_name_of_its_own():
    names = [way.name for way in WAYS]
    assert names == ["none", "literal", "tail", "random", "sliding"]
    assert set(context_report.BEFORE_AND_AFTER) <= set(names)
