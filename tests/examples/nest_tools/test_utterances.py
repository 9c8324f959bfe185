"""Utterances and manifests: what is read of a manifest, and names that do not clash."""

import json
from pathlib import Path

import pytest
from nest_tools.utterances import (
    Utterance,
    distinct_names,
    evenly_spread,
    read_manifest,
    read_utterances,
    with_distinct_names,
)


def write(manifest: Path, *entries: dict, encoding: str = "utf-8") -> Path:
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding=encoding)
    return manifest


def test_paths_are_relative_to_the_manifest_and_pieces_are_kept(tmp_path):
    manifest = write(
        tmp_path / "manifest.json",
        {"audio_filepath": "a/one.wav", "duration": 2.5, "text": ""},
        {"audio_filepath": "/elsewhere/two.flac", "offset": 1.5, "duration": None},
    )
    assert read_manifest(manifest) == (
        [
            Utterance("one", tmp_path / "a/one.wav", 0.0, 2.5),
            Utterance("two", Path("/elsewhere/two.flac"), 1.5, None),
        ],
        [],
    )


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        "[1, 2]",
        '{"text": "no file"}',
        '{"audio_filepath": 3}',
        '{"audio_filepath": "a.wav", "duration": "long"}',
        '{"audio_filepath": "a.wav", "duration": -1}',
        '{"audio_filepath": "a.wav", "offset": NaN}',
    ],
)
def test_a_line_that_is_no_entry_is_named_and_the_rest_is_read(line, tmp_path):
    manifest = tmp_path / "manifest.json"
    manifest.write_text(f'{{"audio_filepath": "a.wav"}}\n\n{line}\n{{"audio_filepath": "b.wav"}}\n')
    utterances, skipped = read_manifest(manifest)
    assert [utterance.name for utterance in utterances] == ["a", "b"]
    assert [str(skip) for skip in skipped] == [f"{manifest}:3: no manifest entry of an audio file: {line}"]


def test_a_byte_order_mark_does_not_matter(tmp_path):
    manifest = write(tmp_path / "manifest.json", {"audio_filepath": "a.wav"}, encoding="utf-8-sig")
    assert len(read_manifest(manifest)[0]) == 1


def test_what_is_no_manifest_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a manifest must be .*nothing\.json, which does not exist"):
        read_manifest(tmp_path / "nothing.json")
    (tmp_path / "audio.wav").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"a manifest must be a file of JSON lines in UTF-8; got .*audio\.wav"):
        read_manifest(tmp_path / "audio.wav")


def test_files_and_manifests_together_have_distinct_names(tmp_path):
    manifest = write(tmp_path / "manifest.json", {"audio_filepath": "b/one.wav"}, {"audio_filepath": "c/two.wav"})
    utterances, skipped = read_utterances(["a/one.wav", "a/one-1.wav"], [manifest])
    assert [utterance.name for utterance in utterances] == ["one", "one-1", "one-2", "two"]
    assert not skipped and utterances[2].path == tmp_path / "b/one.wav"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a-1", "a-2"]),
        (["a", "a", "a-1"], ["a", "a-2", "a-1"]),
        (["a-1", "a", "a", "a-1"], ["a-1", "a", "a-2", "a-1-1"]),
    ],
)
def test_names_are_distinct_and_those_given_once_stay(names, expected):
    assert distinct_names(names) == expected
    utterances = with_distinct_names([Utterance(name, Path(name)) for name in names])
    assert [utterance.path for utterance in utterances] == [Path(name) for name in names]


def test_a_long_manifest_is_spread_evenly():
    assert evenly_spread(range(10), 4) == [0, 2, 5, 7]
    assert evenly_spread(range(3), 4) == [0, 1, 2]
