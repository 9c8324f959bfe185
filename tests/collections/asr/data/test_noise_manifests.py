"""Manifests of noise are checked as a whole, at once."""

import json
import re

import pytest
from small_corpus import speech_like, write_audio, write_manifest

from nemo.collections.asr.data.noise_manifests import read_noise_manifests
from nemo.collections.asr.data.ssl_dataset import load_noise_manifest


def test_one_manifest_several_or_none(corpus):
    paths = [str(corpus["noise"]), str(corpus["more_noise"])]
    assert read_noise_manifests(None) == []
    assert len(read_noise_manifests(paths[0])) == 2
    assert read_noise_manifests(paths) == read_noise_manifests(",".join(paths)) == load_noise_manifest(paths)
    names = [entry["audio_filepath"].rsplit("/", 1)[1] for entry in read_noise_manifests(paths)]
    assert names == ["noise0.wav", "noise1.wav", "more_noise0.wav", "more_noise1.wav"]


def test_paths_are_relative_to_the_manifest_and_a_byte_order_mark_is_no_part_of_it(tmp_path):
    file = write_audio(tmp_path / "noises" / "a.wav", speech_like(0, 0.5))
    (tmp_path / "noise.json").write_bytes("\ufeff".encode() + json.dumps({"audio_filepath": "noises/a.wav"}).encode())
    assert read_noise_manifests(str(tmp_path / "noise.json"))[0]["audio_filepath"] == str(file)


@pytest.mark.parametrize(
    "line, error, message",
    [
        ("{'audio_filepath': 1}", ValueError, "line 4 must be a JSON object"),
        ("[1, 2]", ValueError, "line 4 must be a JSON object"),
        ('{"duration": 2.0}', ValueError, "audio_filepath in .*line 4 must be the path of a file; got None"),
        (
            '{"audio_filepath": "a.wav", "duration": -1}',
            ValueError,
            "duration in .*line 4 must be a number >= 0; got -1",
        ),
        ('{"audio_filepath": "a.wav", "offset": "0"}', TypeError, "offset in .*line 4 must be a number >= 0; got '0'"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, error, message):
    write_audio(tmp_path / "a.wav", speech_like(0, 0.5))
    manifest = tmp_path / "noise.json"
    manifest.write_text('{"audio_filepath": "a.wav"}\n\n{"audio_filepath": "a.wav"}\n' + line + "\n")
    with pytest.raises(
        error, match=f"{re.escape(str(manifest))}, {message}" if message.startswith("line") else message
    ):
        read_noise_manifests(str(manifest))


def test_what_is_no_manifest_is_named(tmp_path):
    audio = write_audio(tmp_path / "a.wav", speech_like(0, 0.5))
    with pytest.raises(ValueError, match="a.wav must be UTF-8 text, a JSON object in each line"):
        read_noise_manifests(str(audio))
    with pytest.raises(ValueError, match="noise_manifest must name manifests that have entries; got .*empty.json"):
        read_noise_manifests(str(write_manifest(tmp_path / "empty.json", [])))
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        read_noise_manifests(str(tmp_path / "nowhere.json"))


def test_missing_recordings_are_named_and_counted(tmp_path, corpus):
    entries = [{"audio_filepath": f"/no/such/noise{index}.wav"} for index in range(5)]
    manifest = write_manifest(tmp_path / "noise.json", entries)
    with pytest.raises(
        FileNotFoundError, match="5 of 7 do not: /no/such/noise0.wav, /no/such/noise1.wav, .*, \\.\\.\\."
    ):
        read_noise_manifests([str(corpus["noise"]), str(manifest)])
