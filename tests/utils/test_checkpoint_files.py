"""Faults of checkpoint files, by name."""

import tarfile

import pytest
import torch

from nemo.utils.checkpoint_files import check_checkpoint_file, fault_of_checkpoint


@pytest.fixture
def whole(tmp_path):
    torch.save({"state_dict": {"weight": torch.arange(1000.0)}}, tmp_path / "whole.ckpt")
    return tmp_path / "whole.ckpt"


def test_a_whole_file_has_no_fault_in_either_format_of_torch(whole, tmp_path):
    assert fault_of_checkpoint(whole) is None
    torch.save({"weight": torch.ones(2)}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert fault_of_checkpoint(tmp_path / "old.ckpt") is None
    check_checkpoint_file("ckpt_path", str(whole))


@pytest.mark.parametrize("left", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_was_cut_at_any_place_is_named(whole, left):
    text = whole.read_bytes()
    whole.write_bytes(text[: int(left * len(text))])
    fault = "the file is empty" if left == 0 else "the file is cut short"
    with pytest.raises(ValueError, match=f"^ckpt_path must be a complete checkpoint; got {whole}, but {fault}"):
        check_checkpoint_file("ckpt_path", whole)


def test_other_files_are_named_for_what_they_are(whole, tmp_path):
    with tarfile.open(tmp_path / "model.nemo", "w") as archive:
        archive.add(whole, "model_weights.ckpt")
    assert fault_of_checkpoint(tmp_path / "model.nemo") == "the file is a .nemo archive"
    (tmp_path / "notes.ckpt").write_text("to do: train")
    assert fault_of_checkpoint(tmp_path / "notes.ckpt") == "the file was not written by torch.save"
    with pytest.raises(ValueError, match="torch.save; give another$"):
        check_checkpoint_file("ckpt_path", tmp_path / "notes.ckpt", "give another")


def test_folders_and_missing_files_are_left_to_who_reads_them(tmp_path):
    assert fault_of_checkpoint(tmp_path) is None
    assert fault_of_checkpoint(tmp_path / "missing.ckpt") is None
