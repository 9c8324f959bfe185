"""What the tests of contexts and reports share: a model without masking, contexts, and speech."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from nest_tools.recipe import Recipe
from torch import nn

from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.attention_context import AttentionContext

RATE = 16000


class SpeechEncoder(nn.Module):
    """A model with an encoder and a preprocessor, and without masking."""

    def __init__(self, **encoder):
        super().__init__()
        torch.manual_seed(0)
        sizes = dict(feat_in=8, n_layers=2, d_model=16, n_heads=2, subsampling="dw_striding", subsampling_factor=8)
        sizes |= dict(subsampling_conv_channels=8, causal_downsampling=True, conv_norm_type="layer_norm")
        sizes |= dict(conv_context_size="causal", conv_kernel_size=5, att_context_size=[[3, 0], [-1, 0]])
        self.encoder = ConformerEncoder(**{**sizes, **encoder})
        self.preprocessor = AudioToMelSpectrogramPreprocessor(features=8, normalize="NA", pad_to=0)


def parse(*sizes: int) -> AttentionContext:
    return AttentionContext.parse(sizes)


def speech(file: Path, seconds: float, rate: int = RATE) -> Path:
    """Noise that swells and fades, as a file."""
    samples = np.random.default_rng(0).standard_normal(round(seconds * rate))
    soundfile.write(file, 0.1 * samples * np.sin(np.arange(len(samples)) / rate) ** 2, rate)
    return file


def dense(recipe: Recipe, **changes) -> Recipe:
    """The recipe with so many masks that short contexts have blind targets."""
    return with_masks(recipe, mask_prob=0.06, **changes)


def with_masks(recipe: Recipe, **changes) -> Recipe:
    """The recipe with other values of its `MaskRecipe`."""
    return replace(recipe, masking=replace(recipe.masking, recipe=replace(recipe.masking.recipe, **changes)))
