"""A folder of the shape of festvox-ru becomes manifests and phones with a split that never changes."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from nest_tools.aligned_corpus import AlignedUtterance, festvox, from_manifest, words_of, write_aligned_corpus
from nest_tools.corpus import read_phones
from nest_tools.utterances import read_manifest

SENTENCES = 24


@pytest.fixture
def voice(tmp_path) -> Path:
    """A voice of 24 sentences of one second, as its Debian package unpacks it."""
    folder = tmp_path / "package/usr/share/festival/voices/russian/a_voice"
    for part in ("etc", "wav", "lab"):
        (folder / part).mkdir(parents=True)
    lines = []
    for number in range(1, SENTENCES + 1):
        name = f"ru_{number:04d}"
        soundfile.write(folder / "wav" / f"{name}.wav", 0.1 * np.sin(np.arange(16000)), 16000)
        (folder / "lab" / f"{name}.lab").write_text("#\n0.2 125 pau\n0.6 125 a\n0.9 125 bb\n1.01 125 pau\n")
        lines.append(f'( {name} "Прядь, вол+ос - за ухо {number}." )')
    (folder / "etc/txt.done.data").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_the_split_is_fixed_and_every_sentence_is_in_it(voice, tmp_path):
    counts = write_aligned_corpus(festvox(tmp_path / "package"), tmp_path / "corpus")
    assert counts == {"train": (18, 18.0), "validation": (2, 2.0), "test": (4, 4.0)}
    names = {}
    for split in counts:
        utterances, skipped = read_manifest(tmp_path / "corpus" / f"{split}_manifest.json")
        assert not skipped and all(utterance.path.parent.name == split for utterance in utterances)
        names[split] = [utterance.name for utterance in utterances]
    assert names["validation"] == ["ru_0004", "ru_0016"]
    assert names["test"] == ["ru_0006", "ru_0012", "ru_0018", "ru_0024"]
    assert len({name for split in names.values() for name in split}) == SENTENCES


def test_audio_words_and_phones_are_those_of_the_voice(voice, tmp_path):
    write_aligned_corpus(festvox(voice), tmp_path / "corpus")
    first = json.loads((tmp_path / "corpus/train_manifest.json").read_text(encoding="utf-8").splitlines()[0])
    assert first == {"audio_filepath": "train/ru_0001.wav", "duration": 1.0, "text": "прядь волос за ухо 1"}
    copied = tmp_path / "corpus/train/ru_0001.wav"
    assert copied.read_bytes() == (voice / "wav/ru_0001.wav").read_bytes()
    phones = [tuple(phone)[:3] for phone in read_phones(copied)]
    assert phones == [("_", 0.0, 0.2), ("a", 0.2, 0.6), ("bb", 0.6, 0.9), ("_", 0.9, 1.0)]


def test_it_can_be_made_again_and_where_files_cannot_be_linked(voice, tmp_path, monkeypatch):
    write_aligned_corpus(festvox(voice), tmp_path / "corpus")
    before = (tmp_path / "corpus/test_manifest.json").read_text(encoding="utf-8")
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("another file system")))
    write_aligned_corpus(festvox(voice), tmp_path / "corpus")
    assert (tmp_path / "corpus/test_manifest.json").read_text(encoding="utf-8") == before
    assert (tmp_path / "corpus/test/ru_0006.wav").stat().st_nlink == 1


def test_a_manifest_with_alignments_becomes_such_a_corpus(voice, tmp_path):
    lines = [{"audio_filepath": str(voice / f"wav/ru_{n:04d}.wav"), "duration": 1.0, "text": f"a {n}"} for n in (1, 2)]
    manifest = tmp_path / "some.json"
    manifest.write_text("\n".join(map(json.dumps, lines)) + "\n")
    utterances = from_manifest(manifest, voice / "lab", "test")
    assert [(utterance.text, utterance.split) for utterance in utterances] == [("a 1", "test"), ("a 2", "test")]
    assert write_aligned_corpus(utterances, tmp_path / "corpus") == {"test": (2, 2.0)}
    (voice / "lab/ru_0002.lab").unlink()
    with pytest.raises(ValueError, match=r"for each utterance; got none for ru_0002 \(1 of 2\)"):
        from_manifest(manifest, voice / "lab", "test")
    with pytest.raises(FileNotFoundError, match="--alignments must be a folder; got .*nowhere"):
        from_manifest(manifest, tmp_path / "nowhere", "test")


def test_words_have_neither_punctuation_nor_marks_of_stress():
    assert words_of("Она завела, прядь вол+ос; - 'кто-то' ... - и пошла!") == "она завела прядь волос 'кто-то' и пошла"


def test_a_folder_that_is_no_voice_is_named(voice, tmp_path):
    with pytest.raises(ValueError, match="FOLDER must hold one voice, .*got .*lab, with 0 of them"):
        festvox(voice / "lab")
    with pytest.raises(ValueError, match="FOLDER must hold one voice, .*got .*nowhere"):
        festvox(tmp_path / "nowhere")
    (voice / "wav/ru_0003.wav").unlink()
    with pytest.raises(ValueError, match="must have its audio and its alignment; got none in .*ru_0003.wav"):
        festvox(voice)
    (voice / "etc/txt.done.data").write_text("ru_0001 no brackets\n")
    with pytest.raises(ValueError, match="line of txt.done.data must be .*got 'ru_0001 no brackets' in line 1"):
        festvox(voice)


def test_broken_audio_and_broken_alignments_are_named(voice, tmp_path):
    (voice / "lab/ru_0001.lab").write_text("#\n0.6 125 a\n0.4 125 b\n")
    with pytest.raises(ValueError, match="must follow one another; got 'b' .*ru_0001.lab"):
        write_aligned_corpus(festvox(voice), tmp_path / "corpus")
    (voice / "wav/ru_0001.wav").write_bytes(b"no")
    with pytest.raises(ValueError, match="audio must be a file that can be read; got .*ru_0001.wav"):
        write_aligned_corpus(festvox(voice), tmp_path / "corpus")
    assert not (tmp_path / "corpus/train_manifest.json").exists()
    twice = [AlignedUtterance(voice / "wav/ru_0002.wav", "", voice / "lab/ru_0002.lab", "train")] * 2
    with pytest.raises(ValueError, match="must have different names; got ru_0002.wav twice"):
        write_aligned_corpus(twice, tmp_path / "corpus")
