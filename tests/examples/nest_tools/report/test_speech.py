"""The utterances of a report: all that can be read, or a reason why none can."""

import numpy as np
import pytest
from context_examples import SpeechEncoder, speech
from nest_tools.audio import UnusableAudio
from nest_tools.recipe import Recipe
from nest_tools.report.speech import Speech, check_length
from nest_tools.utterances import Utterance


@pytest.fixture(scope="module")
def plain() -> Recipe:
    return Recipe.of_model(SpeechEncoder())


def test_the_first_utterance_that_can_be_read_is_shown_and_all_are_counted(plain, tmp_path):
    files = [tmp_path / "missing.wav", speech(tmp_path / "one.wav", 1.0), speech(tmp_path / "two.wav", 2.0)]
    read = Speech.read(plain, [Utterance.of_file(file) for file in files])
    assert read.name == "one" and read.features.shape == (8, 100) and read.lengths == [100, 200]
    assert [skip.what for skip in read.skipped] == [str(files[0])]


def test_utterances_shorter_than_an_encoder_frame_are_left_out(plain, tmp_path):
    files = [speech(tmp_path / "short.wav", 0.05), speech(tmp_path / "long.wav", 0.5)]
    read = Speech.read(plain, [Utterance.of_file(file) for file in files])
    assert read.name == "long" and "at least an encoder frame of 0.080 s long; got 0.050 s" in read.skipped[0].reason
    check_length(plain, np.zeros(1280))
    with pytest.raises(UnusableAudio, match="at least an encoder frame"):
        check_length(plain, np.zeros(1100))


def test_where_none_can_be_read_the_first_reasons_are_named(plain, tmp_path):
    with pytest.raises(ValueError, match=r"no utterance can be used \(.*missing\.wav: the file does not exist\)"):
        Speech.read(plain, [Utterance.of_file(tmp_path / "missing.wav")])
    with pytest.raises(ValueError, match="none was given"):
        Speech.read(plain, [])
