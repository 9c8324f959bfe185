"""Speaks one request with eSpeak NG, in a process that does nothing else.

The library keeps state that no call resets: the phase of its pitch flutter, its gain control, a random generator
seeded by the clock. It also changes the locale of its process. So it gets a process of its own, serves one request
and ends: what it says depends on the request alone, and a crash in it is an error message for the caller.

`nest_tools.corpus.speech.speak` starts this file with `python -I -S`, which takes about 50 ms because no site-packages
are looked at. For that reason it imports from the standard library alone.

Request, one JSON object on stdin::

    {"library": "/.../libespeak-ng.so", "data": "/.../espeak-ng-data", "voice": "en-us+f3",
     "rate": 160, "pitch": 50, "sentences": ["...", "..."], "seconds": 18.0}

`rate` is in words per minute, `pitch` runs from 0 to 99. Sentences are spoken until `seconds` are filled.

Reply on stdout, one line of JSON, then 16-bit mono samples of all the sentences spoken, one after another::

    {"sample_rate": 22050, "sentences": [{"samples": 61440, "phones": [[1581, "s"], [3122, "'E"], ...]}, ...]}

A phone is the sample of its sentence at which it starts and its label, stress mark included.
"""

import ctypes
import json
import os
import sys

# Of speak_lib.h. The synchronous mode hands over samples as the retrieval mode does, but on the calling thread.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_PHONEME_EVENTS = 0x0001
INITIALIZE_DONT_EXIT = 0x8000
EVENT_LIST_TERMINATED = 0
EVENT_PHONEME = 7
PARAMETER_RATE = 1
PARAMETER_PITCH = 3
POSITION_CHARACTER = 1
CHARS_UTF8 = 1

# Long enough to call back seldom; the library keeps 200 events per second of buffer and drops the rest.
BUFFER_MS = 200
RANDOM_SEED = 1


class EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", EventId),
    ]


SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


def load_library(path: str) -> ctypes.CDLL:
    """The library with every argument type declared: by default ctypes would cut pointers and sizes to an int."""
    library = ctypes.CDLL(path)
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_SetSynthCallback.argtypes = [SynthCallback]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.POINTER(ctypes.c_uint),
        ctypes.c_void_p,
    ]
    return library


class Synthesizer:
    """One voice at one rate and pitch. One per process: the library is one global object."""

    def __init__(self, library: str, data: str, voice: str, rate: int, pitch: int):
        self._library = load_library(library)
        # The library cuts paths at about 160 characters, so it is given a short one.
        os.chdir(data)
        self.sample_rate = self._library.espeak_Initialize(
            AUDIO_OUTPUT_SYNCHRONOUS, BUFFER_MS, b".", INITIALIZE_PHONEME_EVENTS | INITIALIZE_DONT_EXIT
        )
        if self.sample_rate <= 0:
            raise RuntimeError(f"eSpeak NG found no voice data in {data}")
        self._samples = bytearray()
        self._phones: list[tuple[int, str]] = []
        # ctypes does not keep the callback alive for the library.
        self._callback = SynthCallback(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)
        self._check(self._library.espeak_SetVoiceByName(voice.encode()), f"has no voice {voice!r}")
        self._check(self._library.espeak_SetParameter(PARAMETER_RATE, rate, 0), f"refuses the rate {rate}")
        self._check(self._library.espeak_SetParameter(PARAMETER_PITCH, pitch, 0), f"refuses the pitch {pitch}")
        self._check(self._library.espeak_ng_SetRandSeed(RANDOM_SEED), "refuses a random seed")

    def say(self, sentence: str) -> tuple[bytes, list[tuple[int, str]]]:
        """The 16-bit samples of a sentence, and for each phone its first sample and its label."""
        self._samples.clear()
        self._phones.clear()
        text = sentence.encode() + b"\0"
        status = self._library.espeak_Synth(text, len(text), 0, POSITION_CHARACTER, 0, CHARS_UTF8, None, None)
        self._check(status, f"could not say {sentence!r}")
        return bytes(self._samples), list(self._phones)

    def _collect(self, samples: "ctypes._Pointer", count: int, events: "ctypes._Pointer") -> int:
        if samples and count:
            self._samples += ctypes.string_at(samples, 2 * count)
        index = 0
        while events and events[index].type != EVENT_LIST_TERMINATED:
            event = events[index]
            if event.type == EVENT_PHONEME:
                self._phones.append((event.sample, event.id.string.decode(errors="replace")))
            index += 1
        return 0

    @staticmethod
    def _check(status: int, complaint: str) -> None:
        if status != 0:
            raise RuntimeError(f"eSpeak NG {complaint} (status {status})")


def main() -> None:
    request = json.load(sys.stdin)
    synthesizer = Synthesizer(*(request[key] for key in ("library", "data", "voice", "rate", "pitch")))
    wanted = 2 * int(request["seconds"] * synthesizer.sample_rate)
    audio, sentences = bytearray(), []
    for sentence in request["sentences"]:
        samples, phones = synthesizer.say(sentence)
        sentences.append({"samples": len(samples) // 2, "phones": phones})
        audio += samples
        if len(audio) >= wanted:
            break
    reply = {"sample_rate": synthesizer.sample_rate, "sentences": sentences}
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n" + audio)


if __name__ == "__main__":
    main()
