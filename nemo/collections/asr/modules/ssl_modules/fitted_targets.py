"""A file of what was fitted to a corpus: projection and codebooks of the tokenizer, statistics of the features.

`target_fitting` computes it. A model takes it up by `model.fitted_targets: FILE` when it is built, and by
`preprocessor.normalize: {fixed_from: FILE}`; from then on it is in the model's own weights and config.
Shapes: `D` channels, `C` codes in a codebook, `Q` codebooks.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo.collections.asr.modules.ssl_modules.quantizers import RandomProjectionVectorQuantizer

__all__ = ["FittedTargets"]

_KIND = "fitted targets of a NEST model"


@dataclass(frozen=True)
class FittedTargets:
    """What was fitted, and what it fits."""

    mean: tuple[float, ...]
    """Mean of each channel of the features, as they are without normalisation."""

    std: tuple[float, ...]
    """Standard deviation of each channel."""

    projection: Tensor | None
    """`[Q * code_dim, combine_time_steps * D]`; None where the statistics alone were fitted."""

    codebooks: Tensor | None
    """`[Q, C, code_dim]`, unit vectors."""

    normalize: str
    """How the tokenizer normalises features."""

    fixed_features: bool
    """Whether the features were normalised by `mean` and `std` before."""

    combine_time_steps: int
    """Feature frames in a token."""

    def save(self, file: str | os.PathLike) -> None:
        """Writes the file, whole or not at all."""
        file = Path(file)
        temporary = file.with_name(f".{os.getpid()}-{file.name}")
        try:
            torch.save({"kind": _KIND, **asdict(self)}, temporary)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, file: Any, name: str = "model.fitted_targets") -> "FittedTargets":
        """Reads a file that `save` wrote.

        Args:
            file: its path.
            name: what the error messages call it.

        Raises:
            TypeError: `file` is no path.
            FileNotFoundError: there is no such file.
            ValueError: it is another kind of file.
        """
        wanted = f"{name} must be a file that fit_targets.py wrote"
        if not isinstance(file, (str, os.PathLike)):
            raise TypeError(f"{wanted}; got {file!r}")
        if not Path(file).is_file():
            raise FileNotFoundError(f"{wanted}; got {file}, which does not exist")
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(f"{wanted}; got {file}, which cannot be read ({error})") from error
        if not isinstance(content, dict) or content.pop("kind", None) != _KIND:
            raise ValueError(f"{wanted}; got {file}, which holds something else")
        return cls(**content)

    def write_into(
        self, quantizer: RandomProjectionVectorQuantizer, fixed_features: bool, name: str = "model.fitted_targets"
    ) -> None:
        """Replaces projection and codebooks of a tokenizer, in place.

        Args:
            quantizer: of the same sizes.
            fixed_features: whether its features are normalised by fixed statistics.
            name: what the error messages call the file.

        Raises:
            ValueError: the file is for another tokenizer, or has the statistics alone. Nothing is changed then.
        """
        if self.projection is None or self.codebooks is None:
            raise ValueError(f"{name} must hold a projection and codebooks; got a file of statistics alone")
        books, classes, code_dim = self.codebooks.shape
        theirs = {
            "feat_in": self.projection.shape[1] // self.combine_time_steps,
            "combine_time_steps": self.combine_time_steps,
            "code_dim": code_dim,
            "num_classes": classes,
            "num_books": books,
            "normalize": self.normalize,
        }
        for key, value in theirs.items():
            if getattr(quantizer, key) != value:
                raise ValueError(
                    f"{name} must be fitted with quantizer.{key}: {getattr(quantizer, key)}, as the model has it; got "
                    f"a file with {value}. Fit it again with the config of this model"
                )
        # Statistics of the utterance itself undo those of the corpus.
        if self.normalize != "per_feature" and self.fixed_features != fixed_features:
            kinds = {True: "normalised by fixed statistics", False: "that are not normalised"}
            raise ValueError(
                f"{name} must be fitted on features {kinds[fixed_features]}, as preprocessor.normalize makes them; "
                f"got one on features {kinds[self.fixed_features]}"
            )
        with torch.no_grad():
            quantizer.proj.weight.copy_(self.projection)
            quantizer.codebooks.copy_(self.codebooks)
