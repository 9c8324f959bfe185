"""The encoder: contexts of its config, of training and set by hand; its masks, its local attention, its weights."""

import pytest
import torch

from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.attention_context import AttentionContext, ContextSampler
from nemo.collections.asr.parts.utils.streaming_utils import (
    EncoderStream,
    set_dynamic_context,
    sync_masking_context_with_attention,
)

SIZES = dict(feat_in=8, n_layers=1, d_model=8, n_heads=2, subsampling="dw_striding", subsampling_factor=8)
CONTEXTS = [[3, 0], [6, 0], [-1, 0]]


def make_encoder(seed: int = 0, **options) -> ConformerEncoder:
    torch.manual_seed(seed)
    options = dict(subsampling_conv_channels=4, conv_norm_type="layer_norm", att_context_size=CONTEXTS) | options
    return ConformerEncoder(**SIZES, **options)


CHUNKED = {"att_context_style": "chunked_limited"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"att_context_size": []}, "encoder.att_context_size must .*empty"),
        ({"att_context_size": [[3, 0], [6, -2]]}, r"encoder.att_context_size\[1\] must .*got \[6, -2\]"),
        ({"att_context_size": [5, 1], **CHUNKED}, r"encoder.att_context_size must .*got \[5, 1\]"),
        ({"att_context_size": [8, -1], **CHUNKED}, r"encoder.att_context_size must .*got \[8, -1\].*'regular'"),
        ({"att_context_probs": [0.5, 0.5]}, r"encoder.att_context_probs must have 3 entries.*got \[0.5, 0.5\]"),
        ({"self_attention_model": "rel_pos_local_attn"}, "encoder.att_context_size must .*local attention.*got 3"),
        (
            {"self_attention_model": "rel_pos_local_attn", "att_context_size": [-1, 4]},
            r"encoder.att_context_size must .*got \[-1, 4\]",
        ),
    ],
)
def test_a_bad_context_of_the_config_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_encoder(**options)


def test_the_config_gives_contexts_and_probabilities():
    encoder = make_encoder(att_context_probs=[0.2, 0.3, 0.5])
    assert encoder.att_context_size_all == CONTEXTS and encoder.att_context_size == [3, 0]
    assert encoder.att_context_probs == pytest.approx([0.2, 0.3, 0.5])
    assert [context.as_list() for context in encoder.context.trained] == CONTEXTS
    assert encoder.context.evaluation == AttentionContext(3, 0)
    everything = make_encoder(att_context_size=None)
    assert everything.att_context_size == [-1, -1] and everything.att_context_probs == [1.0]


def visible(encoder: ConformerEncoder, frames: int = 9) -> torch.Tensor:
    """[S, S], whether position i sees position j, where NeMo has chosen the first context."""
    _, hidden = encoder._create_masks([3, 0], torch.tensor([frames]), frames, None, torch.device("cpu"))
    return ~hidden[0]


def within(left: int, frames: int = 9) -> torch.Tensor:
    """The same, computed slowly."""
    rows = [[j <= i and (left < 0 or i - j <= left) for j in range(frames)] for i in range(frames)]
    return torch.tensor(rows)


def test_the_masks_of_a_training_forward_are_those_of_the_sampled_context():
    encoder = make_encoder().train()
    encoder.context.sampler = ContextSampler(CONTEXTS, seed=0)
    lefts = []
    for _ in range(12):
        lefts.append(encoder.context.of_next_forward().left)
        assert torch.equal(visible(encoder), within(lefts[-1]))
    assert set(lefts) == {3, 6, -1}


def test_a_pinned_context_decides_the_masks_of_training_and_nemos_choice_those_of_evaluation():
    encoder = make_encoder().train()
    encoder.context.pin(AttentionContext(5, 0))
    assert torch.equal(visible(encoder), within(5))
    assert torch.equal(visible(encoder.eval()), within(3))


def test_local_attention_follows_in_layers_and_position_table():
    wide, narrow = (
        make_encoder(self_attention_model="rel_pos_local_attn", att_context_size=size).eval()
        for size in ([12, 4], [6, 2])
    )
    features = {"audio_signal": torch.randn(2, 8, 400), "length": torch.tensor([400, 250])}
    with torch.inference_mode():
        original, expected = wide(**features)[0], narrow(**features)[0]
        wide.att_context_size = [6, 2]
        wide.follow_context_in_local_attention()
        torch.testing.assert_close(wide(**features)[0], expected)
    assert (original - expected).abs().max() > 1e-3
    assert wide.layers[0].self_attn.att_context_size == [6, 2] and wide.pos_enc.pe.shape == narrow.pos_enc.pe.shape


