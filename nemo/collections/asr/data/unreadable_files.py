"""Files that cannot be used: what to do about them, and how many there are."""

import zlib

import torch

from nemo.collections.asr.parts.utils.checks import check_choice
from nemo.utils import logging

__all__ = ["UnreadableFiles"]

_SLOTS = 2**18


class UnreadableFiles:
    """Names each file that cannot be used once, in whichever worker it is met, and counts them.

    What was named is remembered in memory that all workers of a data loader share after `share`, since NeMo starts new
    ones in every epoch. A file is known by a hash of its name; among hundreds of bad files, two may count as one.

    Args:
        policy: `skip` names a file in a warning, and the data go on without it; `raise` stops at the first one.

    Raises:
        ValueError: any other policy.
    """

    def __init__(self, policy: str = "skip"):
        self.policy = check_choice("unreadable_audio", policy, ("skip", "raise"))
        self._left_out = torch.zeros(_SLOTS, dtype=torch.bool)
        self._mentioned = torch.zeros(_SLOTS, dtype=torch.bool)

    def share(self) -> "UnreadableFiles":
        """Puts the memory where worker processes share it, and returns the object."""
        self._left_out.share_memory_()
        self._mentioned.share_memory_()
        return self

    @property
    def count(self) -> int:
        """How many files were left out so far, by all workers."""
        return int(self._left_out.sum())

    def report(self, name: str, reason: Exception | str) -> None:
        """Tells of a file that is left out, unless it was told before.

        Raises:
            RuntimeError: the policy is `raise`.
        """
        if self.policy == "raise":
            raise RuntimeError(f"{name} cannot be used: {reason}; with unreadable_audio: skip it is left out")
        if _is_new(name, self._left_out):
            files = "1 file" if self.count == 1 else f"{self.count} files"
            logging.warning(f"{name} cannot be used and is left out: {reason} ({files} left out so far)")

    def mention(self, name: str, remark: str) -> None:
        """Tells something of a file that is used all the same, unless it was told before."""
        if _is_new(name, self._mentioned):
            logging.warning(f"{name} {remark}")


def _is_new(name: str, seen: torch.Tensor) -> bool:
    slot = zlib.crc32(name.encode()) % _SLOTS
    if seen[slot]:
        return False
    seen[slot] = True
    return True
