"""Lists of utterances that can be pickled, and that say how many were left out for their duration."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from nemo.collections.common.parts.preprocessing.collections import AudioText, _Collection
from nemo.utils import logging

# Data loaders send their data to spawned workers by pickle, which finds a class by its module and qualified name. NeMo
# keeps these named tuples as attributes of their lists.
for _owner in [value for value in globals().values() if isinstance(value, type) and issubclass(value, _Collection)]:
    _output_type = _owner.__dict__.get("OUTPUT_TYPE")
    if _output_type is not None:
        _output_type.__qualname__ = f"{_owner.__qualname__}.OUTPUT_TYPE"


def _with_dropped_utterances_logged(init: Callable) -> Callable:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def init_and_log(self: AudioText, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(self, *args, **kwargs).arguments
        durations = [duration for duration in given["durations"] if duration is not None]
        shortest, longest = given.get("min_duration"), given.get("max_duration")
        init(self, *args, **kwargs)
        short = 0 if shortest is None else sum(duration < shortest for duration in durations)
        long = 0 if longest is None else sum(duration > longest for duration in durations)
        if short or long:
            logging.info(
                f"{len(self)} of {len(given['durations'])} utterances are used; {short} are shorter than "
                f"min_duration = {shortest} s, {long} are longer than max_duration = {longest} s."
            )

    return init_and_log


AudioText.__init__ = _with_dropped_utterances_logged(AudioText.__init__)
