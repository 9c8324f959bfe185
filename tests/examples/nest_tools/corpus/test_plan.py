"""The plan of the corpus: who says what, decided before anything is spoken."""

import numpy as np
import pytest
from nest_tools.corpus.options import Options
from nest_tools.corpus.plan import SENTENCES, TRAIN_VARIANTS, VALIDATION_VARIANTS, language_of, plan_corpus


def test_lengths_are_spread_over_the_whole_range():
    train, _ = plan_corpus(Options(10, 2, 0, 12, 24))
    seconds = np.sort([utterance.samples / 16000 for utterance in train])
    assert len(seconds) == 33
    assert seconds[0] < 12.5 and seconds[-1] > 23.5 and np.diff(seconds).max() < 1.0
    assert seconds.sum() == pytest.approx(600, rel=0.02)


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


def test_a_plan_depends_on_its_seed_alone_and_the_plan_of_validation_not_on_the_minutes_of_training():
    options = Options(1, 1, 0, 12, 24)
    assert plan_corpus(options) == plan_corpus(Options(1, 1, 0, 12, 24))
    assert plan_corpus(options)[1] == plan_corpus(Options(3, 1, 0, 12, 24))[1]
    assert plan_corpus(options)[0] != plan_corpus(Options(1, 1, 1, 12, 24))[0]


@pytest.mark.parametrize(("voice", "language"), [("en-gb-x-rp+m2", "en"), ("en-029+aunty", "en"), ("de+paul", "de")])
def test_the_language_of_a_voice_has_sentences(voice, language):
    assert language_of(voice) == language and language in SENTENCES
