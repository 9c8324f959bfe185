"""The sides of the training step: their recipes, and the process of each."""

import pytest
from omegaconf import OmegaConf
from training_step_parts.sides import CONFIG, OFFLINE, STREAMING_KEYS, Side, model_config


def test_the_streaming_side_has_the_shipped_recipe_and_the_others_one_that_nemo_can_train():
    shipped = OmegaConf.load(CONFIG).model
    streaming = model_config("ours, streaming", "small")
    assert streaming.masking == shipped.masking and streaming.encoder.d_model == 176
    theirs = model_config("NeMo", "small")
    assert theirs == model_config("ours", "small")
    assert all(OmegaConf.select(theirs, key) == value for key, value in OFFLINE.items())
    assert all(OmegaConf.select(theirs, key) is None for key in (*STREAMING_KEYS, "target_shift", "context_seed"))


def test_the_future_side_differs_from_the_streaming_one_in_its_objective_alone():
    future, streaming = (model_config(f"ours, {name}", "small") for name in ("future", "streaming"))
    assert future.objective == {"masked": 0.0, "future": 1.0, "steps": 2}
    assert (future.num_books, future.num_classes) == (4, 1024) and future.decoder.num_classes == 1024
    same = set(streaming) - {"num_books", "num_classes"}
    assert {key for key in same if OmegaConf.select(future, key) != OmegaConf.select(streaming, key)} <= {
        *("quantizer", "decoder", "loss")  # which refer to books and codes
    }


ANSWERS = """
import json, os, sys
for number, _ in enumerate(sys.stdin):
    if number == 2:
        sys.exit("no third step")
    print(json.dumps({"step": number, "overlay": os.environ["NEMO_OVERLAY"], "options": sys.argv[1:]}), flush=True)
"""


def test_a_side_answers_step_by_step_and_its_end_is_named_with_its_last_words(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ANSWERS)
    side = Side("NeMo", script, ["--batch", "2"])
    assert [side.step() for _ in range(2)] == [
        {"step": step, "overlay": "0", "options": ["--batch", "2", "--side", "NeMo"]} for step in range(2)
    ]
    with pytest.raises(SystemExit, match="NeMo ended with status 1:\n"):
        side.step()
    side.end()
    assert side.process.returncode == 1
