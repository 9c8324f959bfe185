"""Every way that NeMo has to load a checkpoint works on the files that a run of ours leaves behind."""

import re
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from omegaconf import OmegaConf, open_dict
from torch import nn

from nemo.collections.asr.models import EncDecCTCModel, EncDecDenoiseMaskedTokenPredModel

pytestmark = pytest.mark.slow

EVERY_SECOND_STEP = ("trainer.val_check_interval=2", "exp_manager.checkpoint_callback_params.save_top_k=2")
WITH_AVERAGES = (*EVERY_SECOND_STEP, "+exp_manager.ema.enable=true", "+exp_manager.ema.decay=0.5")


@pytest.fixture(scope="module")
def trained(pretrain, tmp_path_factory) -> Path:
    """The folder of a run of four steps, with moving averages of the weights."""
    folder = tmp_path_factory.mktemp("trained")
    run = pretrain(folder, "trainer.max_steps=4", *WITH_AVERAGES)
    assert run.exit_code == 0, run.printed[-3000:]
    return folder


def checkpoint(folder: Path, name: str) -> Path:
    (file,) = folder.rglob(f"*-step_4{name}.ckpt")
    return file


def averaged(folder: Path) -> Path:
    """The mean of a run's best checkpoints, as NeMo's script makes it (scripts/checkpoint_averaging)."""
    files = [file for file in folder.rglob("*.ckpt") if re.search(r"step_\d+$", file.stem)]
    states = [torch.load(file, map_location="cpu")["state_dict"] for file in files]
    assert len(states) == 2 and not same(*states)
    mean = {name: sum(state[name] for state in states) / 2 for name in states[0]}
    torch.save({"state_dict": mean}, folder / "averaged.ckpt")
    return folder / "averaged.ckpt"


def weights_alone(folder: Path) -> Path:
    """A checkpoint as Lightning saves it under `save_weights_only`."""
    model = EncDecDenoiseMaskedTokenPredModel.load_from_checkpoint(str(checkpoint(folder, "")))
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "weights.ckpt", weights_only=True)
    assert "optimizer_states" not in torch.load(folder / "weights.ckpt")
    return folder / "weights.ckpt"


FILES: dict[str, Callable[[Path], Path]] = {
    "best": lambda folder: checkpoint(folder, ""),
    "last": lambda folder: checkpoint(folder, "-last"),
    "moving average": lambda folder: checkpoint(folder, "-EMA"),
    "averaged": averaged,
    "weights alone": weights_alone,
}


def weights_in(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, map_location="cpu", weights_only=False)["state_dict"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def fresh(trained) -> nn.Module:
    """A model of the run's config with other weights."""
    file = checkpoint(trained, "")
    config = torch.load(file)["hyper_parameters"].cfg
    with open_dict(config):
        config.train_ds = config.validation_ds = None
    torch.manual_seed(7)
    model = EncDecDenoiseMaskedTokenPredModel(config)
    assert not same(model.state_dict(), weights_in(file))
    return model


def start(model: nn.Module, option: str) -> None:
    """Starts `model` from what an option of the command line names."""
    model.maybe_init_from_pretrained_checkpoint(OmegaConf.from_dotlist([option]))


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
@pytest.mark.parametrize("key", ["init_from_ptl_ckpt", "init_from_ptl_ckpt.path", "init_from_ptl_ckpt.nest.path"])
def test_a_model_starts_from_a_checkpoint(trained, fresh, make, key):
    file = make(trained)
    start(fresh, f"{key}={file}")
    assert same(fresh.state_dict(), weights_in(file))


def test_a_part_of_a_checkpoint_is_taken_by_name(trained, fresh):
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    file = checkpoint(trained, "")
    entry = {"path": str(file), "include": ["encoder"], "exclude": ["norm"]}
    fresh.maybe_init_from_pretrained_checkpoint(OmegaConf.create({"init_from_ptl_ckpt": entry}))
    taken = weights_in(file)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, (taken if "encoder" in name and "norm" not in name else before)[name]), name


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind != "averaged"])  # it has no config
def test_load_from_checkpoint_gives_the_weights_of_the_file(trained, kind):
    file = FILES[kind](trained)
    model = EncDecDenoiseMaskedTokenPredModel.load_from_checkpoint(str(file))
    assert same(model.state_dict(), weights_in(file))


