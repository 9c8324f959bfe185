"""The command that writes a file for NeMo without this project."""

import export_to_nemo
import pytest
import torch
from nest_tools.restoring import restore


def test_the_file_has_the_models_weights_and_no_new_key(tiny_model, tmp_path, capsys):
    model = tiny_model()
    model.save_to(str(tmp_path / "model.nemo"))
    out = tmp_path / "new" / "stock.nemo"
    assert export_to_nemo.main(["--model", str(tmp_path / "model.nemo"), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out and list(out.parent.iterdir()) == [out]
    exported = restore(out)
    assert "causal" not in exported.cfg.masking and "normalize" not in exported.cfg.quantizer
    weights = model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in exported.state_dict().items())


def test_a_failure_leaves_nothing_behind(tiny_model, tmp_path, monkeypatch):
    tiny_model().save_to(str(tmp_path / "model.nemo"))

    def fail(model, path):
        path.write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(export_to_nemo, "save_for_stock_nemo", fail)
    with pytest.raises(OSError, match="no space left"):
        export_to_nemo.main(["--model", str(tmp_path / "model.nemo"), "--out", str(tmp_path / "out/stock.nemo")])
    assert not list((tmp_path / "out").iterdir())


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="2"):
        export_to_nemo.main(["--model", "model.nemo", "--out", str(tmp_path / "stock.ckpt")])
