"""What a training step logs of masks and codebook."""

import pytest
import torch

from nemo.collections.asr.losses.ssl_losses.mlm import MLMLoss
from nemo.collections.asr.models.masked_token_pred.training_logs import CodebookLogs, mask_logs
from nemo.collections.asr.modules import RandomBlockMasking
from nemo.collections.asr.modules.ssl_modules.codebook_health import CodebookHealth
from nemo.collections.asr.parts.attention_context import AttentionContext


def test_what_was_masked_is_logged_under_its_context():
    processor = RandomBlockMasking(feat_in=4, causal=True, subsampling_factor=2)
    masks = torch.zeros(1, 4, 8)
    masks[..., 2:6] = 1  # two whole encoder frames of four
    logs = mask_logs(processor, masks, torch.tensor([8]), AttentionContext(16, 0))
    assert logs == {"masked_fraction_16_0": torch.tensor(0.5), "targets_per_utterance_16_0": torch.tensor(2.0)}


def test_nothing_is_logged_without_a_context_or_without_causal_masking():
    masks, lengths = torch.zeros(1, 4, 8), torch.tensor([8])
    assert mask_logs(RandomBlockMasking(feat_in=4, causal=True), masks, lengths, None) == {}
    assert mask_logs(RandomBlockMasking(feat_in=4), masks, lengths, AttentionContext(16, 0)) == {}


class CountingHealth:
    """A `CodebookHealth` that counts how often its figures are computed."""

    def __init__(self):
        self.computed = 0

    def update(self, *_):
        pass

    def compute(self):
        self.computed += 1
        return {"target_perplexity": float(self.computed)}


@pytest.mark.parametrize(("every", "computed"), [(1, 6), (2, 3), (4, 1), (0, 0)])
def test_codebook_figures_are_computed_when_they_are_logged_and_kept_in_between(every, computed):
    """`trainer.log_every_n_steps=0` logs no steps."""
    logs = CodebookLogs(CountingHealth())
    for _ in range(6):
        logs.update_targets(torch.zeros(1, 2), torch.zeros(1, 2, 4))
        metrics = logs.metrics(every)
    assert logs.health.computed == computed
    assert metrics == ({"target_perplexity": float(computed)} if computed else {})


def test_frames_count_as_their_targets_alone_do():
    torch.manual_seed(0)
    log_probs, tokens = torch.randn(2, 7, 5).log_softmax(-1), torch.randint(5, (2, 6))
    masks = (torch.rand(2, 1, 12) < 0.6).float()
    loss, lengths = MLMLoss(combine_time_steps=2, target_shift=1), torch.tensor([7, 5])
    of_frames, of_targets = CodebookLogs(CodebookHealth(5)), CodebookLogs(CodebookHealth(5))
    of_frames.update_frames(loss, log_probs, lengths, masks, tokens)
    utterances, positions = loss.locate(masks, 7, lengths)
    assert len(utterances) > 1
    of_targets.update_targets(tokens[utterances, positions][None], log_probs[utterances, positions + 1][None])
    assert of_frames.metrics(1) == of_targets.metrics(1)
