"""NeMo's attention module with its own masks, and with ours."""

import torch
from attention_cases import CHANNELS, attention_module, nemo_mask, position_embeddings

from nemo.collections.asr.parts.submodules.attention_window import AttentionWindow
from nemo.collections.asr.parts.submodules.blockwise_attention import BlockwiseMask
from nemo.collections.asr.parts.submodules.multi_head_attention import _nemo_forward


def test_a_mask_tensor_gets_nemos_forward_bit_for_bit():
    module, x = attention_module(), torch.randn(2, 20, CHANNELS)
    mask = nemo_mask("regular", [4, 0], torch.tensor([20, 7]), 20)
    position = position_embeddings(20)
    assert torch.equal(module(x, x, x, mask, position), _nemo_forward(module, x, x, x, mask, position))
    assert torch.equal(module(x, x, x, None, position), _nemo_forward(module, x, x, x, None, position))


def test_a_cache_still_goes_through_nemos_forward():
    module, x, cache = attention_module(), torch.randn(1, 3, CHANNELS), torch.randn(1, 4, CHANNELS)
    module.cache_drop_size = 0
    position = position_embeddings(7)
    output, next_cache = module(x, x, x, None, position, cache=cache)
    assert output.shape == x.shape and next_cache.shape == cache.shape


def test_the_module_has_nemos_state_and_a_blockwise_mask_gives_its_shape():
    module, x = attention_module(), torch.randn(2, 20, CHANNELS)
    names = {name.split(".")[0] for name in module.state_dict()}
    assert names == {"linear_q", "linear_k", "linear_v", "linear_out", "linear_pos", "pos_bias_u", "pos_bias_v"}
    mask = BlockwiseMask(AttentionWindow(4, 1, 0), torch.tensor([20, 7]))
    assert module(x, x, x, mask, position_embeddings(20)).shape == x.shape
