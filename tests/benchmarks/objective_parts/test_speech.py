"""The speech of the evaluation, and its parts."""

import pytest
from objective_parts.speech import read_speech, up_to
from phone_corpus import SECONDS, write_phone_corpus


def test_a_corpus_with_a_test_part_is_taken_as_it_is(tmp_path):
    speech = read_speech(write_phone_corpus(tmp_path))
    assert [len(part) for part in (speech.train, speech.validation, speech.test)] == [6, 2, 2]
    assert speech.labels == ["a", "b"]


def test_without_one_the_last_of_the_training_part_becomes_validation(tmp_path, monkeypatch):
    monkeypatch.setattr("objective_parts.speech.VALIDATION_MINUTES", 2 * SECONDS / 60)
    speech = read_speech(write_phone_corpus(tmp_path, {"train": 6, "validation": 3}))
    assert [len(part) for part in (speech.train, speech.validation, speech.test)] == [4, 2, 3]
    whole = read_speech(write_phone_corpus(tmp_path / "whole")).train
    assert (speech.validation[0].audio == whole[5].audio).all()


def test_as_many_minutes_are_taken_as_are_asked_for(tmp_path):
    speech = read_speech(write_phone_corpus(tmp_path))
    assert len(up_to(speech.train, 1.5 * SECONDS / 60)) == 2
    assert len(up_to(speech.train, 60)) == 6


def test_an_utterance_without_phones_is_refused(tmp_path):
    (write_phone_corpus(tmp_path) / "train/0.phones.json").unlink()
    with pytest.raises(ValueError, match="--corpus must be whole; got .*its phones cannot be read"):
        read_speech(tmp_path)
