"""An encoder that gives the same frames live as offline."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.attention_context import AttentionContext, find_conformer
from nemo.collections.asr.parts.attention_context.helpers import context_presets
from nemo.collections.asr.parts.streaming.conformer_step import ConformerStep, StepState
from nemo.collections.asr.parts.streaming.graphed_step import GraphedStep
from nemo.collections.asr.parts.streaming.online_features import OnlineFeatures, check_whole_number
from nemo.collections.asr.parts.streaming.ragged_queue import RaggedQueue
from nemo.collections.asr.parts.streaming.subsampling_step import StreamEdges

__all__ = ["EncoderStream", "StreamMemory"]

_FIRST_HISTORY = 128
"""Encoder frames that an unlimited history has room for at first; it doubles when they are full."""


@dataclass(frozen=True)
class StreamMemory:
    """Bytes that an `EncoderStream` holds."""

    caches: int
    """Of each stream: keys, values and convolution inputs of past frames, in all layers."""

    waiting: int
    """Of each stream: the audio and features of which frames are still to be made."""

    tables: int
    """Projected positions, shared by all streams."""

    weights: int
    """Weights that are copies of the model's, shared by all streams."""


def _plainly(method: Callable) -> Callable:
    """Runs a method of an encoder stream without autograd and, whatever surrounds it, in the model's own precision."""

    @functools.wraps(method)
    def plain(self: "EncoderStream", *arguments: Any) -> Any:
        device = next(self._encoder.parameters()).device
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            return method(self, *arguments)

    return plain


