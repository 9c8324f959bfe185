"""How many bytes an encoder stream holds."""

from dataclasses import dataclass

from nemo.collections.asr.parts.streaming.conformer_step import ConformerStep
from nemo.collections.asr.parts.streaming.online_features import OnlineFeatures
from nemo.collections.asr.parts.streaming.ragged_queue import RaggedQueue
from nemo.collections.asr.parts.streaming.step_state import StepState

__all__ = ["StreamMemory"]


@dataclass(frozen=True)
class StreamMemory:
    """Bytes that an `EncoderStream` holds."""

    caches: int
    """Of each stream: keys, values and convolution inputs of past frames, in all layers."""

    waiting: int
    """Of each stream: audio and features whose encoder frames are not complete."""

    tables: int
    """Projected positions, shared by all streams."""

    weights: int
    """Weights that are copies of the model's, shared by all streams."""

    @classmethod
    def of(
        cls, batch_size: int, step: ConformerStep, state: StepState, features: OnlineFeatures, queue: RaggedQueue
    ) -> "StreamMemory":
        """From the parts of a stream."""
        waiting = sum(inputs.nbytes for inputs in state.subsampling) + features.nbytes + queue.nbytes
        return cls(
            caches=(state.attention.nbytes + state.convolution.nbytes) // batch_size,
            waiting=waiting // batch_size,
            tables=step.nbytes_of_tables,
            weights=step.nbytes_of_weights,
        )
