"""The linear probe for phones: equal accuracies live and offline, and what is refused."""

import pytest
import torch
from labelled_speech import PHONES, speech
from nest_tools.probe import note, probe, table, untrained


def test_live_frames_score_as_offline_frames_do(tiny_model):
    model = tiny_model()
    train, test = [speech(2.4, PHONES, seed) for seed in range(3)], [speech(2.4, PHONES, 9)]
    rows = probe(model, train, test, [[8, 0], [-1, 0]], progress=False)
    assert [row["frames"] for row in rows] == ["[8, 0]", "[-1, 0]", "log-mels", "most frequent phone"]
    assert all(row["online"] == row["offline"] for row in rows[:2])
    assert 0.5 < rows[3]["offline"] < 1
    assert all(0 < row["last_layer"] <= 1 for row in rows[:2])
    assert f"| [8, 0] | {100 * rows[0]['offline']:.1f} % |" in table(rows)
    assert "of 2 phones: fitted on 0 minutes" in note(rows, train, test, 16000)


def test_chunks_are_streamed_whole_and_what_cannot_stream_says_why(tiny_model):
    train, test = [speech(2.4, PHONES, 0)], [speech(2.4, PHONES, 9)]
    style = {"encoder.att_context_style": "chunked_limited", "encoder.att_context_size": [[14, 6], [14, 13]]}
    chunked = probe(tiny_model(style), train, test, [[14, 6], [14, 13]], baselines=False, progress=False)
    assert all(row["online"] == row["offline"] for row in chunked)
    offline = tiny_model({"encoder.causal_downsampling": False})
    row = probe(offline, train, test, [[8, 0]], baselines=False, progress=False)[0]
    assert row["online"] is None and "causal_downsampling" in row["not_streamed"] and row["offline"] > 0
    assert "Not streamed: " in note([row], train, test, 16000)
    with pytest.raises(ValueError, match="Did you mean 'low'"):
        probe(offline, train, test, [[8, 0], "lwo"], progress=False)
    with pytest.raises(ValueError, match="test must hold at least one utterance"):
        probe(offline, train, [], [[8, 0]], progress=False)


def test_an_untrained_model_has_the_same_config_and_other_weights(tiny_model):
    model = tiny_model(seed=1)
    random = untrained(model)
    assert type(random) is type(model) and random.cfg.encoder == model.cfg.encoder
    name = next(name for name, weights in model.named_parameters() if weights.dim() > 1)
    assert not torch.equal(random.state_dict()[name], model.state_dict()[name])
