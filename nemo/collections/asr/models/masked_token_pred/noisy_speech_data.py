"""Data loaders of speech with noise, Lhotse's among them."""

from omegaconf import DictConfig
from torch.utils.data import DataLoader

from nemo.collections.asr.data.audio_to_text_dataset import inject_dataloader_value_from_model_config
from nemo.collections.asr.data.dataset_builders import config_for_lhotse
from nemo.collections.asr.data.ssl_dataset import LhotseAudioNoiseDataset
from nemo.collections.asr.models.masked_token_pred.model_part import ModelPart
from nemo.collections.common.data.lhotse import get_lhotse_dataloader_from_config

__all__ = ["NoisySpeechData"]


class NoisySpeechData(ModelPart):
    """A mixin of the denoising model."""

    def _setup_dataloader_from_config(self, config: DictConfig) -> DataLoader:
        """As NeMo's, but Lhotse's data take the options of noise and of unreadable audio too."""
        if not config.get("use_lhotse"):
            return super()._setup_dataloader_from_config(config)
        inject_dataloader_value_from_model_config(self.cfg, config, key="sample_rate")
        return get_lhotse_dataloader_from_config(
            config_for_lhotse(config),
            global_rank=self.global_rank,
            world_size=self.world_size,
            dataset=LhotseAudioNoiseDataset.from_config(config),
        )
