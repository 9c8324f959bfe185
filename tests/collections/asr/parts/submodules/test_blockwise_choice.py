"""When attention is computed in blocks."""

import pytest
import torch
from attention_cases import tiny_encoder

from nemo.collections.asr.parts.submodules.attention_window import AttentionWindow
from nemo.collections.asr.parts.submodules.blockwise_choice import (
    blockwise_mask,
    check_blockwise_attention,
    is_faster_in_blocks,
)


@pytest.mark.parametrize("setting", [None, 1, "yes", "true", [True]])
def test_a_setting_that_is_no_setting_is_refused_by_its_key(setting):
    with pytest.raises(ValueError, match=r"encoder\.blockwise_attention must be 'auto', true or false; got"):
        tiny_encoder(blockwise_attention=setting)


@pytest.mark.parametrize("model", ["abs_pos", "rel_pos_local_attn"])
def test_attention_that_has_no_blocks_refuses_true_and_takes_auto(model):
    with pytest.raises(ValueError, match=r"encoder\.blockwise_attention must be 'auto' or false under .*" + model):
        tiny_encoder(self_attention_model=model, att_context_size=[8, 8], blockwise_attention=True)
    assert check_blockwise_attention("auto", model) == "auto"
    encoder = tiny_encoder(self_attention_model=model, att_context_size=[8, 8], blockwise_attention="auto")
    assert blockwise_mask(encoder, [8, 8], torch.tensor([2000]), 2000) is None


def test_auto_takes_blocks_where_they_leave_enough_out():
    limited, causal, whole = AttentionWindow(80, 1, 0), AttentionWindow(-1, 1, 0), AttentionWindow(-1, 1, -1)
    assert not is_faster_in_blocks(limited, 13)
    assert is_faster_in_blocks(limited, 200) and is_faster_in_blocks(limited, 7500)
    assert is_faster_in_blocks(causal, 750)
    assert not any(is_faster_in_blocks(whole, frames) for frames in (13, 200, 750, 7500))
    assert not any(is_faster_in_blocks(AttentionWindow(-1, 1, 700), frames) for frames in (200, 750))


def test_false_means_nemos_masks_and_true_means_blocks():
    lengths = torch.tensor([500])
    assert blockwise_mask(tiny_encoder(blockwise_attention=False), [8, 0], lengths, 500) is None
    mask = blockwise_mask(tiny_encoder(), [8, 0], lengths, 5)
    assert mask.window == AttentionWindow(8, 1, 0)
    assert blockwise_mask(tiny_encoder(blockwise_attention="auto"), [8, 0], lengths, 500).lengths is lengths
    assert blockwise_mask(tiny_encoder(blockwise_attention="auto"), [8, 0], lengths, 5) is None


def test_attention_that_is_not_nemos_own_gets_a_tensor():
    encoder = tiny_encoder()

    class Other(type(encoder.layers[0].self_attn)):
        def forward(self, query, key, value, mask, pos_emb, cache=None):
            return query.masked_fill(mask.all(-1, keepdim=True), 0)

    encoder.layers[1].self_attn.__class__ = Other
    assert blockwise_mask(encoder, [8, 0], torch.tensor([500]), 500) is None
    encoder.eval()(audio_signal=torch.randn(1, 8, 200), length=torch.tensor([200]))
