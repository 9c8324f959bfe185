"""Encoder frames of audio that arrives piece by piece."""

from nest_tools.live.sources import MICROPHONE, STDIN, check_microphone, open_source, source_names
from nest_tools.live.streamed import Streamed, stream_source, table

__all__ = [
    "MICROPHONE",
    "STDIN",
    "Streamed",
    "check_microphone",
    "open_source",
    "source_names",
    "stream_source",
    "table",
]
