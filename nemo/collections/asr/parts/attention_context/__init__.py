"""Attention contexts: what an encoder sees around each frame, in training, evaluation and streams."""

from nemo.collections.asr.parts.attention_context.context import CONTEXT_PRESETS, AttentionContext
from nemo.collections.asr.parts.attention_context.metrics import ContextTotals
from nemo.collections.asr.parts.attention_context.sampling import ContextSampler

__all__ = ["CONTEXT_PRESETS", "AttentionContext", "ContextSampler", "ContextTotals"]
