"""The base of the mixins that make up the models: to a type checker it is a NeMo model, at run time a plain class."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from nemo.core.classes import ModelPT

    class ModelPart(ModelPT):
        """What the mixins use of the model."""

        cfg: DictConfig
        encoder: Any
        decoder: Any
        loss: Any
        quantizer: Any
        mask_processor: Any
        pre_encoder: Any
        training_step: Any
        objective: Any
        future_heads: Any
        future_loss: Any
        _train_dl: Any
else:
    ModelPart = object

__all__ = ["ModelPart"]
