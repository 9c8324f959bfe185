"""An encoder, fed with audio as it arrives, that gives the frames of the offline encoder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nemo.collections.asr.parts.attention_context import AttentionContext, find_conformer
from nemo.collections.asr.parts.attention_context.helpers import context_presets
from nemo.collections.asr.parts.streaming.batched_step import BatchedStep
from nemo.collections.asr.parts.streaming.collected_frames import CollectedFrames
from nemo.collections.asr.parts.streaming.conformer_step import ConformerStep
from nemo.collections.asr.parts.streaming.online_features import OnlineFeatures
from nemo.collections.asr.parts.streaming.ragged_queue import RaggedQueue
from nemo.collections.asr.parts.streaming.stream_memory import StreamMemory
from nemo.collections.asr.parts.streaming.streamable import (
    check_encoder,
    first_history,
    history_limit,
    layer_indices,
    streamable_context,
    uses_cuda_graphs,
    whole_chunks,
)
from nemo.collections.asr.parts.utils.checks import check_whole_number

__all__ = ["EncoderStream"]


class EncoderStream:
    """Encodes audio while it arrives, and gives exactly the frames of the offline encoder.

    All frames of a stream together equal the first `encoded_len` frames of `model.encoder(*model.preprocessor(audio))`
    in eval mode, up to rounding, however the audio was cut. This holds for every context of style `regular` with a
    right context of 0, and for every context of style `chunked_limited`. Encoder frame k is returned as soon as the
    audio under the window of feature frame `factor * k` has arrived and the frame's chunk is complete. `finish`
    returns the last frames.

        >>> with EncoderStream(model, "low") as stream:
        ...     for piece in microphone:
        ...         frames, lengths = stream.push(piece)       # [1, D, S], S may be 0
        ...     frames, lengths = stream.finish()

    The stream neither uses nor changes the model's mode, context and streaming state, so several streams of different
    contexts may run on one model. Call `reset()` after a change of the model's weights, device or type: it makes
    everything anew that is derived from the weights. There is no collective communication.

    Args:
        model: a NeMo model with an `AudioToMelSpectrogramPreprocessor` and a causal Conformer encoder, wrapped (DDP,
            `torch.compile`, activation checkpointing, multi-layer extractor) or not.
        context: a preset's name or a pair `[left, right]` in encoder frames, as `set_dynamic_context` takes it; None
            for the encoder's own.
        batch_size: streams that run side by side. They may begin and end at different times.
        frames_per_step: encoder frames that are computed at once. More frames give more throughput and more latency;
            the output is the same. A multiple of the chunk under `chunked_limited`, where 1 stands for one chunk.
        max_history: bounds an unlimited left context to so many encoder frames. The output of a longer stream is no
            longer that of the offline encoder.
        layers: also return the output of these layers (negative ones count from the end). Frames are then a list:
            the layers in rising order, and the encoder's output last, as in `ConformerMultiLayerFeatureExtractor`.
        cuda_graphs: whether steps are recorded as CUDA graphs; None for yes where the model is on a GPU and the left
            context is limited.

    Raises:
        TypeError: `model` has no such preprocessor or encoder, or an argument is of a wrong type.
        ValueError: an encoder or a context that cannot be streamed exactly, or an argument out of range; the message
            says what is allowed.
    """

    def __init__(
        self,
        model: nn.Module,
        context: str | Sequence[int] | AttentionContext | None = None,
        batch_size: int = 1,
        frames_per_step: int = 1,
        max_history: int | None = None,
        *,
        layers: Sequence[int] | None = None,
        cuda_graphs: bool | None = None,
    ):
        owner, self._encoder = find_conformer(model)
        self._preprocessor: Any = getattr(owner, "preprocessor", None)
        check_encoder(self._encoder)
        self.batch_size = check_whole_number("batch_size", batch_size, minimum=1)
        self.context = streamable_context(self._encoder, context, context_presets(owner))
        """The attention context of all streams, an `AttentionContext`."""
        self.frames_per_step = whole_chunks(frames_per_step, self.context.right + 1)
        """Encoder frames of a step."""
        self._history_limit = history_limit(self.context, max_history)
        self.layers = layer_indices(layers, len(self._encoder.layers))
        """Layers whose output is returned besides the encoder's."""
        self._cuda_graphs = cuda_graphs
        self._batch: BatchedStep | None = None
        self._build()

    def push(self, audio: Tensor | np.ndarray, lengths: Any = None) -> tuple[Tensor | list[Tensor], Tensor]:
        """Takes the next samples of each stream and returns the encoder frames that they complete.

        Args:
            audio: `[B, N]`, or `[N]` for one stream; any N, floating point, scaled to [-1, 1], at the model's rate.
            lengths: how many of the N samples belong to each stream, `[B]`; None for all.

        Returns:
            Encoder frames `[B, D, S]`, zero past each stream's own frames, and their numbers `[B]`. S may be 0. With
            `layers`, a list of such frames and the numbers.

        Raises:
            TypeError: samples or lengths of a wrong type.
            ValueError: a wrong shape, lengths out of range, samples that are not finite, samples for a stream that has
                finished, or a closed stream. The streams are not changed then.
        """
        batch, collected = self._open_batch(), CollectedFrames(self.batch_size, self.frames_per_step)
        with self._inference():
            self._queue_features(*self._features.push_rows(audio, lengths))
            while (ready := ~self._features.finished & (self._queue.counts >= self._features_per_step)).any():
                self._advance(batch, np.flatnonzero(ready), None, collected)
        return self._output(collected)

    def finish(self, stream: int | None = None) -> tuple[Tensor | list[Tensor], Tensor]:
        """Ends one stream, or all of them, and returns the remaining frames in the form of `push`.

        A stream without any audio has as many frames as the offline encoder computes for none. A stream that has
        finished before has no more.

        Raises:
            TypeError, ValueError: `stream` is no index of a stream, or the stream is closed.
        """
        batch, collected = self._open_batch(), CollectedFrames(self.batch_size, self.frames_per_step)
        rows = self._features.rows(stream)
        rows = rows[~self._features.finished[rows]]
        with self._inference():
            self._queue_features(*self._features.finish_rows(rows))
            while len(rows := rows[self._step.subsampling.frames_of(self._queue.counts[rows]) > 0]):
                self._advance(batch, rows, self._queue.counts[rows], collected)
        return self._output(collected)

    def reset(self, stream: int | None = None) -> None:
        """Restarts one stream, while the others go on, or all of them.

        Without a stream, all that is derived from the model's weights is made anew, on the model's present device and
        in its present type; a closed stream is open again.

        Raises:
            TypeError, ValueError: `stream` is no index of a stream, or the stream is closed.
        """
        if stream is None:
            self._build()
            return
        batch, rows = self._open_batch(), self._features.rows(stream)
        self._features.reset(stream)
        with torch.inference_mode():
            self._queue.clear(rows)
        batch.clear(rows)

    def close(self) -> None:
        """Frees the caches of all streams; frames that were not returned are lost.

        `reset()` opens the stream again. To close a closed stream is allowed and does nothing.
        """
        self._batch = None

    def __enter__(self) -> "EncoderStream":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    @property
    def samples_per_step(self) -> int:
        """Audio samples from one step to the next."""
        return self._features_per_step * self._features.hop

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio that the model takes."""
        return self._features.sample_rate

    @property
    def latency(self) -> float:
        """Seconds of audio needed after the centre of the newest feature frame that an encoder frame sees, at most.

        That is the duration of the step's other encoder frames, and half a window.
        """
        later = (self.frames_per_step - 1) * self._step.subsampling.factor * self._features.hop
        return (later + self._features.lookahead_samples) / self.sample_rate

    def memory(self) -> StreamMemory:
        """What the streams hold at present.

        Raises:
            ValueError: the stream is closed.
        """
        state = self._open_batch().state
        return StreamMemory.of(self.batch_size, self._step, state, self._features, self._queue)

    def _open_batch(self) -> BatchedStep:
        if self._batch is None:
            raise ValueError("the stream is closed; call reset() to open it again")
        return self._batch

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """No autograd, and the model's own precision even under autocast."""
        device = next(self._encoder.parameters()).device
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            yield

    def _build(self) -> None:
        """Makes all that is derived from the model's weights, and streams that have not begun."""
        device, limit = next(self._encoder.parameters()).device, self._history_limit
        cuda_graphs = uses_cuda_graphs(self._cuda_graphs, device, self.context, limit)
        left, chunk = first_history(self.context, limit), self.context.right + 1
        with self._inference():
            step = ConformerStep(self._encoder, self.frames_per_step, chunk, left, self.layers)
            self._features = OnlineFeatures(self._preprocessor, self.batch_size, step.device)
            self._queue = RaggedQueue(
                self.batch_size, (self._encoder._feat_in,), step.subsampling.lead, step.device, step.dtype
            )
            self._batch = BatchedStep(step, self.batch_size, limit, cuda_graphs)
        self._step = step
        self._features_per_step = step.frames * step.subsampling.factor

    def _queue_features(self, features: Tensor, lengths: np.ndarray) -> None:
        self._queue.append(features.to(self._step.dtype), lengths)

    def _advance(
        self, batch: BatchedStep, rows: np.ndarray, last: np.ndarray | None, collected: CollectedFrames
    ) -> None:
        """One step of the streams `rows`; `last` are the feature frames that each still has, if these are its last."""
        members = batch.members(rows, self._features.finished)
        whole = len(members) == self.batch_size
        features = self._queue.window(self._features_per_step, None if whole else members)
        outputs = batch.advance(rows, members, features, last)
        taken = np.zeros(self.batch_size, dtype=np.int64)
        taken[rows] = self._features_per_step if last is None else np.minimum(last, self._features_per_step)
        self._queue.drop(taken)
        collected.add(members, self._step.subsampling.frames_of(taken)[members], outputs)

    def _output(self, collected: CollectedFrames) -> tuple[Tensor | list[Tensor], Tensor]:
        """Outside of inference mode, so that the frames may be an input to training."""
        channels = self._encoder._feat_out
        frames, lengths = collected.frames(1 + len(self.layers), channels, self._step.device, self._step.dtype)
        return (frames if self.layers else frames[0]), lengths
