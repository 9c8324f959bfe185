"""Feature extraction that leaves the caller's audio alone, and can be copied and pickled with every model that has it.

NeMo adds dither to its input in place. Its constructor puts a wrapped `forward` on the instance: that cannot be
pickled, and in a copy it still belongs to the original.
"""

from typing import Any

import torch
from torch import Tensor

from nemo.collections.asr.parts.preprocessing.features import FilterbankFeatures

_nemo_forward = FilterbankFeatures.forward


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


FilterbankFeatures.forward = forward
FilterbankFeatures.__getstate__ = __getstate__
FilterbankFeatures.__setstate__ = __setstate__
