"""The speech of the corpus: an utterance as it was planned, or an error that says why not."""

import json
import subprocess

import numpy as np
import pytest
import soundfile
from corpus_examples import SMALL, entries_of, speech_of
from nest_tools.corpus import read_phones, speech
from nest_tools.corpus.options import Options
from nest_tools.corpus.plan import SENTENCES, UtterancePlan, plan_corpus

pytest.importorskip("espeakng_loader", reason="the demo corpus is spoken by espeakng-loader, which is not installed")


def test_speech_is_neither_silent_nor_clipped_and_pauses_are_not_digital_zero(corpus):
    for path, _ in speech_of(corpus):
        audio, _ = soundfile.read(path)
        assert 0.04 < np.sqrt(np.mean(audio**2)) < 0.1
        assert 0.2 < np.abs(audio).max() < 1.0
        head = audio[:1600]  # the pause before the first sentence
        assert 0.00008 < np.sqrt(np.mean(head**2)) < 0.00012


def test_an_utterance_does_not_depend_on_those_spoken_before_it(corpus):
    options = {name: value for name, value in SMALL.items() if name != "progress"}
    train, _ = plan_corpus(Options(seed=0, **options))
    for index in (len(train) - 1, 1):
        audio, text, phones = speech.render(train[index])
        path = corpus.folder / f"train/{index:05d}.wav"
        assert np.array_equal(audio, soundfile.read(path, dtype="int16")[0])
        assert text == entries_of(corpus.train_manifest)[index]["text"]
        assert phones == read_phones(path)


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
