"""The door to contexts and streams: helpers that set a model's attention context, and the live stream."""

from nemo.collections.asr.parts.attention_context.helpers import (  # noqa: F401  this module's interface
    dynamic_context,
    release_dynamic_context,
    set_dynamic_context,
    sync_masking_context_with_attention,
)
from nemo.collections.asr.parts.streaming.encoder_stream import EncoderStream  # noqa: F401  this module's interface
from nemo.collections.asr.parts.streaming.offline import encode  # noqa: F401  this module's interface
