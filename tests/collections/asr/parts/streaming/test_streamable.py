"""What cannot be streamed is refused before anything is built, with the reason and what is allowed."""

import numpy as np
import pytest
import torch
from stream_cases import CHUNKED, TinyModel
from torch import nn

from nemo.collections.asr.parts.attention_context import AttentionContext
from nemo.collections.asr.parts.streaming import EncoderStream
from nemo.collections.asr.parts.streaming.streamable import (
    first_history,
    history_limit,
    layer_indices,
    uses_cuda_graphs,
)


@pytest.mark.parametrize(
    ("changes", "context", "said"),
    [
        (dict(causal_downsampling=False), [8, 0], "encoder.causal_downsampling must be true in a stream; got false"),
        (
            dict(conv_context_size=None),
            [8, 0],
            "conv_context_size must be causal.*2 frames that have not arrived",
        ),
        (
            dict(self_attention_model="abs_pos"),
            [8, 0],
            "self_attention_model must be 'rel_pos'.*; got 'abs_pos'",
        ),
        (
            dict(self_attention_model="rel_pos_local_attn", att_context_size=[8, 8]),
            None,
            "must be 'rel_pos' in a stream; got 'rel_pos_local_attn'.*change_attention_model",
        ),
        (
            dict(conv_norm_type="instance_norm"),
            [8, 0],
            "norm_type must be one of 'layer_norm'.*; got 'instance_norm'",
        ),
        (dict(subsampling="vggnet"), [8, 0], "encoder.subsampling must be 'striding' or .*; got 'vggnet'"),
        (
            dict(reduction="pooling", reduction_position=1, reduction_factor=2),
            [8, 0],
            "reduction must be null.*layer 1",
        ),
        ({}, [8, 2], r"right context of 0 .*; got \[8, 2\].* 2 frames ahead, 4 in all.*\[8, 0\].*chunked_limited"),
        ({}, [-1, -1], r"right context >= 0 .*; got \[-1, -1\], which needs the whole signal"),
        ({}, "lwo", "Did you mean 'low'"),
        ({}, [8, -2], r"\[8, -2\]"),
        (CHUNKED, [70, 3], "multiple of right . 1 = 4"),
        (CHUNKED, [8, -1], r"right context >= 0 .*; got \[8, -1\]"),
    ],
    ids=str,
)
def test_what_cannot_be_streamed_is_refused_with_the_reason(changes, context, said):
    with pytest.raises(ValueError, match=said):
        EncoderStream(TinyModel(**changes), context)


def test_limited_chunks_with_right_context_are_refused():
    model = TinyModel()
    model.encoder.att_context_style = "chunked_limited_with_rc"
    with pytest.raises(ValueError, match="must be 'regular' or .*; got 'chunked_limited_with_rc'.* adds up over"):
        EncoderStream(model, [8, 2, 2])


def test_enabled_adapters_are_refused(regular, monkeypatch):
    monkeypatch.setattr(type(regular.encoder.layers[1]), "is_adapter_available", lambda layer: True)
    with pytest.raises(ValueError, match=r"no enabled adapters in a stream; got some in the layers \[0, 1\]"):
        EncoderStream(regular, [8, 0])


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("encoder", "model must be a model with a ConformerEncoder; got .*TinyModel.*Identity"),
        ("preprocessor", "preprocessor must be an AudioToMelSpectrogramPreprocessor; got Identity"),
    ],
)
def test_a_model_without_the_parts_is_refused(without, said):
    model = TinyModel()
    setattr(model, without, nn.Identity())
    with pytest.raises(TypeError, match=said):
        EncoderStream(model, [8, 0])


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (dict(batch_size=0), ValueError, "batch_size must be a whole number >= 1; got 0"),
        (dict(batch_size=1.5), TypeError, "batch_size must be a whole number >= 1; got 1.5"),
        (dict(frames_per_step=0), ValueError, "frames_per_step must be a whole number >= 1; got 0"),
        (dict(frames_per_step="2"), TypeError, "frames_per_step must be a whole number >= 1; got '2'"),
        (dict(max_history=100), ValueError, r"max_history must be None .* context \[8, 0\]; got 100"),
        (dict(context="unlimited", max_history=0), ValueError, "max_history must be a whole number >= 1; got 0"),
        (dict(layers=[2]), ValueError, r"layers\[0\] must be a whole number from -2 to 1; got 2"),
        (dict(layers=[0, -3]), ValueError, r"layers\[1\] must be a whole number from -2 to 1; got -3"),
        (dict(layers=[0, -2]), ValueError, r"layers must be different whole numbers from -2 to 1.*; got \[0, -2\]"),
        (dict(layers=[0.5]), TypeError, r"layers\[0\] must be a whole number from -2 to 1; got 0.5"),
        (dict(layers=1), TypeError, "layers must be a list of different whole numbers.*; got 1"),
        (dict(cuda_graphs=True), ValueError, "cuda_graphs must be None or False for a model on cpu; got True"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(regular, arguments, error, said):
    with pytest.raises(error, match=said):
        EncoderStream(regular, **arguments)


def test_parts_of_chunks_in_a_step_are_refused(chunked):
    with pytest.raises(ValueError, match="frames_per_step must be a multiple .* 7 encoder frames; got 10. Use 14"):
        EncoderStream(chunked, [14, 6], frames_per_step=10)


@pytest.mark.parametrize(
    ("context", "max_history", "limit", "first"),
    [([8, 0], None, 8, 8), ([-1, 0], None, None, 128), ([-1, 0], 140, 140, 128), ([-1, 0], 5, 5, 5)],
    ids=str,
)
def test_history_is_bounded_by_the_left_context_or_by_max_history(context, max_history, limit, first):
    context = AttentionContext.parse(context)
    assert history_limit(context, max_history) == limit
    assert first_history(context, limit) == first


@pytest.mark.parametrize("layers", [None, [], (-1, 0), range(2), np.array([1, 0])], ids=str)
def test_layers_become_rising_indices(layers):
    assert layer_indices(layers, 2) == ([] if layers is None or len(layers) == 0 else [0, 1])


@pytest.mark.parametrize(
    ("wanted", "device", "limit", "used"),
    [
        (None, "cpu", 8, False),
        (False, "cpu", 8, False),
        (None, "cuda", 8, True),
        (None, "cuda", None, True),
        (True, "cuda", 8, True),
        (False, "cuda", 8, False),
    ],
)
def test_cuda_graphs_are_used_on_a_gpu_unless_they_are_turned_off(wanted, device, limit, used):
    context = AttentionContext(left=-1 if limit is None else limit, right=0)
    assert uses_cuda_graphs(wanted, torch.device(device), context, limit) is used


def test_cuda_graphs_of_a_growing_history_are_refused():
    with pytest.raises(ValueError, match=r"cuda_graphs must be None or False for context \[-1, 0\].*max_history"):
        uses_cuda_graphs(True, torch.device("cuda"), AttentionContext(left=-1, right=0), None)
