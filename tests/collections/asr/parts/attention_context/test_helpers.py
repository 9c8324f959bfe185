"""The helpers that change a model's context, on models with and without masking."""

import copy
import pickle

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from nemo.collections.asr.models import EncDecCTCModel
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.utils.streaming_utils import (
    dynamic_context,
    release_dynamic_context,
    set_dynamic_context,
    sync_masking_context_with_attention,
)


class Model(nn.Module):
    """The least that the helpers work on."""

    def __init__(self, **encoder):
        super().__init__()
        sizes = dict(feat_in=8, n_layers=2, d_model=16, n_heads=2, subsampling="dw_striding", subsampling_factor=8)
        sizes |= dict(subsampling_conv_channels=4, causal_downsampling=True, conv_context_size="causal")
        sizes |= dict(conv_norm_type="layer_norm", att_context_size=[[8, 0], [16, 0], [-1, 0]])
        self.encoder = ConformerEncoder(**{**sizes, **encoder})


def state(model) -> tuple:
    """Everything about a model that a context decides."""
    encoder = model.encoder
    drops = [module.cache_drop_size for module in encoder.layers.modules() if hasattr(module, "_max_cache_len")]
    processor = getattr(model, "mask_processor", None)
    masking = (processor.left_context_size, model.encoder.context.masking_follows) if processor is not None else None
    return list(encoder.att_context_size), encoder.context.pinned, vars(encoder.streaming_cfg).copy(), drops, masking


def attended(model, frames: int = 40) -> torch.Tensor:
    """[frames, frames]: whether position i sees position j, in the model's present mode."""
    encoder = model.encoder
    _, hidden = encoder._create_masks(
        att_context_size=encoder.att_context_size,
        padding_length=torch.tensor([frames]),
        max_audio_length=frames,
        offset=None,
        device=torch.device("cpu"),
    )
    return ~hidden[0]


@pytest.fixture(scope="module")
def pretraining_model(tiny_model):
    return tiny_model()


@pytest.fixture
def nest(pretraining_model):
    return copy.deepcopy(pretraining_model)


def test_a_context_set_by_hand_is_synced(nest):
    nest.encoder.att_context_size = [160, 0]
    assert sync_masking_context_with_attention(nest) is True
    assert nest.mask_processor.left_context_size == 160


@pytest.mark.parametrize(
    ("context", "left"), [([80, 0], 80), ([160, 0], 160), ([320, 0], 320), ([-1, 0], -1), ("low", 160), ("high", 320)]
)
def test_masking_takes_the_left_context_of_attention(nest, context, left):
    assert set_dynamic_context(nest, context, sync_masking=True) == [left, 0]
    assert nest.encoder.att_context_size == [left, 0]
    assert nest.mask_processor.left_context_size == left


def test_streaming_parameters_follow_the_context(nest):
    set_dynamic_context(nest, [24, 0])
    assert nest.encoder.streaming_cfg.last_channel_cache_size == 24
    assert nest.encoder.get_initial_cache_state(batch_size=1)[0].shape[2] == 24


def test_without_syncing_masking_stays_and_the_forward_leaves_it(nest, audio):
    set_dynamic_context(nest, [16, 0])
    set_dynamic_context(nest, [8, 0], sync_masking=False)
    assert nest.mask_processor.left_context_size == 16
    taken = []
    nest.mask_processor.register_forward_pre_hook(
        lambda module, args, kwargs: taken.append(kwargs.get("effective_left_context")), with_kwargs=True
    )
    nest.eval().forward(*audio, apply_mask=True)
    assert taken == [None]
    release_dynamic_context(nest)
    nest.forward(*audio, apply_mask=True)
    assert taken == [None, 8] and nest.mask_processor.left_context_size == 8


def test_training_keeps_to_a_pinned_context_until_it_is_released(nest, audio):
    nest.train()
    set_dynamic_context(nest, [24, 0])
    used = set()
    for _ in range(6):
        nest.forward(*audio, apply_mask=True)
        used.add(tuple(nest.current_att_context))
    assert used == {(24, 0)}
    assert attended(nest)[30].nonzero().flatten().tolist() == list(range(6, 31))
    release_dynamic_context(nest)
    for _ in range(12):
        nest.forward(*audio, apply_mask=True)
        used.add(tuple(nest.current_att_context))
    assert used == {(24, 0), (8, 0), (16, 0), (-1, 0)}


def test_a_context_set_by_hand_after_a_pin_holds(nest, audio):
    set_dynamic_context(nest.train(), [24, 0])
    nest.encoder.att_context_size = [16, 0]
    nest.forward(*audio, apply_mask=True)
    assert nest.current_att_context == [16, 0]
    assert attended(nest)[30].sum() == 17


@pytest.mark.parametrize("training", [True, False])
def test_an_encoder_without_masking_is_pinned_too(training):
    model = Model().train(training)
    assert set_dynamic_context(model, [5, 0]) == [5, 0]
    assert sync_masking_context_with_attention(model) is False
    assert attended(model)[20].nonzero().flatten().tolist() == list(range(15, 21))


def test_a_ctc_model_follows(tiny_config):
    cfg = tiny_config({"context_presets": {"hall": [12, 0]}})
    model = EncDecCTCModel(
        OmegaConf.create(
            {
                "preprocessor": cfg.preprocessor,
                "encoder": cfg.encoder,
                "context_presets": cfg.context_presets,
                "decoder": {
                    "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
                    "feat_in": cfg.encoder.d_model,
                    "num_classes": 3,
                    "vocabulary": ["a", "b", "c"],
                },
            }
        )
    ).eval()
    assert set_dynamic_context(model, "hall") == [12, 0]
    assert sync_masking_context_with_attention(model) is False
    assert attended(model)[20].sum() == 13
    with dynamic_context(model, "low"):
        assert model.encoder.att_context_size == [160, 0]
    assert model.encoder.att_context_size == [12, 0]


