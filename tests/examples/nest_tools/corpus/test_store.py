"""The folder of a corpus: what is in it, and what a second call does with it."""

import json
import shutil
import sys
import threading
from pathlib import Path

import pytest
import soundfile
from corpus_examples import TINY, contents_of, entries_of, speech_of
from filelock import FileLock
from nest_tools.corpus import make_corpus, open_corpus, store
from nest_tools.corpus.plan import SENTENCES, TRAIN_VARIANTS, VALIDATION_VARIANTS

pytest.importorskip("espeakng_loader", reason="the demo corpus is spoken by espeakng-loader, which is not installed")


def test_manifests_describe_16_khz_mono_16_bit_files_beside_them(corpus):
    for manifest in (corpus.train_manifest, corpus.validation_manifest, corpus.noise_manifest):
        entries = entries_of(manifest)
        assert entries
        for entry in entries:
            assert not Path(entry["audio_filepath"]).is_absolute()
            info = soundfile.info(manifest.parent / entry["audio_filepath"])
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert info.frames / 16000 == entry["duration"]


def test_utterances_have_the_asked_lengths_and_total(corpus):
    for split, minutes in (("train", 0.75), ("validation", 0.45)):
        durations = [entry["duration"] for entry in entries_of(getattr(corpus, f"{split}_manifest"))]
        assert all(6.0 <= duration <= 12.0 for duration in durations)
        assert len(durations) == getattr(corpus, f"{split}_utterances") == round(60 * minutes / 9)
        assert sum(durations) == pytest.approx(getattr(corpus, f"{split}_seconds"))
        assert sum(durations) == pytest.approx(60 * minutes, rel=0.15)


def test_each_entry_says_who_spoke_what_in_which_language(corpus):
    for path, entry in speech_of(corpus):
        accent, variant = entry["speaker"].split("+")
        variants = {"train": TRAIN_VARIANTS, "validation": VALIDATION_VARIANTS}
        assert variant in variants[path.parent.name][accent]
        assert accent.split("-")[0] == entry["lang"]
        rest = entry["text"]
        for sentence in SENTENCES[entry["lang"]]:
            rest = rest.replace(sentence, "")
        assert entry["text"] and not rest.strip()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tiny_folder, tmp_path):
    again = make_corpus(tmp_path / "again", **TINY)
    other = make_corpus(tmp_path / "other", **TINY, seed=1)
    assert contents_of(again.folder) == contents_of(tiny_folder)
    assert (other.folder / "train/00000.wav").read_bytes() != (tiny_folder / "train/00000.wav").read_bytes()
    assert (other.folder / "noise/white.wav").read_bytes() != (tiny_folder / "noise/white.wav").read_bytes()


def test_a_finished_corpus_is_returned_untouched_even_without_the_synthesizer(tiny, monkeypatch):
    first = make_corpus(tiny, **TINY)
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert make_corpus(str(tiny), **TINY) == first
    assert {path: path.stat().st_mtime_ns for path in tiny.rglob("*")} == before


def test_a_moved_corpus_is_still_finished(tiny, tmp_path, monkeypatch):
    moved = tiny.rename(tmp_path / "elsewhere")
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    corpus = make_corpus(moved, **TINY)
    assert corpus.train_manifest == moved / "train_manifest.json" and corpus.train_manifest.is_file()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: None,
        lambda folder: (folder / "train/00000.wav").unlink(),
        lambda folder: (folder / "train/00000.wav").write_bytes(b"RIFF"),
        lambda folder: (folder / "validation/00000.phones.json").unlink(),
        lambda folder: (folder / "train_manifest.json").unlink(),
        lambda folder: (folder / "corpus.json").unlink(),
        lambda folder: (folder / "corpus.json").write_text('{"format": 1'),
        lambda folder: (folder / "corpus.json").write_text("[]"),
    ],
    ids=["none", "no wav", "cut wav", "no phones", "no manifest", "no stamp", "cut stamp", "foreign stamp"],
)
def test_any_damage_is_noticed(damage, tiny, monkeypatch, request):
    monkeypatch.setattr(store, "_build", lambda *_: "made anew")
    damage(tiny)
    assert (make_corpus(tiny, **TINY) == "made anew") == (request.node.callspec.id != "none")


def test_a_damaged_corpus_is_made_anew(tiny, tiny_folder):
    (tiny / "corpus.json").unlink()
    (tiny / "train/00000.wav").unlink()
    (tiny / "train/00099.wav").write_text("left behind by an earlier build")
    (tiny / "noise_manifest.json").write_text("cut")
    make_corpus(tiny, **TINY)
    assert contents_of(tiny) == contents_of(tiny_folder)


def test_other_options_replace_the_corpus_and_leave_nothing_of_it(corpus, tmp_path, tiny_folder):
    folder = Path(shutil.copytree(corpus.folder, tmp_path / "corpus"))
    (folder / "train" / "notes.txt").write_text("of the user")
    make_corpus(folder, **TINY)
    contents = contents_of(folder)
    assert contents.pop("train/notes.txt") == b"of the user"
    assert contents == contents_of(tiny_folder)


def test_a_build_that_fails_leaves_no_stamp_and_the_next_one_completes(tiny_folder, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no noise today")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no noise today"):
        patch.setattr(store, "make_noise", fail)
        make_corpus(tmp_path / "corpus", **TINY)
    assert (tmp_path / "corpus/train/00000.wav").exists()
    assert not (tmp_path / "corpus/corpus.json").exists()
    make_corpus(tmp_path / "corpus", **TINY)
    assert contents_of(tmp_path / "corpus") == contents_of(tiny_folder)


def test_a_second_process_waits_for_the_first(tmp_path):
    folder, made = tmp_path / "corpus", []
    folder.mkdir()
    with FileLock(folder / store.LOCK):
        second = threading.Thread(target=lambda: made.append(make_corpus(folder, **TINY)))
        second.start()
        second.join(0.5)
        assert second.is_alive() and not (folder / "train").exists()
    second.join(60)
    assert made and made[0].train_manifest.is_file()


def test_a_file_is_refused_as_folder(tmp_path):
    (tmp_path / "corpus").write_text("a file")
    with pytest.raises(NotADirectoryError, match="out_dir must be a folder; got .*corpus, which is a file"):
        make_corpus(tmp_path / "corpus", **TINY)


@pytest.mark.parametrize("name", ["train/00000.wav", "noise_manifest.json"])
def test_files_of_others_are_neither_overwritten_nor_deleted(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"out_dir.*{name.split('/')[0]}"):
        make_corpus(tmp_path, **TINY)
    assert contents_of(tmp_path) == {name: b"mine"}


def test_a_missing_synthesizer_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match="pip install espeakng-loader"):
        make_corpus(tmp_path / "corpus", **TINY)
    assert not (tmp_path / "corpus").exists()


def test_a_corpus_is_opened_with_the_options_that_it_was_made_with(tiny, tiny_folder):
    assert open_corpus(tiny).train_manifest == tiny / "train_manifest.json"
    assert contents_of(tiny) == contents_of(tiny_folder)


def test_a_corpus_that_lacks_files_is_named_and_left_as_it_is(tmp_path):
    (tmp_path / "corpus.json").write_text(json.dumps({"options": {}, "sizes": {"train/00000.wav": 4}}))
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of its files: train/00000\.wav"):
        open_corpus(tmp_path)


def test_a_folder_without_a_corpus_is_named(tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({}))
    with pytest.raises(FileNotFoundError, match=r"--corpus must be a folder with a corpus; got .*, which holds none"):
        open_corpus(tmp_path)
