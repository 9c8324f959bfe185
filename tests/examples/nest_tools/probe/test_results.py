"""The results of the probe in words."""

from labelled_speech import PHONES, speech
from nest_tools.probe import note, table


def test_a_table_has_percentages_and_a_dash_where_there_is_none():
    rows = [
        {"frames": "[8, 0]", "offline": 0.5, "online": 0.25, "last_layer": 0.125},
        {"frames": "log-mels", "offline": 0.4, "online": None, "last_layer": None},
    ]
    lines = table(rows).splitlines()
    assert lines[-2:] == ["| [8, 0] | 50.0 % | 25.0 % | 12.5 % |", "| log-mels | 40.0 % | - | - |"]


def test_a_note_says_what_was_measured_on_and_names_each_reason_once():
    rows = [{"not_streamed": "no look-ahead"}, {"not_streamed": "no look-ahead"}, {}]
    train, test = [speech(120.0, PHONES)], [speech(30.0, PHONES)]
    text = note(rows, train, test, rate=16000)
    assert "of 2 phones: fitted on 2 minutes" in text and "tested on 0.5 minutes" in text
    assert text.count("Not streamed: no look-ahead.") == 1