def test_wrappers_are_seen_through(nest):
    wrapped = nn.Module()
    wrapped.module = nest
    assert set_dynamic_context(wrapped, [16, 0]) == [16, 0]
    assert nest.mask_processor.left_context_size == 16


def test_presets_of_the_models_config_are_known(tiny_model):
    model = tiny_model({"context_presets": {"meeting": [400, 0], "low": [40, 0]}})
    assert set_dynamic_context(model, "meeting") == [400, 0]
    assert set_dynamic_context(model, "low") == [40, 0]
    assert set_dynamic_context(model, "high") == [320, 0]


def test_a_block_puts_everything_back(nest):
    before = state(nest)
    with dynamic_context(nest, "low") as context:
        assert context == [160, 0] == nest.encoder.att_context_size
        inside = state(nest)
        with dynamic_context(nest, [-1, 0]):
            assert nest.mask_processor.left_context_size == -1
        assert state(nest) == inside
    assert state(nest) == before


def test_a_block_puts_everything_back_on_an_error(nest):
    set_dynamic_context(nest, [16, 0], sync_masking=False)
    before = state(nest)
    with pytest.raises(RuntimeError, match="on purpose"), dynamic_context(nest, "low"):
        raise RuntimeError("on purpose")
    assert state(nest) == before


@pytest.mark.parametrize(
    ("context", "error", "message"),
    [
        ("lwo", ValueError, "Did you mean 'low'"),
        ([160, 0.0], TypeError, "no whole number"),
        ([160], ValueError, r"\[160\]"),
        ([-3, 0], ValueError, r"\[-3, 0\]"),
        ([8, 1, 0], ValueError, "must be two numbers"),
        (None, TypeError, "context must be .*got None"),
        (160, TypeError, "context must be .*got 160"),
    ],
)
def test_a_refused_call_changes_nothing(nest, context, error, message):
    before = state(nest)
    with pytest.raises(error, match=message):
        set_dynamic_context(nest, context)
    with pytest.raises(error, match=message), dynamic_context(nest, context):
        pytest.fail("the block ran")
    assert state(nest) == before


def test_a_bad_context_set_by_hand_is_named(nest):
    nest.encoder.att_context_size = [16, 0, 2]
    with pytest.raises(ValueError, match="encoder.att_context_size"):
        sync_masking_context_with_attention(nest)


def test_chunks_must_divide_the_left_context():
    model = Model(att_context_style="chunked_limited", att_context_size=[[70, 13], [70, 6], [70, -1]])
    before = state(model)
    with pytest.raises(ValueError, match="multiple of right"):
        set_dynamic_context(model, [70, 5])
    assert state(model) == before
    assert set_dynamic_context(model, [71, -1]) == [71, -1]


def test_a_model_without_a_conformer_encoder_is_refused():
    model = nn.Module()
    model.encoder = nn.Linear(2, 2)
    for call in (lambda: set_dynamic_context(model, "low"), lambda: release_dynamic_context(model)):
        with pytest.raises(TypeError, match="ConformerEncoder; got a Module whose encoder is Linear"):
            call()
    with pytest.raises(TypeError, match="got a dict"):
        set_dynamic_context({}, "low")


def test_local_attention_follows_in_layers_and_position_table():
    torch.manual_seed(0)
    wide = Model(self_attention_model="rel_pos_local_attn", att_context_size=[12, 4]).eval()
    narrow = Model(self_attention_model="rel_pos_local_attn", att_context_size=[6, 2]).eval()
    narrow.load_state_dict(wide.state_dict())
    features, lengths = torch.randn(2, 8, 400), torch.tensor([400, 250])
    original, _ = wide.encoder(audio_signal=features, length=lengths)
    set_dynamic_context(wide, [6, 2])
    changed, _ = wide.encoder(audio_signal=features, length=lengths)
    expected, _ = narrow.encoder(audio_signal=features, length=lengths)
    torch.testing.assert_close(changed, expected)
    assert (changed - original).abs().max() > 1e-3
    with dynamic_context(wide, [12, 4]):
        torch.testing.assert_close(wide.encoder(audio_signal=features, length=lengths)[0], original)
    torch.testing.assert_close(wide.encoder(audio_signal=features, length=lengths)[0], expected)
    with pytest.raises(ValueError, match="local attention"):
        set_dynamic_context(wide, [-1, 0])


def test_an_untrained_context_is_one_warning(nest, warnings):
    for _ in range(3):
        set_dynamic_context(nest, [200, 0])
        set_dynamic_context(nest, [16, 0])
    assert [message for message in warnings if "[200, 0]" in message] == warnings
    assert len(warnings) == 1 and "[8, 0], [16, 0], [-1, 0]" in warnings[0]


def test_masking_that_is_not_causal_gets_the_number_and_one_warning(tiny_model, warnings):
    model = tiny_model({"masking.causal": False})
    warnings.clear()
    assert sync_masking_context_with_attention(model) is True
    set_dynamic_context(model, [16, 0])
    assert model.mask_processor.left_context_size == 16
    assert len([message for message in warnings if "masking.causal: false" in message]) == 1


def test_context_and_pin_survive_copy_and_pickle(nest):
    set_dynamic_context(nest, [24, 0])
    for twin in (copy.deepcopy(nest.encoder), pickle.loads(pickle.dumps(nest.encoder))):
        assert twin.att_context_size == [24, 0] and twin.context.pinned and twin.context.encoder is twin
