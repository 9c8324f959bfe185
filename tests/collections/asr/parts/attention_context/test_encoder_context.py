"""The one owner of an encoder's context: what evaluation, training and masking get from it, and when."""

from types import SimpleNamespace

import pytest

from nemo.collections.asr.parts.attention_context import AttentionContext, ContextSampler, EncoderContext

CONTEXTS = [[8, 0], [16, 0], [-1, 0]]


class Encoder(SimpleNamespace):
    """As much of a Conformer encoder as its context needs."""

    def setup_streaming_params(self):
        self.streaming_cfg = SimpleNamespace(cache_drop_size=0, left=self.att_context_size[0])

    def follow_context_in_local_attention(self):
        pass


@pytest.fixture
def context() -> EncoderContext:
    encoder = Encoder(
        att_context_size=[8, 0],
        att_context_size_all=CONTEXTS,
        att_context_style="regular",
        self_attention_model="rel_pos",
        training=True,
        layers=SimpleNamespace(modules=lambda: []),
    )
    encoder.setup_streaming_params()
    context = EncoderContext(encoder)
    context.sampler = ContextSampler(CONTEXTS, seed=0)
    return context


def test_a_forward_outside_of_a_batch_samples_and_counts(context):
    sampled = [context.of_next_forward() for _ in range(5)]
    assert sampled == [context.sampler.at(count) for count in range(5)] and context.sampler.count == 5
    assert context.current == sampled[-1]
    assert context.of_attention([1, 1]) == sampled[-1].as_list()


def test_all_forwards_of_a_batch_get_its_one_context(context):
    for count in range(5):
        context.begin_batch()
        assert [context.of_next_forward() for _ in range(3)] == [context.sampler.at(count)] * 3
        context.end_batch()
        # A forward that activation checkpointing repeats after the batch's last one.
        assert context.of_attention([1, 1]) == context.sampler.at(count).as_list()
    assert context.sampler.count == 5


def test_evaluation_neither_samples_nor_counts(context):
    context.encoder.training = False
    assert context.of_next_forward() == AttentionContext(8, 0) and context.sampler.count == 0
    context.encoder.att_context_size = [16, 0]  # by hand
    assert context.of_next_forward() == AttentionContext(16, 0)


def test_a_pin_holds_in_training_while_batches_are_still_counted(context):
    context.pin(AttentionContext(24, 0))
    context.begin_batch()
    assert context.of_next_forward() == AttentionContext(24, 0) == context.current
    assert context.of_attention([1, 1]) == [24, 0] and context.sampler.count == 1
    context.encoder.att_context_size = [16, 0]  # by hand, after the pin
    assert context.of_attention([1, 1]) == [16, 0]
    context.release()
    context.begin_batch()
    assert context.of_next_forward() == context.sampler.at(1)


def test_a_single_context_is_that_of_evaluation_also_when_set_by_hand(context):
    context.sampler = ContextSampler([[8, 0]])
    context.encoder.att_context_size = [40, 0]
    context.begin_batch()
    assert context.current == context.of_next_forward() == AttentionContext(40, 0)
    assert context.of_attention([40, 0]) == [40, 0]


def test_without_a_batch_attention_is_left_to_nemo(context):
    assert context.of_attention([1, 1]) == [1, 1]
    context.begin_batch()
    context.leave_to_nemo()
    assert context.of_attention([1, 1]) == [1, 1]


def test_masking_uses_the_left_context_unless_told_otherwise(context):
    assert context.left_for_masking(AttentionContext(16, 0)) == 16
    context.pin(AttentionContext(8, 0), masking_follows=False)
    assert context.left_for_masking(AttentionContext(8, 0)) is None
    context.release()
    assert context.left_for_masking(AttentionContext(8, 0)) == 8


def test_a_state_undoes_every_change(context):
    context.begin_batch()
    before, state = context.of_attention([1, 1]), context.state()
    context.pin(AttentionContext(40, 0), masking_follows=False)
    context.restore(state)
    assert context.evaluation == AttentionContext(8, 0) and not context.pinned and context.masking_follows
    assert context.of_attention([1, 1]) == before and context.encoder.streaming_cfg.left == 8


def test_a_context_that_attention_cannot_take_changes_nothing(context):
    before = context.state()
    with pytest.raises(ValueError, match="must be two numbers"):
        context.pin(AttentionContext(left=8, chunk=2, right=1))
    assert context.state() == before


def test_the_context_of_an_evaluation_is_put_back_on_an_error(context):
    with pytest.raises(RuntimeError, match="on purpose"), context.evaluating(AttentionContext(16, 0)):
        assert context.evaluation == AttentionContext(16, 0)
        raise RuntimeError("on purpose")
    assert context.encoder.att_context_size == [8, 0]


def test_the_remainder_is_that_of_the_last_sample(context):
    for count in range(3):
        context.of_next_forward()
        assert context.remainder == context.sampler.remainder_at(count)
    context.begin_batch()
    assert context.remainder == context.sampler.remainder_at(3)
    context.of_next_forward()
    assert context.remainder == context.sampler.remainder_at(3)
    context.end_batch()


def test_where_tasks_are_chosen_forwards_under_a_pinned_context_are_counted_too(context):
    context.pin(AttentionContext(8, 0))
    context.of_next_forward()
    assert context.sampler.count == 0
    context.chooses_tasks = True
    assert context.of_next_forward() == AttentionContext(8, 0)
    assert context.sampler.count == 1 and context.remainder == context.sampler.remainder_at(0)
    context.encoder.training = False
    context.of_next_forward()
    assert context.sampler.count == 1
