"""Every helper finds the encoder behind every wrapper, nested wrappers included."""

import itertools

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder, ConformerMultiLayerFeatureExtractor
from nemo.collections.asr.parts.attention_context.unwrap import find_conformer, find_encoder_context, unwrap
from nemo.collections.asr.parts.utils.streaming_utils import (
    dynamic_context,
    release_dynamic_context,
    set_dynamic_context,
    sync_masking_context_with_attention,
)


class Parallel(nn.Module):
    """What DistributedDataParallel looks like from outside."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def extractor(encoder: nn.Module) -> nn.Module:
    return ConformerMultiLayerFeatureExtractor(encoder, layer_idx_list=[0])


COMPILED, CHECKPOINTED = torch.compile, checkpoint_wrapper
WRAPPERS = [COMPILED, CHECKPOINTED, Parallel]
NESTED = [(), *[(wrapper,) for wrapper in WRAPPERS], *itertools.permutations(WRAPPERS, 2)]


def wrapped(module: nn.Module, wrappers) -> nn.Module:
    for wrapper in wrappers:
        module = wrapper(module)
    return module


def model_of(encoder: nn.Module) -> nn.Module:
    model = nn.Module()
    model.encoder = encoder
    return model


@pytest.fixture
def conformer() -> ConformerEncoder:
    sizes = dict(feat_in=8, n_layers=2, d_model=16, n_heads=2, subsampling_factor=4, subsampling_conv_channels=4)
    return ConformerEncoder(**sizes, att_context_size=[[8, 0], [16, 0]])


@pytest.mark.parametrize("around_encoder", [*NESTED, (extractor,), (CHECKPOINTED, extractor), (extractor, COMPILED)])
@pytest.mark.parametrize("around_model", [(), (Parallel,), (COMPILED, Parallel), (Parallel, COMPILED)])
def test_every_helper_sees_through_every_wrapper(conformer, around_encoder, around_model):
    inner = model_of(wrapped(conformer, around_encoder))
    model = wrapped(inner, around_model)
    owner, encoder = find_conformer(model)
    assert owner is inner and encoder is conformer
    assert set_dynamic_context(model, [16, 0]) == [16, 0] == conformer.att_context_size
    with dynamic_context(model, "low"):
        assert conformer.att_context_size == [160, 0]
    assert sync_masking_context_with_attention(model, [8, 0]) is False
    assert conformer.att_context_size == [8, 0] and conformer.context.pinned
    release_dynamic_context(model)
    assert not conformer.context.pinned


def test_a_model_with_a_child_called_module_is_no_wrapper(conformer):
    model = model_of(conformer)
    model.module = nn.Linear(2, 2)
    assert unwrap(model) is model and find_conformer(model) == (model, conformer)


def test_what_is_no_conformer_has_no_context():
    assert find_encoder_context(nn.Linear(2, 2)) is None and find_encoder_context(None) is None
    with pytest.raises(TypeError, match="got a Linear whose encoder is NoneType"):
        find_conformer(nn.Linear(2, 2))
