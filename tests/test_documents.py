"""The documents: every block of Python in them runs, every YAML key exists, every link and file is there."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "MASKING_CONTEXT_SYNC.md", "MASKING_SYNC_SUMMARY.md"]


def blocks(document: str, language: str) -> list[str]:
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.fixture(scope="module")
def folder_with_model(tiny_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    tiny_model().save_to(str(folder / "model.nemo"))
    return folder


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_blocks_run_from_top_to_bottom(document, folder_with_model, audio, monkeypatch):
    """They may use a `model` that was restored from model.nemo, and `audio` [1, N] with its `lengths` [1]."""
    from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel

    monkeypatch.chdir(folder_with_model)
    signal, lengths = audio
    names = {
        "audio": signal[:1],
        "lengths": lengths[:1],
        "model": EncDecDenoiseMaskedTokenPredModel.restore_from("model.nemo").eval(),
    }
    found = blocks(document, "python")
    assert found
    for block in found:
        exec(compile(block, document, "exec"), names)
    if document == "README.md":
        assert names["model"].mask_processor.left_context_size == -1 and len(names["output"]) == 4


def test_yaml_blocks_use_keys_of_the_shipped_config():
    config = OmegaConf.load(REPOSITORY / "examples/asr/conf/ssl/nest/nest_fast-conformer_streaming_dynamic.yaml")
    for block in blocks("MASKING_CONTEXT_SYNC.md", "yaml"):
        for part, sections in OmegaConf.create(block).items():
            for key, section in sections.items():
                if key == "context_presets":  # names are the user's own
                    continue
                assert key in config[part]
                if OmegaConf.is_dict(section) and "_target_" not in section:
                    assert set(section) <= set(config[part][key])


@pytest.mark.parametrize("document", [*DOCUMENTS, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_and_named_files_exist(document):
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        assert (target[1:] in anchors) if target.startswith("#") else (REPOSITORY / target).exists(), target
    for script in re.findall(r"(?:examples|benchmarks|tests)/[\w/.-]+\.py", text):
        assert (REPOSITORY / script).is_file(), script
