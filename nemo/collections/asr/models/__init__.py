"""With all models imported, `torch.load` is told of the types in their checkpoints."""

from nemo.utils.checkpoint_types import allow_checkpoint_types

allow_checkpoint_types()
