"""One callback samples the contexts of training, and a checkpoint keeps where it was."""

import pytest

from nemo.collections.asr.parts.attention_context import ContextSampler
from nemo.collections.asr.parts.attention_context.callback import ContextSampling, load_sampler, save_sampler


class Model:
    def __init__(self):
        self.logged = []

    def log_dict(self, metrics):
        self.logged.append(metrics)


@pytest.fixture
def context(tiny_model):
    return tiny_model().attention_context


def test_each_batch_gets_the_next_context_and_logs_it(context):
    callback, model = ContextSampling(context), Model()
    for batch in range(4):
        callback.on_train_batch_start(None, model, None, batch)
        assert context.current == context.sampler.at(batch)
        callback.on_train_batch_end(None, model, None, None, batch)
    lefts = [float(context.sampler.at(batch).left) for batch in range(4)]
    assert model.logged == [{"att_context_left": left, "att_context_right": 0.0} for left in lefts]


def test_a_checkpoint_goes_on_where_it_was(context, tiny_model):
    context.sampler.count = 7
    checkpoint = {}
    save_sampler(context, checkpoint)
    other = tiny_model().attention_context
    load_sampler(other, checkpoint)
    assert other.sampler.count == 7


def test_checkpoints_of_0_1_0_and_of_nemo_are_taken(context):
    load_sampler(context, {"state_dict": {}})
    assert context.sampler.count == 0
    load_sampler(context, {"context_sampler": {"seed": 0, "count": 3}})
    assert context.sampler.count == 3
    load_sampler(context, {"callbacks": {"ContextDrawing": {"seed": 0, "count": 5}}})
    assert context.sampler.count == 5


def test_a_checkpoint_of_another_seed_is_refused(context):
    checkpoint = {"context_sampler": ContextSampler([[8, 0], [16, 0], [-1, 0]], seed=1).state_dict()}
    with pytest.raises(
        ValueError, match="model.context_seed must be 1, as in the run that the checkpoint is of; got 0"
    ):
        load_sampler(context, checkpoint)


def test_a_model_without_contexts_has_nothing_to_keep():
    checkpoint = {}
    save_sampler(None, checkpoint)
    load_sampler(None, {"context_sampler": {"seed": 0, "count": 3}})
    assert checkpoint == {}