@pytest.mark.parametrize("key", ["init_from_nemo_model", "init_from_nemo_model.path", "init_from_nemo_model.a.path"])
def test_a_model_starts_from_a_nemo_file(trained, fresh, key):
    (file,) = trained.rglob("*.nemo")
    start(fresh, f"{key}={file}")
    assert same(fresh.state_dict(), EncDecDenoiseMaskedTokenPredModel.restore_from(str(file)).state_dict())


@pytest.mark.parametrize("key", ["init_from_pretrained_model", "init_from_pretrained_model.name"])
def test_a_model_starts_from_a_published_one_by_its_name(trained, fresh, monkeypatch, key):
    (file,) = trained.rglob("*.nemo")

    def find(model_name: str, refresh_cache: bool = False) -> tuple[type, str]:
        assert model_name == "nest_of_four_steps"
        return EncDecDenoiseMaskedTokenPredModel, str(file)

    monkeypatch.setattr(EncDecDenoiseMaskedTokenPredModel, "_get_ngc_pretrained_model_info", staticmethod(find))
    start(fresh, f"{key}=nest_of_four_steps")
    assert same(fresh.state_dict(), EncDecDenoiseMaskedTokenPredModel.restore_from(str(file)).state_dict())


def test_a_run_with_moving_averages_goes_on_with_them(pretrain, trained):
    average = checkpoint(trained, "-last-EMA")
    before = weights_in(average)
    again = pretrain(trained, "trainer.max_steps=6", *WITH_AVERAGES)
    assert again.exit_code == 0, again.printed[-3000:]
    assert [step["batch"] for step in again.steps[0]] == [4, 5]
    assert "EMA state has been restored" in again.printed
    (after,) = trained.rglob("*-step_6-last-EMA.ckpt")
    assert not same(before, weights_in(after))


def test_the_script_starts_from_a_checkpoint_named_without_quotes(pretrain, trained, tmp_path):
    file = next(iter(trained.rglob("*-last.ckpt")))
    run = pretrain(tmp_path, "trainer.max_steps=1", f"+init_from_ptl_ckpt={file}")
    assert run.exit_code == 0, run.printed[-3000:]
    tensors = len(weights_in(file))
    assert f"Loaded {tensors} of {tensors} tensors." in run.printed


def test_a_recogniser_with_a_decoding_config_starts_from_its_checkpoint(tmp_path, tiny_config):
    nest = tiny_config()
    config = {
        "sample_rate": 16000,
        "labels": [" ", "a", "b"],
        "preprocessor": nest.preprocessor,
        "encoder": nest.encoder,
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": nest.encoder.d_model,
            "num_classes": 3,
            "vocabulary": [" ", "a", "b"],
        },
        "optim": {"name": "adamw", "lr": 1e-3},
    }
    model, other = (EncDecCTCModel(OmegaConf.create(config)) for _ in range(2))
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": model.hparams}, tmp_path / "ctc.ckpt")
    assert OmegaConf.get_type(model.hparams.cfg.decoding) is not dict  # a type of NeMo's
    start(other, f"init_from_ptl_ckpt={tmp_path / 'ctc.ckpt'}")
    assert same(other.state_dict(), model.state_dict())


class TestBrokenFiles:
    @pytest.mark.parametrize("left", [0, 5000])
    def test_a_cut_file_is_named_and_the_model_stays_as_it_is(self, trained, fresh, tmp_path, left):
        before = {name: value.clone() for name, value in fresh.state_dict().items()}
        file = tmp_path / "cut.ckpt"
        file.write_bytes(checkpoint(trained, "").read_bytes()[:left])
        fault = "the file is cut short" if left else "the file is empty"
        with pytest.raises(
            ValueError, match=f"^init_from_ptl_ckpt must be a complete checkpoint; got {file}, but {fault}"
        ):
            start(fresh, f"init_from_ptl_ckpt.nest.path={file}")
        with pytest.raises(
            ValueError, match=f"^checkpoint_path must be a complete checkpoint; got {file}, but {fault}"
        ):
            EncDecDenoiseMaskedTokenPredModel.load_from_checkpoint(str(file))
        assert same(fresh.state_dict(), before)

    def test_a_nemo_file_in_the_place_of_a_checkpoint_gets_a_hint(self, trained, fresh):
        (file,) = trained.rglob("*.nemo")
        with pytest.raises(ValueError, match="but the file is a .nemo archive; use init_from_nemo_model"):
            start(fresh, f"init_from_ptl_ckpt={file}")

    def test_a_missing_file_is_missing(self, fresh, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere.ckpt"):
            start(fresh, f"init_from_ptl_ckpt={tmp_path / 'nowhere.ckpt'}")
