"""Attention contexts: what an encoder sees around each frame, in training, evaluation and streams."""

from nemo.collections.asr.parts.attention_context.context import CONTEXT_PRESETS, AttentionContext
from nemo.collections.asr.parts.attention_context.encoder_context import EncoderContext
from nemo.collections.asr.parts.attention_context.metrics import ContextTotals
from nemo.collections.asr.parts.attention_context.sampling import ContextSampler
from nemo.collections.asr.parts.attention_context.unwrap import find_conformer

__all__ = [
    "CONTEXT_PRESETS",
    "AttentionContext",
    "ContextSampler",
    "ContextTotals",
    "EncoderContext",
    "find_conformer",
]