def test_other_attention_keeps_its_position_table():
    encoder = make_encoder()
    table = encoder.pos_enc.pe
    encoder.follow_context_in_local_attention()
    assert encoder.pos_enc.pe is table


def nested_weights(encoder: ConformerEncoder) -> dict[str, torch.Tensor]:
    """Weights as they are saved where masking comes after the convolutions: a wrapper stands around `pre_encode`."""
    weights = {
        name.replace("pre_encode.", "pre_encode.pre_encode.") if name.startswith("pre_encode.") else name: value
        for name, value in encoder.state_dict().items()
    }
    return {**weights, "pre_encode.mask_processor.mask_embedding": torch.zeros(8)}


def test_weights_of_post_conv_masking_load():
    encoder, pretrained = make_encoder(seed=1), make_encoder(seed=2)
    expected = pretrained.state_dict()
    assert not torch.equal(encoder.pre_encode.out.weight, expected["pre_encode.out.weight"])
    encoder.load_state_dict(nested_weights(pretrained), strict=True)
    assert all(torch.equal(value, expected[name]) for name, value in encoder.state_dict().items())


def test_weights_of_post_conv_masking_load_below_a_prefix_and_plain_ones_as_ever():
    pretrained = make_encoder(seed=2)
    model = torch.nn.ModuleDict({"encoder": make_encoder(seed=1)})
    model.load_state_dict({f"encoder.{name}": value for name, value in nested_weights(pretrained).items()})
    assert torch.equal(model["encoder"].pre_encode.out.weight, pretrained.pre_encode.out.weight)
    plain = make_encoder(seed=1)
    plain.load_state_dict(pretrained.state_dict(), strict=True)
    assert torch.equal(plain.pre_encode.out.weight, pretrained.pre_encode.out.weight)


@pytest.mark.parametrize("name, size", [("low", [160, 0]), ("very_low", [80, 0])])
def test_a_presets_name_by_hand_is_the_presets_context(tiny_model, name, size):
    model = tiny_model().eval()
    generator = torch.Generator().manual_seed(0)
    features, lengths = torch.randn(1, 80, 1700, generator=generator), torch.tensor([1700])
    with torch.inference_mode():
        model.encoder.att_context_size = size
        expected, _ = model.encoder(audio_signal=features, length=lengths)
        model.encoder.att_context_size = [-1, 0]
        unlimited, _ = model.encoder(audio_signal=features, length=lengths)
        model.encoder.att_context_size = name
        encoded, _ = model.encoder(audio_signal=features, length=lengths)
    torch.testing.assert_close(encoded, expected, rtol=0, atol=0)
    assert not torch.allclose(encoded, unlimited)


def test_a_presets_name_by_hand_holds_in_forwards_and_helpers(tiny_model, audio):
    model = tiny_model().eval()
    set_dynamic_context(model, "low")
    expected = model.forward(*audio, apply_mask=False)[0]
    model.encoder.att_context_size = "low"
    torch.testing.assert_close(model.forward(*audio, apply_mask=False)[0], expected)
    assert sync_masking_context_with_attention(model)
    assert model.encoder.att_context_size == [160, 0] and model.mask_processor.left_context_size == 160
    model.encoder.att_context_size = "low"
    with EncoderStream(model) as stream:
        assert stream.push(audio[0][0])[0].shape[2] > 0


def test_a_presets_name_by_hand_holds_in_training_once_it_is_pinned(tiny_model, audio):
    model = tiny_model()
    set_dynamic_context(model, [8, 0])
    model.encoder.att_context_size = "low"
    log_probs, *_ = model.train().forward(*audio, apply_mask=True)
    assert log_probs.isfinite().all() and model.current_att_context == [160, 0]


def test_an_unknown_name_by_hand_is_refused_with_the_nearest_one(tiny_model, audio):
    model = tiny_model().eval()
    model.encoder.att_context_size = "lwo"
    with pytest.raises(ValueError, match="encoder.att_context_size must be .*'low'"):
        model.forward(*audio)
    with pytest.raises(ValueError, match="encoder.att_context_size must be .*'low'"):
        model.encoder(audio_signal=torch.zeros(1, 80, 100), length=torch.tensor([100]))
