"""One context serves masking and attention in every training forward."""

import torch
from pretraining_batches import DENSE, loss_of, noisy_batch


def test_one_context_serves_masking_and_attention_in_every_training_forward(tiny_model, audio):
    model = tiny_model(DENSE).train()
    masked, attended = [], []
    model.mask_processor.register_forward_pre_hook(
        lambda module, args, kwargs: masked.append(kwargs["effective_left_context"]), with_kwargs=True
    )

    def attention_mask(module, args, kwargs):
        seen = (~kwargs["att_mask"][0]).sum(-1)
        attended.append(int(seen.max()))

    model.encoder.layers[0].register_forward_pre_hook(attention_mask, with_kwargs=True)
    used = []
    for _ in range(20):
        loss_of(model, *audio)
        used.append(model.current_att_context[0])
    assert masked == used and set(used) == {8, 16, -1}
    frames = 51  # of the longer utterance: floor(400 / 8) + 1
    assert attended == [frames if left < 0 else left + 1 for left in used]


def test_sampled_contexts_depend_on_seed_and_count_alone(tiny_model, audio):
    torch.manual_seed(0)
    first, other = tiny_model(DENSE).train(), tiny_model({**DENSE, "context_seed": 1}).train()

    def samples(model, number):
        for _ in range(number):
            loss_of(model, *audio)
            yield tuple(model.current_att_context)

    expected = list(samples(first, 12))
    assert expected == [(c.left, c.right) for c in map(first.context_sampler.at, range(12))]
    assert list(samples(other, 12)) != expected
    twin = tiny_model(DENSE).train()
    first_half = list(samples(twin, 5))
    twin.eval().forward(*audio, apply_mask=True)
    twin.validation_contexts = [[8, 0]]
    twin.inference_pass(noisy_batch(*audio))
    twin.train()
    torch.manual_seed(99)
    assert first_half + list(samples(twin, 7)) == expected


def test_a_forward_repeated_in_the_backward_sees_the_same_context(tiny_model, audio):
    """Activation checkpointing runs the encoder again; the next batch's context must not be drawn for it."""
    from torch.utils.checkpoint import checkpoint

    model = tiny_model({**DENSE, "encoder.dropout": 0, "encoder.dropout_pre_encoder": 0, "encoder.dropout_att": 0})
    model.train()
    features, lengths = model.preprocessor(input_signal=audio[0], length=audio[1])
    lefts = []
    layer = model.encoder.layers[0]
    layer.register_forward_pre_hook(
        lambda module, args, kwargs: lefts.append(int((~kwargs["att_mask"][0]).sum(-1).max())), with_kwargs=True
    )
    for _ in range(6):
        model.attention_context.of_next_forward()
        encoded, _ = checkpoint(
            lambda x: model.encoder(audio_signal=x, length=lengths), features.requires_grad_(), use_reentrant=False
        )
        encoded.sum().backward()
    assert lefts[0::2] == lefts[1::2] and len(set(lefts)) > 1
