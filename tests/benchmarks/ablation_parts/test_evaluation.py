"""The models of the ablation's arms."""

import pytest
import torch
from ablation_parts.arms import BASE_ARM, SIZES, Arm, arm_named
from ablation_parts.arms import CONTEXTS as PAIRS
from ablation_parts.evaluation import build_model

TINY = SIZES["tiny"]


@pytest.mark.slow
def test_the_sparser_arm_has_as_many_targets_as_tail_and_random():
    from nemo.collections.asr.modules.ssl_modules.mask_audit import audit_masks

    def targets(arm: Arm) -> float:
        masking = build_model(arm, TINY, 0).mask_processor
        lengths = torch.full((2000,), 1200)
        counts = []
        for left, _ in PAIRS:
            masking.left_context_size = left
            mask = masking.sample(lengths, 1200, generator=torch.Generator().manual_seed(0))
            counts.append(audit_masks(mask, lengths, left, 8).targets.double().mean())
        return float(sum(counts)) / len(counts)

    sparser = targets(arm_named("sliding, sparser"))
    for arm in ("tail", "random"):
        assert sparser == pytest.approx(targets(arm_named(arm)), rel=0.03)


def test_a_seed_changes_the_weights_and_not_the_tokenizer():
    models = [build_model(BASE_ARM, TINY, seed) for seed in (0, 1)]
    first, other = (model.encoder.state_dict()["layers.0.self_attn.linear_q.weight"] for model in models)
    assert not torch.equal(first, other)
    tokenizers = [model.quantizer.state_dict() for model in models]
    assert tokenizers[0] and all(torch.equal(tokenizers[0][key], tokenizers[1][key]) for key in tokenizers[0])
