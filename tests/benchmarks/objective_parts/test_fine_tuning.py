"""Fine-tuning on the phones of frames."""

import pytest
import torch
from nest_tools.probe.labels import FrameLabels
from objective_parts.arms import CONTEXTS, SIZES, arm_named
from objective_parts.fine_tuning import LabelledCrops, PhoneTagger, accuracy, fine_tune, labelled_features
from objective_parts.models import build_model
from objective_parts.speech import read_speech
from phone_corpus import write_phone_corpus

TINY = SIZES["tiny"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A model, what numbers its phones, and labelled features of the training part."""
    speech = read_speech(write_phone_corpus(tmp_path_factory.mktemp("corpus")))
    model = build_model(arm_named("none"), TINY, 0).eval()
    number = FrameLabels(model, speech.labels)
    return model, number, labelled_features(speech.train, model, number)


def test_a_crop_has_the_labels_of_the_frames_that_its_tokens_have():
    shift, factor = 1, 8
    features = torch.arange(400.0).expand(80, 400)
    numbers = torch.arange(51)
    crops = LabelledCrops([(features, numbers)], factor, shift, batch=5, seconds=1.0, seed=0)
    batch, lengths, labels = crops.next()
    assert batch.shape == (5, 80, 96) and lengths.tolist() == [96] * 5 and labels.shape == (5, 12)
    first = batch[:, 0, 0] / factor  # the token that a crop begins with
    assert (labels[:, 0] == -1).all() and len(first.unique()) > 1
    # Frame k of a crop has newly heard token k - 1 of it, and number n stands for token n - 1 of the utterance.
    assert torch.equal(labels[:, 1:], first.long()[:, None] + torch.arange(1, 12))


def test_every_frame_of_an_utterance_has_the_phone_that_it_has_newly_heard(labelled):
    model, number, utterances = labelled
    features, labels = utterances[0]
    assert len(labels) == features.shape[1] // 8 + 1 and labels[0] == -1
    # Phones of 0.4 s are five tokens long.
    assert labels[1:11].tolist() == [0] * 5 + [1] * 5


def test_padding_and_frames_without_a_phone_do_not_count(labelled):
    model, number, utterances = labelled
    tagger = PhoneTagger(model, 2).eval()
    short = (utterances[0][0][:, :80], utterances[0][1][:10])
    whole = accuracy(tagger, [utterances[0], short], [80, 0])
    parts = [(accuracy(tagger, [one], [80, 0]), int((one[1] >= 0).sum())) for one in (utterances[0], short)]
    assert whole == pytest.approx(sum(share * known for share, known in parts) / sum(known for _, known in parts))


def test_fine_tuning_depends_on_its_seed_alone(labelled):
    model, number, utterances = labelled
    import copy

    first, again = (fine_tune(copy.deepcopy(model), utterances, utterances[:2], number, TINY, 0) for _ in range(2))
    assert first == again and set(first) == {str(context) for context in CONTEXTS}
