"""What the tokenizer of the shipped config makes of the demo's corpus."""

import json

import pytest
import soundfile
import torch
from nest_tools.corpus import make_corpus

from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor, RandomProjectionVectorQuantizer


def perplexity(ids: torch.Tensor) -> float:
    counts = torch.bincount(ids.flatten()).double()
    shares = counts[counts > 0] / counts.sum()
    return float((-(shares * shares.log()).sum()).exp())


@pytest.mark.slow
def test_targets_do_not_collapse_as_they_do_without_normalisation(tiny_config, tmp_path):
    pytest.importorskip("espeakng_loader")
    corpus = make_corpus(tmp_path, progress=False)
    cfg = tiny_config({"num_classes": 8192})
    preprocessor = AudioToMelSpectrogramPreprocessor(
        **{key: value for key, value in cfg.preprocessor.items() if key != "_target_"}
    ).eval()
    options = {key: value for key, value in cfg.quantizer.items() if key != "_target_"}
    assert options["normalize"] == "per_feature" and options["num_classes"] == 8192
    ids = {"per_feature": [], "none": []}
    quantizers = {}
    for normalize in ids:
        torch.manual_seed(0)
        quantizers[normalize] = RandomProjectionVectorQuantizer(**{**options, "normalize": normalize})
    for line in corpus.train_manifest.read_text().splitlines():
        audio, _ = soundfile.read(corpus.folder / json.loads(line)["audio_filepath"], dtype="float32")
        features, lengths = preprocessor(input_signal=torch.from_numpy(audio)[None], length=torch.tensor([len(audio)]))
        for normalize, quantizer in quantizers.items():
            _, tokens = quantizer(input_signal=features, input_lengths=lengths)
            ids[normalize].append(tokens[0, : lengths[0] // 8, 0])
    figures = {normalize: perplexity(torch.cat(tokens)) for normalize, tokens in ids.items()}
    assert figures["per_feature"] > 300
    assert figures["none"] < 10
