"""How much of the phones a linear classifier finds in the frames of a frozen encoder."""

from nest_tools.probe.labels import LabelledAudio, read_labelled
from nest_tools.probe.probe import probe, untrained
from nest_tools.probe.results import note, table

__all__ = ["LabelledAudio", "note", "probe", "read_labelled", "table", "untrained"]
