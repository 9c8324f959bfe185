"""Feature extraction that can be copied and pickled, and with it every model that has it.

NeMo's constructor puts a wrapped `forward` on the instance: it cannot be pickled, and in a copy it still belongs to
the original.
"""

import torch

from nemo.collections.asr.parts.preprocessing.features import FilterbankFeatures


def __getstate__(self: FilterbankFeatures) -> dict:
    return {name: value for name, value in self.__dict__.items() if name != "forward"}


def __setstate__(self: FilterbankFeatures, state: dict) -> None:
    super(FilterbankFeatures, self).__setstate__(state)
    if not self.use_grads:
        self.forward = torch.no_grad()(self.forward)


FilterbankFeatures.__getstate__ = __getstate__
FilterbankFeatures.__setstate__ = __setstate__
