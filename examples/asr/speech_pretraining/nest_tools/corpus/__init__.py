"""A small corpus of synthetic speech, made on the spot from a seed.

Few sentences are spoken by many voices, so that a small model finds something to predict within minutes. Beside the
speech lie noises for denoising, and for each utterance the times of its phones, for probes::

    corpus = make_corpus("demo/corpus", minutes=10)
    corpus.train_manifest        # demo/corpus/train_manifest.json, in NeMo's format

The folder holds::

    train_manifest.json  validation_manifest.json  noise_manifest.json
    train/00000.wav      validation/00000.wav      noise/white.wav ...      16 kHz, mono, 16 bit
    train/00000.phones.json ...                    label, start and end of each phone
    corpus.json                                    the options, written last: the folder is complete

Paths in the manifests are relative, so the folder can be moved. Speech comes from eSpeak NG
(https://github.com/espeak-ng/espeak-ng), which the package `espeakng-loader` brings along with its voices.
Nothing here imports NeMo.
"""

from nest_tools.corpus.phones import Phone, read_phones
from nest_tools.corpus.store import Corpus, make_corpus, open_corpus

__all__ = ["Corpus", "Phone", "make_corpus", "open_corpus", "read_phones"]
