"""Saving and starting: weights that are split over ranks, models that can be copied and pickled, load reports."""

from typing import Any

from omegaconf import DictConfig
from torch.distributed.fsdp import register_fsdp_forward_method

from nemo.collections.asr.models.masked_token_pred.model_part import ModelPart
from nemo.collections.asr.parts.utils.sharding import full_state_dict, is_sharded, shard_weights
from nemo.collections.asr.parts.utils.weight_report import reported_loading
from nemo.utils.model_utils import wrap_training_step

__all__ = ["ModelFiles"]


class ModelFiles(ModelPart):
    """A mixin of the masked token prediction models."""

    def configure_model(self) -> None:
        """Splits the weights over ranks under Lightning's `ModelParallelStrategy` (FSDP2); nothing otherwise."""
        if self.device_mesh is not None and not is_sharded(self):
            heads = [] if self.future_heads is None else [self.future_heads]
            modules = [*self.encoder.layers, self.encoder, self.decoder, self.mask_processor, *heads]
            shard_weights(modules, whole=self, mesh=self.device_mesh)
            register_fsdp_forward_method(self.mask_processor, "write")

    def maybe_init_from_pretrained_checkpoint(self, cfg: DictConfig, map_location: str = "cpu") -> None:
        """Starts from the weights that `cfg` names (`init_from_nemo_model`, ...), and logs which of them fitted."""
        with reported_loading(self):
            super().maybe_init_from_pretrained_checkpoint(cfg, map_location)

    def save_to(self, save_path: str) -> None:
        """Writes a `.nemo` file. Sharded weights are gathered first, so all ranks must call it then."""
        if not is_sharded(self):
            return super().save_to(save_path)
        weights = full_state_dict(self)
        self.state_dict = lambda: weights
        try:
            super().save_to(save_path)
        finally:
            del self.state_dict

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what NeMo makes of closures, which can be neither copied nor pickled."""
        state = {name: value for name, value in self.__dict__.items() if name != "training_step"}
        state["_modules"] = {name: module for name, module in self._modules.items() if name != "spec_augmentation"}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.training_step = wrap_training_step(self.training_step)
        self.spec_augmentation = self.from_config_dict(self.cfg.spec_augment)
