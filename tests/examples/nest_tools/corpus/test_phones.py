"""The phones of the corpus and their times."""

import numpy as np
import pytest
import soundfile
from corpus_examples import centroid, speech_of
from nest_tools.corpus import read_phones
from nest_tools.corpus.phones import Phone, timed_phones, with_silences, write_phones


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


def test_a_phone_ends_with_its_sound_and_a_silent_one_is_left_out():
    pcm = np.zeros(400, dtype=np.int16)
    pcm[0:100] = pcm[200:295] = 1000
    marks = [(0, "'a"), (150, "t"), (200, ",%s"), (300, "_:")]
    phones = timed_phones(pcm, marks, sample_rate=1000)
    # The closure of 50 ms after the first phone is not counted to it, the 5 ms after the last one are.
    assert phones == [Phone("a", 0.0, 0.1, 2), Phone("s", 0.2, 0.3, 1)]


def test_gaps_and_both_ends_are_filled_by_silences():
    filled = with_silences([Phone("a", 0.1, 0.2), Phone("b", 0.2, 0.30004), Phone("c", 0.4, 0.5)], 0.6)
    assert [(phone.label, phone.start, phone.end) for phone in filled] == [
        ("_", 0.0, 0.1),
        ("a", 0.1, 0.2),
        ("b", 0.2, 0.3),
        ("_", 0.3, 0.4),
        ("c", 0.4, 0.5),
        ("_", 0.5, 0.6),
    ]


def test_phones_that_are_written_beside_audio_are_read_again(tmp_path):
    phones = [Phone("a", 0.0, 0.5, 2), Phone("ɐ", 0.5, 1.0)]
    write_phones(tmp_path / "speech.wav", phones)
    assert read_phones(tmp_path / "speech.wav") == phones
