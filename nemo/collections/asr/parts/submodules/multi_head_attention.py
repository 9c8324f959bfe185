"""Relative-position attention that takes a `BlockwiseMask` in place of a mask `[B, S, S]`, and computes it in blocks.

The class is patched in place: layers, adapters and everything else that refers to it keep the class that they know.
"""

import functools
from typing import Any

import torch

from nemo.collections.asr.parts.submodules.blockwise_attention import BlockwiseMask, attend_in_blocks
from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionMultiHeadAttention

_nemo_forward = RelPositionMultiHeadAttention.forward


@functools.wraps(_nemo_forward)
def forward(
    self: RelPositionMultiHeadAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | BlockwiseMask | None,
    pos_emb: torch.Tensor,
    cache: torch.Tensor | None = None,
) -> Any:
    if isinstance(mask, BlockwiseMask):
        return attend_in_blocks(self, query, key, value, mask, pos_emb)
    return _nemo_forward(self, query, key, value, mask, pos_emb, cache=cache)


RelPositionMultiHeadAttention.forward = forward
