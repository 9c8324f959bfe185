"""Lists of utterances."""

import json
import pickle
from pathlib import Path

from nemo.collections.common.parts.preprocessing import collections, parsers
from nemo.utils import logging


def manifest_of(folder: Path, durations: list[float | None]) -> str:
    """A manifest of utterances that have these durations."""
    entries = [{"audio_filepath": "a.wav", "duration": duration, "text": "a"} for duration in durations]
    (folder / "a.json").write_text("\n".join(map(json.dumps, entries)))
    return str(folder / "a.json")


def test_lists_of_utterances_can_be_pickled(tmp_path):
    manifest = manifest_of(tmp_path, [1.0, 2.0])
    utterances = collections.ASRAudioText(manifest, parser=parsers.make_parser(name="en"))
    again = pickle.loads(pickle.dumps(utterances.data))
    assert again == utterances.data and type(again[0]) is collections.AudioText.OUTPUT_TYPE
    kinds = {
        kind.__dict__["OUTPUT_TYPE"]
        for kind in vars(collections).values()
        if isinstance(kind, type) and kind.__dict__.get("OUTPUT_TYPE") is not None
    }
    assert len(kinds) > 5 and all(pickle.loads(pickle.dumps(kind)) is kind for kind in kinds)


def test_the_log_says_how_many_are_too_short_or_too_long(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(logging, "info", lambda message, *values: said.append(message % values if values else message))
    manifest, parser = manifest_of(tmp_path, [0.5, 1.0, 2.0, None, 9.0, 9.5]), parsers.make_parser(name="en")
    assert len(collections.ASRAudioText(manifest, parser=parser, min_duration=1.0, max_duration=5.0)) == 3
    (line,) = [line for line in said if "utterances are used" in line]
    assert line == (
        "3 of 6 utterances are used; 1 are shorter than min_duration = 1.0 s, 2 are longer than max_duration = 5.0 s."
    )
    said.clear()
    assert len(collections.ASRAudioText(manifest, parser=parser)) == 6
    assert not [line for line in said if "utterances are used" in line]
