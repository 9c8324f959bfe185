"""An encoder whose attention is computed in blocks, against the same encoder with NeMo's masks."""

import pytest
import torch
from attention_cases import HAS_RC, tiny_encoder
from torch.utils.checkpoint import checkpoint

from nemo.collections.asr.modules import ConformerEncoder
from nemo.collections.asr.parts.submodules.blockwise_attention import BlockwiseMask
from nemo.collections.asr.parts.submodules.blockwise_choice import blockwise_mask

FRAMES, LENGTHS = 1640, [1640, 900, 8]


def features() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"audio_signal": torch.randn(len(LENGTHS), 8, FRAMES), "length": torch.tensor(LENGTHS)}


def both(**arguments) -> tuple[ConformerEncoder, ConformerEncoder]:
    return tiny_encoder(blockwise_attention=False, **arguments), tiny_encoder(blockwise_attention=True, **arguments)


def outputs_and_gradients(encoder: ConformerEncoder) -> list[torch.Tensor]:
    output, lengths = encoder(**features())
    past = torch.arange(output.shape[2]) >= lengths[:, None]
    output.masked_fill(past[:, None], 0).square().mean().backward()
    return [output, *(parameter.grad for parameter in encoder.parameters())]


def assert_equal_training(theirs: ConformerEncoder, ours: ConformerEncoder) -> None:
    for one, other in zip(outputs_and_gradients(ours), outputs_and_gradients(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "style, context",
    [
        ("regular", [8, 0]),
        ("regular", [24, 7]),
        ("regular", [-1, 0]),
        ("regular", [-1, -1]),
        ("chunked_limited", [28, 6]),
        ("chunked_limited", [-1, 6]),
    ],
)
def test_training_gives_nemos_outputs_and_gradients(style, context):
    assert_equal_training(*(encoder.train() for encoder in both(att_context_style=style, att_context_size=context)))


@pytest.mark.skipif(not HAS_RC, reason="the installed NeMo has no style chunked_limited_with_rc")
def test_chunks_with_right_context_give_nemos_outputs():
    theirs, ours = (encoder.eval() for encoder in both(att_context_style="chunked_limited_with_rc"))
    for encoder in (theirs, ours):
        encoder.att_context_size = [28, 7, 3]
    with torch.no_grad():
        torch.testing.assert_close(ours(**features())[0], theirs(**features())[0], rtol=0, atol=1e-5)


def test_weights_have_nemos_names():
    theirs, ours = both()
    assert list(theirs.state_dict()) == list(ours.state_dict())


def test_layers_are_given_no_mask_of_all_pairs():
    encoder, masks = tiny_encoder(att_context_size=[8, 0]).eval(), []
    encoder.layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: masks.append(kwargs["att_mask"]), with_kwargs=True
    )
    with torch.no_grad():
        encoder(**features())
    assert isinstance(masks[0], BlockwiseMask)
    assert masks[0].lengths.shape == (len(LENGTHS),)


