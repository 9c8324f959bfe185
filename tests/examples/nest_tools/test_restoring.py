"""Restoring a model: what is no whole `.nemo` file is named as what it is."""

import gzip
import tarfile

import pytest
import torch
from nest_tools.restoring import restore


@pytest.fixture(scope="module")
def model_file(tiny_model, tmp_path_factory):
    file = tmp_path_factory.mktemp("model") / "model.nemo"
    tiny_model().save_to(str(file))
    return file


def test_a_model_is_restored(model_file):
    model = restore(model_file)
    assert type(model).__name__ == "EncDecDenoiseMaskedTokenPredModel"
    assert next(model.parameters()).device.type == "cpu"


def test_what_is_no_whole_model_is_named_as_what_it_is(model_file, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    (tmp_path / "notes.txt").write_text("this is no model\n" * 100)
    (tmp_path / "nothing.nemo").write_bytes(b"")
    (tmp_path / "cut.nemo").write_bytes(model_file.read_bytes()[:300])
    (tmp_path / "cut_later.nemo").write_bytes(model_file.read_bytes()[:-30000])
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(model_file.read_bytes())[:5000])
    with tarfile.open(tmp_path / "other.nemo", "w") as archive:
        archive.add(tmp_path / "notes.txt", "notes.txt")
    for name, message in {
        "last.ckpt": "a checkpoint of Lightning or torch; training writes a .nemo file beside its checkpoints",
        "notes.txt": "which is no archive",
        "nothing.nemo": "which is empty",
        "cut.nemo": "which is no archive",
        "cut_later.nemo": "truncated",
        "cut.tar.gz": "truncated",
        "other.nemo": "an archive without model_config.yaml",
        ".": "which is a folder",
    }.items():
        with pytest.raises(ValueError, match=rf"--model must be a \.nemo file; got .*{message}"):
            restore(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"missing\.nemo, which does not exist"):
        restore(tmp_path / "missing.nemo")
