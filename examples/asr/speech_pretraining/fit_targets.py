"""Fits the tokenizer of a pretraining config, and fixed statistics of its features, to a corpus.

    python fit_targets.py --out targets.pt model.train_ds.manifest_filepath=train_manifest.json \
        model.num_books=4 model.num_classes=256

Give it the config and the overrides of the pretraining that is to use it: sizes and features are read from them. Then

    python masked_token_pred_pretrain.py ... +model.fitted_targets=targets.pt

takes projection and codebooks from the file, and

    python masked_token_pred_pretrain.py ... model.preprocessor.normalize='{fixed_from: targets.pt}'

normalises the features by mean and deviation of the corpus, which a live stream can do too. `--fixed` fits the
tokenizer to features that are normalised so. The mean of all channels is printed: under `normalize: "NA"`,
`model.masking.mask_value` at it masks with a value that occurs.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from nemo.collections.asr.modules.ssl_modules.target_fitting import fit_to_corpus
from nemo.collections.asr.parts.preprocessing.segment import AudioSegment
from nemo.collections.asr.parts.utils.checks import check_whole_number
from nemo.collections.asr.parts.utils.manifest_utils import read_manifest
from nemo.collections.common.parts.preprocessing.manifest import get_full_path
from nemo.core.classes.common import Serialization

CONFIGS = Path(__file__).resolve().parents[1] / "conf/ssl/nest"
DEFAULT = "nest_fast-conformer_streaming_future"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the config, as for pretraining")
    parser.add_argument("--config-name", default=DEFAULT, help=f"a config of {CONFIGS.name} (default: {DEFAULT})")
    parser.add_argument("--config-path", default=str(CONFIGS), help="the folder of the config")
    parser.add_argument("--out", required=True, type=Path, help="the file to write")
    parser.add_argument("--fixed", action="store_true", help="fit the tokenizer to features with fixed statistics")
    parser.add_argument("--statistics-only", action="store_true", help="fit no tokenizer")
    parser.add_argument("--whiten", action="store_true", help="give all components the same variance")
    parser.add_argument("--tokens", type=int, default=200_000, help="at most so many go into PCA and k-means")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of tokens and of k-means")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits what the command line asks for, and writes the file."""
    options = parse(arguments)
    check_whole_number("--tokens", options.tokens, minimum=1)
    model = model_config(options)
    preprocessor, quantizer = (Serialization.from_config_dict(model[part]) for part in ("preprocessor", "quantizer"))
    preprocessor.eval()

    fitted = fit_to_corpus(
        quantizer,
        lambda: features_of_corpus(model, preprocessor),
        None if options.statistics_only else options.tokens,
        fixed_features=options.fixed,
        whiten=options.whiten,
        seed=options.seed,
    )
    fitted.save(options.out)
    mean, std = (sum(channels) / len(channels) for channels in (fitted.mean, fitted.std))
    print(f"Features have the mean {mean:.2f} and the deviation {std:.2f}.")
    if fitted.codebooks is not None:
        print(f"{quantizer.num_books} codebook(s) of {quantizer.num_classes} codes were fitted.")
    print(f"Written to {options.out}")
    return 0


def model_config(options: argparse.Namespace) -> DictConfig:
    """The section `model` of the config, with features that are not normalised.

    Raises:
        ValueError: the features come after the convolutions, or there is no manifest.
    """
    try:
        with initialize_config_dir(str(Path(options.config_path).resolve()), version_base=None):
            model = compose(options.config_name, options.overrides).model
    except HydraException as error:
        raise ValueError(f"the config cannot be read: {error}") from error
    OmegaConf.set_struct(model, False)
    if OmegaConf.is_missing(model.train_ds, "manifest_filepath") or model.train_ds.manifest_filepath is None:
        raise ValueError("model.train_ds.manifest_filepath must be a manifest; got none")
    if model.get("mask_position") == "post_conv":
        raise ValueError("model.mask_position must be pre_conv to fit a tokenizer; got post_conv")
    model.preprocessor.normalize = "NA"
    model.preprocessor.dither = 0.0
    return model


def features_of_corpus(
    model: DictConfig, preprocessor: torch.nn.Module
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Features `[1, D, T]` and lengths `[1]` of each utterance that training would take, with a progress bar."""
    manifests = model.train_ds.manifest_filepath
    manifests = manifests.split(",") if isinstance(manifests, str) else manifests
    entries = [(manifest, entry) for manifest in manifests for entry in read_manifest(manifest)]
    shortest, longest = model.train_ds.get("min_duration") or 0.0, model.train_ds.get("max_duration") or float("inf")
    taken = [pair for pair in entries if shortest <= pair[1].get("duration", shortest) <= longest]
    if not taken:
        raise ValueError(
            f"model.train_ds.manifest_filepath must hold utterances of {shortest} to {longest} s; got {len(entries)} "
            f"others in {', '.join(map(str, manifests))}"
        )
    for manifest, entry in tqdm(taken, unit="utterance"):
        segment = AudioSegment.from_file(
            get_full_path(entry["audio_filepath"], manifest_file=manifest),
            target_sr=model.preprocessor.sample_rate,
            offset=entry.get("offset") or 0,
            duration=entry.get("duration") or 0,
        )
        samples = torch.from_numpy(segment.samples).float().unsqueeze(0)
        with torch.no_grad():
            yield preprocessor(input_signal=samples, length=torch.tensor([samples.shape[1]]))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
