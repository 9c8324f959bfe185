"""Steps of all layers, against the encoder's own layers on the whole sequence."""

import pytest
import torch
from stream_cases import CHUNKED, TinyModel

from nemo.collections.asr.parts.streaming.conformer_step import ConformerStep, sinusoids
from nemo.collections.asr.parts.streaming.subsampling_step import StreamEdges
from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionalEncoding

FACTOR, CHANNELS = 8, 16


@torch.no_grad()
def offline(model: TinyModel, context: list[int], features: torch.Tensor) -> torch.Tensor:
    """Encoder frames `[B, S, D]` of feature frames `[B, T, D]`."""
    model.encoder.att_context_size = context
    lengths = torch.full((len(features),), features.shape[1])
    return model.encoder(audio_signal=features.transpose(1, 2), length=lengths)[0].transpose(1, 2)


def edges(batch: int, past: int, first: int, stop: int) -> StreamEdges:
    return StreamEdges(*(torch.full((batch,), number) for number in (past, first, stop)))


@torch.inference_mode()
def in_steps(step: ConformerStep, features: torch.Tensor, steps: int, whole_left: bool = False) -> list[torch.Tensor]:
    """The outputs of some steps, `[B, S, D]`; the first one begins with the lead of silence.

    With `whole_left`, every step attends to the whole left context, and edges hide what is not there.
    """
    batch, taken = len(features), step.frames * FACTOR
    features = torch.cat((torch.zeros(batch, step.subsampling.lead, CHANNELS), features), dim=1)
    state, outputs = step.new_state(batch), []
    for index in range(steps):
        past = min(index * step.frames, step.left)
        around = None
        if index == 0 or whole_left or past < step.left:
            around = edges(batch, past, step.subsampling.lead if index == 0 else 0, taken)
        state.make_room(step.frames)
        piece = features[:, index * taken : (index + 1) * taken]
        outputs.append(step.step(piece, state, step.left if whole_left else past, around))
        state.used += step.frames
    return [torch.cat(frames, dim=1) for frames in zip(*outputs, strict=True)]


@pytest.mark.parametrize("whole_left", [False, True])
@pytest.mark.parametrize(("frames", "left"), [(1, 8), (3, 8), (2, 0), (5, 3)])
def test_steps_are_the_encoder_at_its_context(frames, left, whole_left):
    model, features = TinyModel(), torch.randn(2, 160, CHANNELS)
    (ours,) = in_steps(ConformerStep(model.encoder, frames, 1, left), features, 20 // frames, whole_left)
    theirs = offline(model, [left, 0], features)
    torch.testing.assert_close(ours, theirs[:, : ours.shape[1]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("whole_left", [False, True])
def test_steps_are_the_encoder_in_chunks(chunks, whole_left):
    model, features = TinyModel(**CHUNKED), torch.randn(2, 160, CHANNELS)
    (ours,) = in_steps(ConformerStep(model.encoder, 2 * chunks, 2, 6), features, 10 // chunks, whole_left)
    theirs = offline(model, [6, 1], features)
    torch.testing.assert_close(ours, theirs[:, : ours.shape[1]], rtol=0, atol=1e-5)


def test_captured_layers_come_in_rising_order_and_the_encoder_last():
    model, features = TinyModel(n_layers=3), torch.randn(1, 80, CHANNELS)
    first, second, last = in_steps(ConformerStep(model.encoder, 1, 1, 4, layers=[1, 0]), features, 5)
    (alone,) = in_steps(ConformerStep(model.encoder, 1, 1, 4), features, 5)
    assert torch.equal(last, alone)
    upper = TinyModel(n_layers=3)
    upper.encoder.layers = upper.encoder.layers[:1]
    (lower,) = in_steps(ConformerStep(upper.encoder, 1, 1, 4), features, 5)
    assert torch.equal(first, lower)
    assert not torch.equal(first, second)


def test_the_left_context_can_change():
    model, features = TinyModel(), torch.randn(1, 160, CHANNELS)
    step = ConformerStep(model.encoder, 1, 1, 2)
    step.set_left(6)
    (ours,) = in_steps(step, features, 20)
    torch.testing.assert_close(ours, offline(model, [6, 0], features)[:, :20], rtol=0, atol=1e-5)


def test_position_encodings_are_nemos():
    table = RelPositionalEncoding(d_model=CHANNELS, dropout_rate=0.0, max_len=12)
    table.extend_pe(12, torch.device("cpu"), torch.float32)
    positions = torch.arange(11.0, -12, -1)
    torch.testing.assert_close(sinusoids(positions, CHANNELS), table.pe[0], rtol=0, atol=1e-6)


def test_sizes_are_those_of_the_tensors():
    step = ConformerStep(TinyModel().encoder, 2, 1, 8)
    assert step.nbytes_of_weights == 2 * 3 * CHANNELS * CHANNELS * 4
    assert step.nbytes_of_tables == 2 * (8 + 2 * 2 - 1) * (CHANNELS + 2) * 4
    state = step.new_state(3)
    assert state.attention.shape == (2, 3, 2, 2, 8 + state.room, CHANNELS // 2)
    assert state.convolution.shape == (2, 3, 5 - 1 + state.room, CHANNELS)
