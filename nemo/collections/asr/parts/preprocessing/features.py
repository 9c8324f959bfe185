"""Feature extraction that leaves the caller's audio alone, and can be copied and pickled with every model that has it.

NeMo adds dither to its input in place. Its constructor puts a wrapped `forward` on the instance: that cannot be
pickled, and in a copy it still belongs to the original. Its normalisation by fixed statistics fails for batches above
one; here they may have any size.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from nemo.collections.asr.parts.preprocessing.features import FilterbankFeatures
from nemo.collections.asr.parts.preprocessing.features import normalize_batch as nemo_normalize_batch
from nemo.collections.asr.parts.preprocessing.fixed_statistics import fixed_statistics, normalize_by

_nemo_init = FilterbankFeatures.__init__
_nemo_forward = FilterbankFeatures.forward


def normalize_batch(x: Tensor, seq_len: Tensor, normalize_type: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As NeMo's: features `[B, D, T]`, normalised as `normalize_type` says, their mean and their deviation."""
    statistics = fixed_statistics(normalize_type, x.shape[1])
    if statistics is None:
        return nemo_normalize_batch(x, seq_len, normalize_type)
    mean, std = (x.new_tensor(values).expand(x.shape[0], -1) for values in statistics)
    return normalize_by(statistics, x), mean, std


@functools.wraps(_nemo_init)
def __init__(self: FilterbankFeatures, *args: Any, **kwargs: Any) -> None:
    _nemo_init(self, *args, **kwargs)
    fixed_statistics(self.normalize, self.nfilt)  # refuses what is wrong with them now, not in the first batch


def forward(self: FilterbankFeatures, x: Tensor, seq_len: Tensor, linear_spec: bool = False) -> tuple[Tensor, Tensor]:
    """As NeMo's, on a copy of `x` `[B, N]` where dither would be added to it."""
    if self.training and self.dither > 0 and self.stft_pad_amount is None:
        x = x.clone()
    return _nemo_forward(self, x, seq_len, linear_spec)


def __getstate__(self: FilterbankFeatures) -> dict[str, Any]:
    return {name: value for name, value in self.__dict__.items() if name != "forward"}


def __setstate__(self: FilterbankFeatures, state: dict[str, Any]) -> None:
    super(FilterbankFeatures, self).__setstate__(state)
    if not self.use_grads:
        self.forward = torch.no_grad()(self.forward)


FilterbankFeatures.__init__ = __init__
FilterbankFeatures.forward = forward
FilterbankFeatures.__getstate__ = __getstate__
FilterbankFeatures.__setstate__ = __setstate__
