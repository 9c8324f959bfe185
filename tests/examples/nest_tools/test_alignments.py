"""Alignments of every format are read alike, and broken ones are named."""

import pytest
from nest_tools.alignments import phones_of, read_alignment
from nest_tools.corpus import Phone

EXPECTED = [("pau", 0.0, 0.25), ("a", 0.25, 0.5), ("b", 0.5, 1.25)]

FESTIVAL = "separator ;\nnfields 1\n#\n0.25 125 pau\n0.5 125 a\n1.25 125 b\n"
HTK = "0 2500000 pau\n2500000 5000000 a\n5000000 12500000 b\n"
AUDACITY = "0.0\t0.25\tpau\n0.25\t0.5\ta\n0.5\t1.25\tb\n"
LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.25
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.25
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.25
            text = "say ""ab"" [1] 2"
    item [2]:
        class = "TextTier"
        name = "events"
        xmin = 0
        xmax = 1.25
        points: size = 1
        points [1]:
            number = 0.5
            mark = "click"
    item [3]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1.25
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = "pau"
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = "a"
        intervals [3]:
            xmin = 0.5
            xmax = 1.25
            text = "b"
"""
SHORT = """"ooTextFile"
"TextGrid"
0
1.25
<exists>
1
"IntervalTier"
"phones"
0
1.25
3
0
0.25
"pau"
0.25
0.5
"a"
0.5
1.25
"b"
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    ("name", "text"),
    [("x.lab", FESTIVAL), ("x.lab", HTK), ("x.lab", AUDACITY), ("x.TextGrid", LONG), ("x.TextGrid", SHORT)],
    ids=["festival", "htk", "audacity", "long", "short"],
)
def test_every_format_gives_the_same(tmp_path, name, text, encoding):
    (tmp_path / name).write_text(text, encoding=encoding)
    assert [(p.label, p.start, pytest.approx(p.end)) for p in read_alignment(tmp_path / name)] == EXPECTED


def test_another_tier_can_be_asked_for(tmp_path):
    (tmp_path / "x.TextGrid").write_text(LONG)
    assert [p.label for p in read_alignment(tmp_path / "x.TextGrid", tier="words")] == ['say "ab" [1] 2']
    with pytest.raises(ValueError, match=r"must have the tier of intervals syllables; got \['words', 'events', 'pho"):
        read_alignment(tmp_path / "x.TextGrid", tier="syllables")


def test_silence_of_every_name_is_one_and_fills_every_gap(tmp_path):
    labels = [Phone("sil", 0.0, 0.1), Phone("pau", 0.1, 0.2), Phone("a", 0.2, 0.4), Phone("b", 0.5, 1.02)]
    phones = phones_of(labels, 1.0, tmp_path)
    assert [tuple(phone)[:3] for phone in phones] == [
        ("_", 0.0, 0.2),
        ("a", 0.2, 0.4),
        ("_", 0.4, 0.5),
        ("b", 0.5, 1.0),
    ]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([("a", 0.0, 0.5), ("b", 0.4, 0.8)], "must follow one another; got 'b' from 0.4 to 0.8 s after 0.5 s in here"),
        ([("a", 0.5, 0.4)], "must follow one another; got 'a' from 0.5 to 0.4"),
        ([("a", 0.0, 1.2)], "must end with its audio, at 1.000 s; got 'a' until 1.2 s in here"),
    ],
)
def test_labels_that_overlap_or_run_past_the_audio_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        phones_of([Phone(*label) for label in labels], 1.0, "here")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.lab", "#\n0.5 125 a\nb\n", "must be `end number label`; got 'b' in line 3 of"),
        ("x.lab", "0.0 a\n", "must be `start end label`; got '0.0 a' in line 1 of"),
        ("x.TextGrid", "hello", "must be one that Praat wrote; got .*x.TextGrid"),
        ("x.TextGrid", SHORT[:-30], "must be one that Praat wrote; got .*x.TextGrid"),
        ("x.txt", "", "an alignment must be a file .lab or .TextGrid; got .*x.txt"),
    ],
)
def test_broken_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_alignment(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.lab, which does not exist"):
        read_alignment(tmp_path / "none.lab")
