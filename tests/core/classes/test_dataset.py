"""What NeMo's data sets offer to data loaders can be sent to their workers."""

import pickle

import torch

from nemo.core.classes.dataset import Dataset


class Pairs(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, index])


def test_the_collate_function_is_pickled_with_its_data():
    collate_fn = pickle.loads(pickle.dumps(Pairs().collate_fn))
    assert isinstance(collate_fn.__self__, Pairs)
    assert collate_fn([torch.tensor([0, 0]), torch.tensor([1, 1])]).tolist() == [[0, 0], [1, 1]]
