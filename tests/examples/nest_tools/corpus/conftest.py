"""Two small corpora, spoken once for all tests of the corpus."""

import shutil
from pathlib import Path

import pytest
from corpus_examples import SMALL, TINY
from nest_tools.corpus import Corpus, make_corpus

WITHOUT_ESPEAK = "the demo corpus is spoken by espeakng-loader, which is not installed"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    """A minute of speech, to be looked at."""
    pytest.importorskip("espeakng_loader", reason=WITHOUT_ESPEAK)
    return make_corpus(tmp_path_factory.mktemp("corpus") / "small", **SMALL)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A finished corpus to be copied by tests that damage it."""
    pytest.importorskip("espeakng_loader", reason=WITHOUT_ESPEAK)
    return make_corpus(tmp_path_factory.mktemp("tiny") / "corpus", **TINY).folder


@pytest.fixture
def tiny(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_folder`."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "corpus"))