def test_nothing_as_large_as_all_pairs_is_made():
    """In no operation of forward and backward."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Largest(TorchDispatchMode):
        frames, sizes = 0, ()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor) and tensor.dim() > 1:
                    self.sizes = (*self.sizes, tuple(tensor.shape[-2:]))
            return result

    frames = FRAMES // 8 + 1
    for setting, expected in ((True, False), (False, True)):
        encoder = tiny_encoder(att_context_size=[8, 0], blockwise_attention=setting).train()
        with Largest() as seen:
            encoder(**features())[0].sum().backward()
        assert ((frames, frames) in seen.sizes) is expected


def test_activation_checkpointing_recomputes_the_same():
    """With dropout, and with contexts that are sampled: the recomputed forward has the same mask and weights."""
    gradients = []
    for recompute in (False, True):
        encoder = tiny_encoder(att_context_size=[24, 0], dropout_att=0.2).train()
        if recompute:
            for layer in encoder.layers:
                layer.forward = _checkpointed(layer.forward)
        torch.manual_seed(3)
        gradients.append(outputs_and_gradients(encoder))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def _checkpointed(forward):
    return lambda **arguments: checkpoint(forward, use_reentrant=False, **arguments)


@pytest.mark.slow
def test_compiled_layers_give_the_same_and_compile_once_for_all_left_contexts():
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    theirs, ours = (encoder.eval() for encoder in both())
    for layer in ours.layers:
        layer.compile(backend=counter, dynamic=True)
    for context in ([8, 0], [24, 0], [16, 0], [32, 0], [-1, 0]):
        theirs.att_context_size = ours.att_context_size = context
        with torch.no_grad():
            torch.testing.assert_close(ours(**features())[0], theirs(**features())[0], rtol=0, atol=1e-5)
    assert counter.frame_count <= 4


@pytest.mark.slow
def test_a_compiled_encoder_gives_what_an_eager_one_gives():
    theirs, ours = (encoder.eval() for encoder in both(att_context_size=[24, 0]))
    masks = []
    ours.layers[0].self_attn.linear_pos.register_forward_pre_hook(lambda _, args: masks.append(args[0].shape[0]))
    with torch.inference_mode():
        output = torch.compile(ours, backend="eager")(**features())[0]
        torch.testing.assert_close(output, theirs(**features())[0], rtol=0, atol=1e-5)
    assert masks == [25]  # positions of the context alone


@pytest.mark.slow
def test_compiled_layers_train_as_eager_ones():
    theirs, ours = (encoder.train() for encoder in both(att_context_size=[24, 0]))
    for layer in ours.layers:
        layer.compile(backend="aot_eager", fullgraph=True)
    assert_equal_training(theirs, ours)


def test_sharded_layers_train_as_whole_ones(tmp_path):
    """FSDP2: layers are `fully_shard`ed modules, whose class is another."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    theirs, ours = both(att_context_size=[24, 0])
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        for module in (*ours.layers, ours):
            fully_shard(module, mesh=mesh)
        output, _ = ours.train()(**features())
        output.square().mean().backward()
        gradients = [parameter.grad.full_tensor() for parameter in ours.parameters()]
    finally:
        distributed.destroy_process_group()
    assert isinstance(blockwise_mask(ours, [24, 0], torch.tensor(LENGTHS), FRAMES), BlockwiseMask)
    expected, _ = theirs.train()(**features())
    expected.square().mean().backward()
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(gradients, theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=1e-5, atol=1e-5)


def test_autocast_gives_nemos_rounding():
    theirs, ours = (encoder.eval() for encoder in both(att_context_size=[24, 0]))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ours(**features())[0], theirs(**features())[0], rtol=0.05, atol=0.05)


def test_training_runs_on_the_meta_device_without_reading_values():
    encoder = tiny_encoder(att_context_size=[24, 0], dropout_att=0.1).to("meta").train()
    encoder(
        audio_signal=torch.empty(2, 8, FRAMES, device="meta"),
        length=torch.empty(2, dtype=torch.long, device="meta"),
    )[0].sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_a_streaming_step_gets_nemos_mask():
    encoder = tiny_encoder(att_context_size=[8, 0]).eval()
    masks = []
    encoder.layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: masks.append(kwargs["att_mask"]), with_kwargs=True
    )
    channel, time, lengths = encoder.get_initial_cache_state(batch_size=1)
    with torch.no_grad():
        encoder.cache_aware_stream_step(
            processed_signal=torch.randn(1, 8, 25),
            processed_signal_length=torch.tensor([25]),
            cache_last_channel=channel,
            cache_last_time=time,
            cache_last_channel_len=lengths,
        )
    assert isinstance(masks[0], torch.Tensor)


@pytest.mark.parametrize("key", [{}, {"blockwise_attention": "auto"}, {"blockwise_attention": False}])
def test_a_config_may_have_the_key_or_not(key):
    arguments = {"feat_in": 8, "n_layers": 1, "d_model": 16, "n_heads": 2, "subsampling_conv_channels": 4}
    encoder = ConformerEncoder.from_config_dict(
        {"_target_": "nemo.collections.asr.modules.ConformerEncoder", **arguments, **key}
    )
    assert encoder.blockwise_attention == key.get("blockwise_attention", "auto")
