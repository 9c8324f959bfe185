"""Manifests are UTF-8; errors name the file and the line."""

import json

import pytest

from nemo.collections.common.parts.preprocessing.manifest import item_iter, manifest_lines


def manifest_of(file, *lines: str) -> str:
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def entry(name: str, **fields) -> str:
    return json.dumps({"audio_filepath": name, "duration": 1.0, "text": "a", **fields})


def test_entries_are_numbered_over_all_manifests(tmp_path):
    first = manifest_of(tmp_path / "1.json", entry("a.wav"), "", entry("b.wav"))
    second = manifest_of(tmp_path / "2.json", "\ufeff" + entry("c.wav", text="\u00e4"))
    assert [(item["id"], item["audio_file"]) for item in item_iter([first, second])] == [
        (0, "a.wav"),
        (1, "b.wav"),
        (2, "c.wav"),
    ]
    (item,) = item_iter(second)
    assert item["text"] == "\u00e4"
    assert [item["name"] for item in item_iter(second, lambda line, file: {"name": file})] == [second]


@pytest.mark.parametrize("line", ["{", '{"duration": 1.0}', '{"audio_filepath": "a.wav"}', "3"])
def test_a_bad_line_is_named(tmp_path, line):
    manifest = manifest_of(tmp_path / "bad.json", entry("a.wav"), "", line)
    with pytest.raises(ValueError, match=r"bad\.json, line 3 must be an entry of a manifest; got "):
        list(item_iter(manifest))


def test_what_is_no_text_is_named(tmp_path):
    (tmp_path / "audio.wav").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="audio.wav must be UTF-8 text, a JSON object in each line"):
        list(manifest_lines(str(tmp_path / "audio.wav")))
