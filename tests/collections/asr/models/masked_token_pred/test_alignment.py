"""Parts of a model that must agree, and which frame predicts a token."""

import pytest
import torch


def seen_by(model: torch.nn.Module, frame: int, features: int = 160) -> list[int]:
    """The feature frames that one encoder frame's subsampling depends on, by gradient."""
    signal = torch.randn(1, features, 80, requires_grad=True)
    pre_encode = model.encoder.pre_encode
    out, _ = (pre_encode.pre_encode if model.pre_encoder is not None else pre_encode)(
        x=signal, lengths=torch.tensor([features])
    )
    out[0, frame].pow(2).sum().backward()
    return signal.grad[0].abs().sum(-1).nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("subsampling", "causal", "shift"),
    [
        ("dw_striding", True, 1),
        ("striding", True, 1),
        ("dw_striding", False, 0),
        ("striding", False, 0),
        ("stacking", False, 0),
        ("stacking_norm", False, 0),
    ],
)
def test_a_token_is_predicted_by_the_first_frame_that_has_seen_it(tiny_model, subsampling, causal, shift):
    model = tiny_model({"encoder.subsampling": subsampling, "encoder.causal_downsampling": causal})
    assert model.target_shift == model.loss.target_shift == shift
    token = 9
    last = 8 * token + 7
    assert seen_by(model, token + shift)[-1] >= last
    if shift:
        assert seen_by(model, token + shift - 1)[-1] < last


def test_the_shift_of_targets_can_be_set(tiny_model):
    assert tiny_model({"target_shift": 0}).loss.target_shift == 0
    assert tiny_model({"target_shift": 2}).loss.target_shift == 2
    assert tiny_model({"mask_position": "post_conv"}).loss.target_shift == 0
    with pytest.raises(ValueError, match="model.target_shift must be .*got -1"):
        tiny_model({"target_shift": -1})
    with pytest.raises(TypeError, match="model.target_shift must be .*got 'later'"):
        tiny_model({"target_shift": "later"})


@pytest.mark.slow
@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"encoder.subsampling_factor": 4, "quantizer.combine_time_steps": 8, "loss.combine_time_steps": 8}, "4.*8"),
        ({"quantizer.combine_time_steps": 4}, "quantizer.combine_time_steps must be 8, as encoder.subsampling_factor"),
        ({"loss.combine_time_steps": 4}, "loss.combine_time_steps must be 8.*got 4"),
        ({"masking.subsampling_factor": 4}, "masking.subsampling_factor must be 8.*got 4"),
        ({"quantizer.num_classes": 16}, "decoder.num_classes must be 16, as quantizer.num_classes is; got 32"),
        ({"decoder.num_classes": 16}, "decoder.num_classes must be 32.*got 16"),
        ({"quantizer.num_books": 2}, "model.num_books must be 2.*got 1"),
        ({"decoder.num_decoders": 2}, "decoder.num_decoders must be 1.*got 2"),
        ({"loss.num_decoders": 2}, "loss.num_decoders must be 1.*got 2"),
        ({"loss.squeeze_single": True}, "loss.squeeze_single must be False.*got True"),
        ({"quantizer.feat_in": 40}, "quantizer.feat_in must be 80, as preprocessor.features is; got 40"),
        ({"masking.feat_in": 40}, "masking.feat_in must be 80.*got 40"),
        ({"encoder.feat_in": 40}, "encoder.feat_in must be 80.*got 40"),
        ({"decoder.feat_in": 40}, "decoder.feat_in must be 32, as the width of the encoder's frames is; got 40"),
    ],
)
def test_parts_that_do_not_fit_one_another_are_refused_with_what_would_fit(
    tiny_model, overrides, message, mask_position
):
    with pytest.raises(ValueError, match=message):
        tiny_model({**overrides, "mask_position": mask_position})


def test_a_left_context_of_zero_is_fine_without_causal_masking(tiny_model):
    model = tiny_model({"encoder.att_context_size": [[0, 0], [8, 0]], "masking.causal": False})
    assert model.encoder.att_context_size == [0, 0]


def test_a_causal_model_is_in_sync_from_its_construction_on(tiny_model):
    before, after = tiny_model(), tiny_model({"mask_position": "post_conv"})
    assert before.mask_processor.left_context_size == 8 == before.encoder.att_context_size[0]
    assert before.mask_processor.subsampling_factor == 8
    assert after.mask_processor.left_context_size == 8
    assert after.mask_processor.subsampling_factor == 1
    assert tiny_model({"masking.subsampling_factor": 1}).mask_processor.subsampling_factor == 1
