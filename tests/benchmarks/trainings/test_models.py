"""The small models that are trained."""

from trainings.models import MASKED_PREDICTION, demo_model

SMALL = {"encoder.n_layers": 1, "encoder.d_model": 32}


def test_changes_reach_all_that_refers_to_them():
    model = demo_model({**SMALL, "num_classes": 8})
    assert model.encoder.d_model == model.cfg.decoder.feat_in == 32 and model.quantizer.num_classes == 8
    assert model.objective.predicts_future and not model.objective.masks


def test_masked_prediction_alone_is_a_change():
    model = demo_model({**SMALL, **MASKED_PREDICTION})
    assert not model.objective.predicts_future and model.objective.masks
    assert model.quantizer.num_books == 1 and model.future_heads is None
