"""Options of a config reach every data set that NeMo's functions build of it."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from small_corpus import RATE

from nemo.collections.asr.data.dataset_builders import changed, config_for_lhotse, with_options


class Part:
    def use_options(self, options) -> None:
        self.options = options


@pytest.mark.parametrize("make", [dict, OmegaConf.create])
def test_all_parts_of_a_mixture_share_the_noise_which_is_read_once(corpus, make):
    configs = []

    @with_options
    def build(config, rank):
        configs.append(config)
        parts = [Part() for _ in range(3)]
        bucket = SimpleNamespace(wrapped_dataset=parts[2])
        return SimpleNamespace(datasets=[parts[0], SimpleNamespace(datasets=[parts[1], bucket])], parts=parts)

    config = make({"sample_rate": RATE, "noise_manifest": str(corpus["noise"]), "channel_selector": 0})
    augmentor = object()
    (options, *others) = [part.options for part in build(config, 0, batch_augmentor=augmentor).parts]
    assert all(other is options for other in others)
    assert len(options.noise) == 2 and options.batch_augmentor is augmentor and options.channel_selector == 0
    assert configs[0]["noise_manifest"] is None and config["noise_manifest"] == str(corpus["noise"])


@pytest.mark.parametrize("make", [dict, OmegaConf.create])
def test_a_changed_config_is_a_copy(make):
    config = make({"a": 1, "b": None})
    if make is not dict:
        OmegaConf.set_struct(config, True)
    assert dict(changed(config, without=["b"], c=3)) == {"a": 1, "c": 3}
    assert dict(config) == {"a": 1, "b": None}


def test_lhotse_averages_no_channels_and_shuffles_nothing_by_chance():
    given = {"channel_selector": "average", "shuffle": False}
    assert config_for_lhotse(given) == {"channel_selector": None, "shuffle": False, "shard_seed": 0}
    for config in ({"channel_selector": 1, "shuffle": True}, {"shard_seed": "trng"}):
        assert config_for_lhotse(config) == config
