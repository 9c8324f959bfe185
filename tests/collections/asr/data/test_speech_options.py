"""Options of data sets of speech with noise: bad ones are refused by name, before training begins."""

import pytest
from omegaconf import OmegaConf
from small_corpus import KINDS, RATE, write_manifest

from nemo.collections.asr.data import ssl_dataset


@pytest.mark.parametrize("kind", ["plain", "tarred", "lhotse cuts"])
@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"noise_cache_mb": -1}, ValueError, "noise_cache_mb must be a number >= 0; got -1"),
        ({"unreadable_audio": "ignore"}, ValueError, "unreadable_audio must be one of 'skip', 'raise'; got 'ignore'"),
        ({"noise_manifest": "/no/such.json"}, FileNotFoundError, "/no/such.json"),
    ],
)
def test_a_bad_option_is_refused_by_name(loader, kind, options, error, message):
    with pytest.raises(error, match=message):
        loader(kind, **options)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"sample_rate": 0}, ValueError, "sample_rate must be a whole number >= 1; got 0"),
        ({"sample_rate": "16k"}, TypeError, "sample_rate must be a whole number >= 1; got '16k'"),
        ({"min_duration": 5.0, "max_duration": 2.0}, ValueError, "max_duration must be at least min_duration = 5.0"),
        ({"max_duration": -1}, ValueError, "max_duration must be a number >= 0; got -1"),
        ({"min_duration": 100.0}, ValueError, "manifest_filepath must name manifests with utterances between"),
        ({"pad_audio_mode": "mirror"}, ValueError, "pad_audio_mode must be one of 'repeat', 'zero'; got 'mirror'"),
    ],
)
def test_bad_numbers_are_refused_by_name(loader, corpus, options, error, message):
    config = OmegaConf.create({"sample_rate": RATE, "shuffle": False, "manifest_filepath": str(corpus["speech"])})
    with pytest.raises(error, match=message):
        ssl_dataset.get_audio_noise_dataset_from_config(OmegaConf.merge(config, options), global_rank=0, world_size=1)


def test_a_missing_noise_file_is_found_when_the_data_are_set_up(loader, tmp_path):
    manifest = write_manifest(tmp_path / "noise.json", [{"audio_filepath": "/no/such.wav", "duration": 1.0}])
    for kind in KINDS:
        with pytest.raises(FileNotFoundError, match="noise_manifest must list files that exist; .* /no/such.wav"):
            loader(kind, noise_manifest=str(manifest))


def test_noise_that_nothing_would_add_is_told(corpus, augmentor_config, loader, warnings_of_nemo):
    for kind in KINDS:
        warnings_of_nemo.clear()
        loader(kind, batch_augmentor=None)
        assert sum("noise_manifest is set, but no noise is added" in said for said in warnings_of_nemo) == 1
        warnings_of_nemo.clear()
        loader(kind)
        loader(kind, batch_augmentor=None, noise_manifest=None)
        assert not [said for said in warnings_of_nemo if "noise_manifest is set" in said]
