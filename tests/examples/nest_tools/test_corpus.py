"""The demo corpus: what is in it, and what a second call does with its folder."""

import json
import math
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from filelock import FileLock
from nest_tools.corpus import make_corpus, open_corpus, read_phones, speech, store
from nest_tools.corpus.noise import NOISES
from nest_tools.corpus.options import Options
from nest_tools.corpus.plan import SENTENCES, TRAIN_VARIANTS, VALIDATION_VARIANTS, UtterancePlan, plan_corpus

pytest.importorskip("espeakng_loader", reason="the demo corpus is spoken by espeakng-loader, which is not installed")

SMALL = {"minutes": 0.75, "validation_minutes": 0.45, "min_seconds": 6.0, "max_seconds": 12.0, "progress": False}
TINY = {"minutes": 0.1, "validation_minutes": 0.1, "min_seconds": 5.0, "max_seconds": 7.0, "progress": False}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus") / "small", **SMALL)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory) -> Path:
    """A finished corpus to be copied by tests that damage it."""
    return make_corpus(tmp_path_factory.mktemp("tiny") / "corpus", **TINY).folder


@pytest.fixture
def tiny(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "corpus"))


def entries_of(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def speech_of(corpus) -> list[tuple[Path, dict]]:
    entries = entries_of(corpus.train_manifest) + entries_of(corpus.validation_manifest)
    return [(corpus.folder / entry["audio_filepath"], entry) for entry in entries]


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def centroid(audio: np.ndarray) -> float:
    """The mean frequency of the power spectrum, Hz."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    return float(np.sum(power * np.fft.rfftfreq(len(audio), 1 / 16000)) / np.sum(power))


# ---- What is in it ----


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


def test_lengths_are_spread_over_the_whole_range():
    train, _ = plan_corpus(Options(10, 2, 0, 12, 24))
    seconds = np.sort([utterance.samples / 16000 for utterance in train])
    assert len(seconds) == 33
    assert seconds[0] < 12.5 and seconds[-1] > 23.5 and np.diff(seconds).max() < 1.0
    assert seconds.sum() == pytest.approx(600, rel=0.02)


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


def test_validation_voices_are_unseen_in_training():
    train, validation = (
        [variant for variants in table.values() for variant in variants]
        for table in (TRAIN_VARIANTS, VALIDATION_VARIANTS)
    )
    assert len(set(train + validation)) == len(train) + len(validation)
    plans = plan_corpus(Options(10, 2, 0, 12, 24))
    train_heard, validation_heard = ({utterance.voice.split("+")[1] for utterance in plan} for plan in plans)
    assert train_heard == set(train)
    assert validation_heard == set(validation)


def test_most_of_the_training_speech_is_english():
    train, _ = plan_corpus(Options(10, 2, 0, 12, 24))
    english = [utterance for utterance in train if utterance.voice.startswith("en")]
    assert 0.6 < len(english) / len(train) < 0.9


def test_speech_is_neither_silent_nor_clipped_and_pauses_are_not_digital_zero(corpus):
    for path, _ in speech_of(corpus):
        audio, _ = soundfile.read(path)
        assert 0.04 < np.sqrt(np.mean(audio**2)) < 0.1
        assert 0.2 < np.abs(audio).max() < 1.0
        head = audio[:1600]  # the pause before the first sentence
        assert 0.00008 < np.sqrt(np.mean(head**2)) < 0.00012


def test_noises_are_of_every_kind_and_5_to_20_s_long(corpus):
    entries = entries_of(corpus.noise_manifest)
    assert [Path(entry["audio_filepath"]).stem for entry in entries] == list(NOISES)
    assert sum(entry["duration"] for entry in entries) == pytest.approx(corpus.noise_seconds)
    centroids = {}
    for entry in entries:
        audio, _ = soundfile.read(corpus.folder / entry["audio_filepath"])
        assert 5 <= entry["duration"] <= 20
        assert 0.03 < np.sqrt(np.mean(audio**2)) < 0.08 and np.abs(audio).max() < 1.0
        centroids[Path(entry["audio_filepath"]).stem] = centroid(audio)
    assert centroids["white"] == pytest.approx(4000, rel=0.05)
    assert centroids["white"] > centroids["pink"] > centroids["brown"]
    assert centroids["hum_50hz"] < 500 < centroids["babble_3"] < 3000


# ---- Phones ----


def test_phones_follow_one_another_from_the_first_sample_to_the_last(corpus):
    for path, entry in speech_of(corpus):
        phones = read_phones(path)
        assert phones[0].start == 0 and phones[-1].end == pytest.approx(entry["duration"], abs=1e-4)
        for phone, following in zip(phones, phones[1:], strict=False):
            assert phone.start < phone.end == following.start
            assert not phone.label == following.label == "_"
        sounding = [phone for phone in phones if phone.label != "_"]
        assert {phone.stress for phone in sounding} >= {0, 2}
        assert not any(phone.label.startswith(("'", ",", "_")) for phone in sounding)
        letters = sum(character.isalpha() for character in entry["text"])
        assert 0.6 < len(sounding) / letters < 1.1


def test_phones_sound_where_their_times_say(corpus):
    """Sibilants hiss, back vowels are dark, closures and pauses are quiet: so for 9 of 10, and not 0.1 s off."""

    def share(delay: float) -> float:
        hits = []
        for path, _ in speech_of(corpus):
            audio, _ = soundfile.read(path)
            for phone in read_phones(path):
                piece = audio[round((phone.start + delay) * 16000) : round((phone.end + delay) * 16000)]
                if len(piece) < 320:
                    continue
                if phone.label == "_":
                    hits.append(np.sqrt(np.mean(piece**2)) < 0.005)
                elif phone.label in ("s", "S", "tS"):
                    hits.append(centroid(piece) > 2000)
                elif phone.label in ("oU", "o", "O:", "0", "aa", "a", "A:", "A@", "O@", "V"):
                    hits.append(centroid(piece) < 1500 and np.sqrt(np.mean(piece**2)) > 0.02)
        assert len(hits) > 100
        return float(np.mean(hits))

    assert share(0.0) > 0.9
    assert share(0.1) < 0.7


# ---- The same again ----


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tiny_folder, tmp_path):
    again = make_corpus(tmp_path / "again", **TINY)
    other = make_corpus(tmp_path / "other", **TINY, seed=1)
    assert contents_of(again.folder) == contents_of(tiny_folder)
    assert (other.folder / "train/00000.wav").read_bytes() != (tiny_folder / "train/00000.wav").read_bytes()
    assert (other.folder / "noise/white.wav").read_bytes() != (tiny_folder / "noise/white.wav").read_bytes()


def test_an_utterance_does_not_depend_on_those_spoken_before_it(corpus):
    options = {name: value for name, value in SMALL.items() if name != "progress"}
    train, _ = plan_corpus(Options(seed=0, **options))
    for index in (len(train) - 1, 1):
        audio, text, phones = speech.render(train[index])
        path = corpus.folder / f"train/{index:05d}.wav"
        assert np.array_equal(audio, soundfile.read(path, dtype="int16")[0])
        assert text == entries_of(corpus.train_manifest)[index]["text"]
        assert phones == read_phones(path)


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


# ---- Errors ----


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("minutes", 0, ValueError),
        ("minutes", -1.0, ValueError),
        ("minutes", math.nan, ValueError),
        ("minutes", math.inf, ValueError),
        ("minutes", "10", TypeError),
        ("minutes", True, TypeError),
        ("validation_minutes", 0, ValueError),
        ("min_seconds", 1.0, ValueError),
        ("min_seconds", 30.0, ValueError),
        ("max_seconds", 11.0, ValueError),
        ("seed", -1, ValueError),
        ("seed", 0.5, TypeError),
        ("seed", False, TypeError),
    ],
)
def test_bad_options_are_refused_by_name_and_nothing_is_written(option, value, error, tmp_path):
    with pytest.raises(error, match=f"{option}.*{value}"):
        make_corpus(tmp_path / "corpus", **{option: value})
    assert not (tmp_path / "corpus").exists()


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


def utterance_by(voice: str):
    return UtterancePlan("train", "00000", voice, 160, 50, 6 * 16000, SENTENCES["en"], (0,))


def test_an_unknown_variant_is_an_error_and_not_the_default_voice():
    with pytest.raises(RuntimeError, match="no voice variant 'nobody'"):
        speech.render(utterance_by("en-us+nobody"))


def test_a_failure_in_the_library_is_reported_with_its_reason():
    with pytest.raises(RuntimeError, match="has no voice 'xx\\+m1'"):
        speech.render(utterance_by("xx+m1"))


@pytest.mark.parametrize(
    ("seconds", "level", "phones"), [(3.0, 0, 40), (0.2, 3000, 40), (30.0, 3000, 40), (3.0, 3000, 0), (0, 0, 0)]
)
def test_silence_and_unlikely_lengths_are_errors(seconds, level, phones, monkeypatch):
    samples = np.full(round(seconds * 22050), level, dtype="<i2")
    sentence = {"samples": len(samples), "phones": [[index, "a"] for index in range(phones)]}
    reply = json.dumps({"sample_rate": 22050, "sentences": [sentence]}).encode() + b"\n" + samples.tobytes()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, reply, b""))
    with pytest.raises(RuntimeError, match="did not say 'Seven white geese"):
        speech.render(utterance_by("en-us+m1"))


# ---- Opening one ----


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
