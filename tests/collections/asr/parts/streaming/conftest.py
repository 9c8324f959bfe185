"""Fixtures of the streaming tests: one thread, and two tiny models that no test changes."""

import pytest
import torch
from stream_cases import CHUNKED, TinyModel


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models and signals this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def regular() -> TinyModel:
    return TinyModel()


@pytest.fixture(scope="session")
def chunked() -> TinyModel:
    return TinyModel(**CHUNKED)
