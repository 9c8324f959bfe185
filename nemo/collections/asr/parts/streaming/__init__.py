"""Streaming: the frames of the offline encoder, computed while the audio arrives."""

from nemo.collections.asr.parts.streaming.encoder_stream import EncoderStream
from nemo.collections.asr.parts.streaming.online_features import OnlineFeatures
from nemo.collections.asr.parts.streaming.stream_memory import StreamMemory

__all__ = ["EncoderStream", "OnlineFeatures", "StreamMemory"]