class EncoderStream:
    """Encodes audio while it arrives, and gives exactly the frames of the offline encoder.

    For a context of `regular` style with right 0, and for every `chunked_limited` context, all frames of a stream
    together are the first `encoded_len` frames of `model.encoder(*model.preprocessor(audio))` in evaluation, to
    rounding, however the audio was cut. Encoder frame k comes once the audio under the window of feature frame
    `factor * k` has arrived (and its chunk is complete); the last frames come with `finish`.

        >>> with EncoderStream(model, "low") as stream:
        ...     for piece in microphone:
        ...         frames, lengths = stream.push(piece)       # [1, D, T], T may be 0
        ...     frames, lengths = stream.finish()

    The model's mode, context and streaming state are neither used nor changed, so several streams of different
    contexts may run on one model. After a change of its weights, device or type call `reset()`: what derives from
    them is made there. There is no collective communication.

    Args:
        model: any NeMo model with an `AudioToMelSpectrogramPreprocessor` and a causal Conformer encoder.
        context: a preset's name or a pair `[left, right]` in encoder frames, as `set_dynamic_context` takes it; None
            for the encoder's own.
        batch_size: streams that run side by side. They may begin and end at different times.
        frames_per_step: encoder frames computed at once. More give more throughput and as many frames of latency;
            the output is the same. Whole chunks under `chunked_limited`; 1 stands for one chunk there.
        max_history: bounds an unlimited left context to so many encoder frames. Once a stream is longer, its output
            is no longer that of the offline encoder.
        layers: also give the output of these layers (negative ones count from the end): frames are then a list,
            the layers in rising order and the encoder's output last, as `ConformerMultiLayerFeatureExtractor` has it.
        cuda_graphs: whether steps are recorded as CUDA graphs; None for yes where the model is on a GPU and the left
            context is limited.

    Raises:
        TypeError: `model` has no such preprocessor or encoder, or an argument is of a wrong type.
        ValueError: an encoder or a context that cannot be streamed exactly; the message says why, and what can.
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
        self._encoder, self._preprocessor, presets = _parts(model)
        _check_encoder(self._encoder)
        self.batch_size = check_whole_number(batch_size, "batch_size", least=1)
        self.context = _streamable_context(self._encoder, context, presets)
        """The attention context of all streams, an `AttentionContext`."""
        self._chunk = self.context.right + 1
        self.frames_per_step = _whole_chunks(frames_per_step, self._chunk)
        """Encoder frames of a step."""
        self._left_limit = _left_limit(self.context, max_history)
        self.layers = _layer_indices(layers, len(self._encoder.layers))
        """Layers whose output is given besides the encoder's."""
        self._cuda_graphs = cuda_graphs
        self.reset()

    def push(self, audio: Tensor | np.ndarray, lengths: Any = None) -> tuple[Tensor | list[Tensor], Tensor]:
        """Takes the next samples of each stream and gives the encoder frames that they complete.

        Args:
            audio: `[B, N]`, or `[N]` for one stream; any N, floating point scaled to [-1, 1], at the model's rate.
            lengths: how many of the N samples are each stream's own, `[B]`; None for all.

        Returns:
            Frames `[B, D, T]`, zero past each stream's own, and how many there are, `[B]`. T may be 0. With `layers`,
            a list of such frames.

        Raises:
            TypeError: samples or lengths of a wrong type.
            ValueError: a wrong shape, lengths out of range, samples that are not finite, or samples for a stream that
                has finished. The streams are then as they were.
        """
        self._check_open()
        self._queue_features(*self._features.push_rows(audio, lengths))
        return self._output(self._steps())

    def finish(self, stream: int | None = None) -> tuple[Tensor | list[Tensor], Tensor]:
        """Ends one stream, or all of them, and gives the frames that were waiting for audio; as `push`.

        A stream without any audio has as many frames as the offline encoder makes of none. A stream that has ended
        before has no more.
        """
        self._check_open()
        rows = self._features.rows(stream)
        rows = rows[~self._features.finished[rows]]
        self._queue_features(*self._features.finish_rows(rows))
        return self._output(self._last_steps(rows))

    def reset(self, stream: int | None = None) -> None:
        """Begins anew: with one stream, while the others go on, or with all of them.

        Without a stream, all that derives from the model's weights is made again, on the model's present device and
        in its present type.
        """
        if stream is None:
            self._build()
            return
        self._check_open()
        rows = self._features.rows(stream)
        self._features.reset(stream)
        with torch.inference_mode():
            self._queue.clear(rows)
        self._given[rows] = 0

    def __enter__(self) -> "EncoderStream":
        return self

    def __exit__(self, *exception: Any) -> None:
        """Lets go of the caches; what was not finished is dropped. `reset()` opens the stream again."""
        self._state = self._graph = None

    @property
    def samples_per_step(self) -> int:
        """Audio samples from one step to the next."""
        return self._width * self._features.hop

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio that the model takes."""
        return self._features.sample_rate

    @property
    def latency(self) -> float:
        """Seconds of audio that must follow the centre of the newest feature frame an encoder frame sees, at most.

        That is the look-ahead (the step's other encoder frames) and half of a window.
        """
        lookahead = (self.frames_per_step - 1) * self._step.subsampling.factor * self._features.hop
        return (lookahead + self._features.reach) / self.sample_rate

    def memory(self) -> StreamMemory:
        """What the streams hold at present."""
        self._check_open()
        waiting = sum(part.nbytes for part in (*self._state.subsampling, self._queue, self._features))
        return StreamMemory(
            caches=(self._state.attention.nbytes + self._state.convolution.nbytes) // self.batch_size,
            waiting=waiting // self.batch_size,
            tables=self._step.nbytes_of_tables,
            weights=self._step.nbytes_of_weights,
        )

    def _check_open(self) -> None:
        if self._state is None:
            raise ValueError("the stream is closed, its `with` block having ended; reset() opens it again")

    @_plainly
    def _build(self) -> None:
        left = self._left_limit
        if self.context.left < 0:
            left = _FIRST_HISTORY if left is None else min(left, _FIRST_HISTORY)
        self._step = ConformerStep(self._encoder, self.frames_per_step, self._chunk, left, self.layers)
        self._features = OnlineFeatures(self._preprocessor, self.batch_size, self._step.device)
        self._queue = RaggedQueue(
            self.batch_size,
            (self._encoder._feat_in,),
            lead=self._step.subsampling.lead,
            device=self._step.device,
            dtype=self._step.dtype,
        )
        self._state = self._step.new_state(self.batch_size)
        self._given = np.zeros(self.batch_size, dtype=np.int64)
        self._width = self.frames_per_step * self._step.subsampling.factor
        """Feature frames of a step."""
        self._graph = self._new_graph()

    def _new_graph(self) -> GraphedStep | None:
        """Graphs need caches that stay where they are, so a history that may still grow runs without them."""
        on_gpu = self._step.device.type == "cuda"
        if self._cuda_graphs and not on_gpu:
            raise ValueError(f"cuda_graphs is True, but the model is on {self._step.device}; give None or False there")
        if self._cuda_graphs and self._left_limit is None:
            raise ValueError(
                f"cuda_graphs is True, but the history of context {self.context} grows with the stream; "
                "give a max_history, or cuda_graphs=None"
            )
        if self._cuda_graphs is False or not on_gpu or self._step.left != self._left_limit:
            return None
        return GraphedStep(self._graphed_step, self._step.device, switch="cuda_graphs=False")

    def _graphed_step(self, features: Tensor, past: Tensor, first: Tensor, stop: Tensor) -> list[Tensor]:
        edges = StreamEdges(past=past, first=first, stop=stop)
        return self._step.step(features, self._state, self._step.left, edges)

    @_plainly
    def _queue_features(self, features: Tensor, lengths: np.ndarray) -> None:
        self._queue.append(features.to(self._step.dtype), lengths)

    @_plainly
    def _steps(self) -> "_Collected":
        """Runs steps while there are streams with enough features for one."""
        collected = _Collected(self.batch_size, self.frames_per_step)
        while (ready := ~self._features.finished & (self._queue.counts >= self._width)).any():
            self._advance(np.flatnonzero(ready), None, collected)
        return collected

    @_plainly
    def _last_steps(self, rows: np.ndarray) -> "_Collected":
        """Runs steps until the given streams, which have all their features, are through."""
        collected = _Collected(self.batch_size, self.frames_per_step)
        while len(rows := rows[self._step.subsampling.frames_of(self._queue.counts[rows]) > 0]):
            self._advance(rows, self._queue.counts[rows], collected)
        return collected

    def _advance(self, rows: np.ndarray, counts: np.ndarray | None, collected: "_Collected") -> None:
        """One step of the streams `rows`, of which `counts` feature frames each are the last ones, or None.

        If all other streams have no past that matters, having ended or not begun, the whole batch is computed, which
        needs no copies. Otherwise the state of `rows` is taken out, goes on by itself and is put back, so that the
        others are not touched.
        """
        self._make_history(int(self._given[rows].max()) + self.frames_per_step)
        others = (self._given > 0) & ~self._features.finished
        others[rows] = False
        members = rows if others.any() else np.arange(self.batch_size)
        whole = len(members) == self.batch_size

        features = self._queue.window(self._width, None if whole else members)
        edges, history = self._edges(rows, members, counts)
        state = self._state if whole else self._state.select(self._tensor(members))
        fresh = np.flatnonzero(np.isin(members, rows[self._given[rows] == 0]))
        if len(fresh):
            state.clear(self._tensor(fresh))
        outputs = self._run(state, features, history, edges)
        if not whole:
            self._state.put(self._tensor(members), state)

        taken = np.zeros(self.batch_size, dtype=np.int64)
        taken[rows] = self._width if counts is None else np.minimum(counts, self._width)
        self._queue.drop(taken)
        self._given[rows] += self.frames_per_step
        collected.add(members, self._step.subsampling.frames_of(taken)[members], outputs)

    def _run(self, state: StepState, features: Tensor, history: int, edges: StreamEdges | None) -> list[Tensor]:
        state.make_room(self.frames_per_step)
        if self._graph is not None and state is self._state:
            outputs = self._graph(state.used, features, edges.past, edges.first, edges.stop)
        else:
            outputs = self._step.step(features, state, history, edges)
        state.used += self.frames_per_step
        return outputs

    def _edges(
        self, rows: np.ndarray, members: np.ndarray, counts: np.ndarray | None
    ) -> tuple[StreamEdges | None, int]:
        """The edges of a step of `members`, None where `rows` need none; and the longest past of `rows`."""
        given = self._given[rows]
        past = np.minimum(given, self._step.left)
        history = int(past.max())
        plain = counts is None and given.min() > 0 and past.min() == history
        if plain and self._graph is None:
            return None, history
        edges = np.zeros((3, self.batch_size), dtype=np.int64)
        edges[2] = self._width
        edges[0, rows] = past
        edges[1, rows] = np.where(given == 0, self._step.subsampling.lead, 0)
        if counts is not None:
            edges[2, rows] = np.minimum(counts, self._width)
        past, first, stop = self._tensor(edges[:, members])
        return StreamEdges(past=past, first=first, stop=stop), history

    def _make_history(self, frames: int) -> None:
        """Lets an unlimited history have room for so many encoder frames, as far as its bound allows."""
        left = self._step.left
        while left < frames and left != self._left_limit:
            left = 2 * left if self._left_limit is None else min(2 * left, self._left_limit)
        if left == self._step.left:
            return
        self._step.set_left(left)
        shorter, self._state = self._state, self._step.new_state(self.batch_size)
        self._state.copy_past(shorter)
        self._graph = self._new_graph()

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self._step.device)

    def _output(self, collected: "_Collected") -> tuple[Tensor | list[Tensor], Tensor]:
        """Leaves inference mode, so that the frames may be an input to training."""
        width = self._encoder._feat_out
        frames, lengths = collected.frames(1 + len(self.layers), width, self._step.device, self._step.dtype)
        return (frames if self.layers else frames[0]), lengths


class _Collected:
    """The frames of the steps of one call, put together by stream."""

    def __init__(self, batch_size: int, frames_per_step: int):
        self._frames_per_step = frames_per_step
        self._lengths = np.zeros(batch_size, dtype=np.int64)
        self._steps: list[tuple[np.ndarray, np.ndarray, list[Tensor]]] = []

    def add(self, members: np.ndarray, lengths: np.ndarray, outputs: list[Tensor]) -> None:
        """Adds a step: `lengths[i]` frames of stream `members[i]` are in row i of each of `outputs` `[M, T, D]`."""
        self._steps.append((members, self._lengths[members], outputs))
        self._lengths[members] += lengths

    def frames(
        self, outputs: int, width: int, device: torch.device, dtype: torch.dtype
    ) -> tuple[list[Tensor], Tensor]:
        """`outputs` tensors `[B, D, T]`, zero past each stream's own frames, and how many these are `[B]`."""
        lengths = torch.from_numpy(self._lengths).to(device)
        longest = int(self._lengths.max())
        if longest == 0:
            return [torch.zeros(len(lengths), width, 0, device=device, dtype=dtype) for _ in range(outputs)], lengths
        joined = [self._join(output)[:, :longest] for output in range(outputs)]
        if (self._lengths != longest).any():
            beyond = torch.arange(longest, device=device) >= lengths[:, None]
            joined = [frames.masked_fill(beyond[:, :, None], 0.0) for frames in joined]
        return [frames.transpose(1, 2) for frames in joined], lengths

    def _join(self, output: int) -> Tensor:
        """One output of all steps, `[B, T, D]`, with anything past each stream's own frames."""
        batch = len(self._lengths)
        if all(len(members) == batch for members, _, _ in self._steps):
            # A stream that takes part in a later step of the whole batch took part in the earlier ones.
            return torch.cat([outputs[output] for _, _, outputs in self._steps], dim=1)
        like = self._steps[0][2][output]
        frames = like.new_zeros(batch, int(self._lengths.max()) + self._frames_per_step, like.shape[-1])
        for members, begin, outputs in self._steps:
            place = begin[:, None] + np.arange(self._frames_per_step)
            frames[torch.from_numpy(members)[:, None], torch.from_numpy(place)] = outputs[output]
        return frames


def _parts(model: nn.Module) -> tuple[ConformerEncoder, nn.Module, Any]:
    """The encoder, the preprocessor and the context presets of a model, wrapped (DDP, torch.compile) or not."""
    owner, encoder = find_conformer(model)
    return encoder, getattr(owner, "preprocessor", None), context_presets(owner)


def _check_encoder(encoder: ConformerEncoder) -> None:
    """Refuses encoders of which no stream can give the offline frames."""
    if encoder.self_attention_model != "rel_pos":
        raise ValueError(
            f"encoder.self_attention_model is '{encoder.self_attention_model}', but a stream needs 'rel_pos'; "
            "local attention with weights of rel_pos can be turned back by "
            'encoder.change_attention_model("rel_pos", [left, right])'
        )
    if encoder.conv_context_size[1] > 0:
        raise ValueError(
            f"encoder.conv_context_size is {list(encoder.conv_context_size)}, so every layer's convolution sees "
            f"{encoder.conv_context_size[1]} frames that have not arrived; a stream needs a model that was trained "
            "with conv_context_size: causal"
        )
    norm = encoder.layers[0].conv.norm_type
    if norm not in ("layer_norm", "batch_norm", "fused_batch_norm"):
        raise ValueError(
            f"encoder.conv_norm_type is '{norm}', which takes its statistics from the whole signal; "
            "a stream needs layer_norm, batch_norm or fused_batch_norm"
        )
    if encoder.reduction_position is not None:
        raise ValueError("encoder.reduction is set, but a stream needs an encoder without a reduction layer")
    if any(layer.is_adapter_available() for layer in encoder.layers):
        raise ValueError("the encoder has enabled adapters, which a stream does not run; disable them first")


def _streamable_context(encoder: ConformerEncoder, context: Any, presets: Any) -> AttentionContext:
    if context is None:
        parsed = encoder.context.evaluation
    else:
        parsed = encoder.context.check(AttentionContext.parse(context, presets=presets))
    style = encoder.att_context_style
    if style not in ("regular", "chunked_limited"):
        raise ValueError(
            f"encoder.att_context_style is '{style}', whose right context adds up over the layers; "
            "a stream needs 'regular' with right 0, or 'chunked_limited'"
        )
    if parsed.right < 0:
        raise ValueError(
            f"context is {parsed}, and an unlimited right context needs the whole signal; "
            f"a stream needs right 0, as in [{parsed.left}, 0]"
        )
    if style == "regular" and parsed.right > 0:
        raise ValueError(
            f"context is {parsed}: under att_context_style 'regular' every layer looks {parsed.right} frames ahead, "
            f"{parsed.right * len(encoder.layers)} in all, which is no way to stream; use [{parsed.left}, 0], or a "
            "model of att_context_style 'chunked_limited', whose look-ahead does not add up"
        )
    return parsed


def _whole_chunks(frames_per_step: Any, chunk: int) -> int:
    frames = check_whole_number(frames_per_step, "frames_per_step", least=1)
    if frames == 1:
        return chunk
    if frames % chunk:
        raise ValueError(
            f"frames_per_step is {frames}, but must be whole chunks of right + 1 = {chunk} encoder frames, "
            f"such as {-(-frames // chunk) * chunk}"
        )
    return frames


def _left_limit(context: AttentionContext, max_history: Any) -> int | None:
    """Encoder frames of history that are kept at most, None for all."""
    if max_history is None:
        return context.left if context.left >= 0 else None
    if context.left >= 0:
        raise ValueError(
            f"max_history is {max_history}, but it bounds an unlimited left context, and context is {context}; "
            "leave it out"
        )
    return check_whole_number(max_history, "max_history", least=1)


def _layer_indices(layers: Any, count: int) -> list[int]:
    indices = []
    for layer in layers or ():
        if isinstance(layer, bool) or not isinstance(layer, (int, np.integer)):
            raise TypeError(f"layers is {list(layers)!r}, but must be whole numbers from {-count} to {count - 1}")
        if not -count <= layer < count or layer % count in indices:
            raise ValueError(f"layers is {list(layers)}, but must be different layers from {-count} to {count - 1}")
        indices.append(int(layer) % count)
    return sorted(indices)
