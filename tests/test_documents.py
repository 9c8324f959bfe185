"""The documents: every block of Python and YAML in them works, every link is there.

Their shell commands are run in `test_commands.py`.
"""

import re
from pathlib import Path

import pytest
from document_blocks import GUIDE, QUICK_START, REPOSITORY, blocks
from hydra.utils import instantiate
from omegaconf import OmegaConf

pytestmark = pytest.mark.documents

DOCUMENTS = ["README.md", GUIDE, "MASKING_SYNC_SUMMARY.md"]
TOPICS = [f"docs/{file.name}" for file in sorted((REPOSITORY / "docs").glob("*.md"))]


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


def test_yaml_blocks_are_of_keys_that_the_shipped_config_has_and_do_what_is_said(tiny_config):
    from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
    from nemo.collections.asr.parts.utils.streaming_utils import set_dynamic_context

    shipped = OmegaConf.load(REPOSITORY / "examples/asr/conf/ssl/nest/nest_fast-conformer_streaming_dynamic.yaml")
    found = [OmegaConf.create(block) for block in blocks(GUIDE, "yaml")]
    for part, sections in (item for block in found for item in block.items()):
        for key, section in sections.items():
            assert key in shipped[part] or key == "context_presets"  # whose names are the user's own
            if OmegaConf.is_dict(section) and key in shipped[part] and "_target_" not in section:
                assert set(section) <= set(shipped[part][key])

    config = tiny_config()
    for block in found:
        config = OmegaConf.merge(config, block.get("model", {}))
    model = EncDecDenoiseMaskedTokenPredModel(config)
    assert [context.as_list() for context in model.encoder.context.trained] == [
        [80, 0],
        [160, 0],
        [320, 0],
        [-1, 0],
    ]
    assert model.mask_processor.causal and model.mask_processor.causal_window == "sliding"
    assert set_dynamic_context(model, "meeting") == [400, 0] and set_dynamic_context(model, "low") == [120, 0]
    strategies = [block.trainer.strategy for block in found if "trainer" in block]
    assert [type(instantiate(strategy)).__name__ for strategy in strategies] == ["ModelParallelStrategy"]


TESTED = {
    "README.md": {"python", "bash"},
    GUIDE: {"python", "yaml"},
    "MASKING_SYNC_SUMMARY.md": {"python"},
    QUICK_START: {"python", "bash"},
    "docs/objective.md": {"bash"},
}
"""Documents with blocks of code, and the languages of those that tests run."""


def test_no_block_of_code_goes_untested():
    for document, languages in TESTED.items():
        fences = re.findall(r"^ *```(\w*)$", (REPOSITORY / document).read_text(encoding="utf-8"), flags=re.M)
        assert set(fences[::2]) == languages and set(fences[1::2]) == {""}


def test_topics_are_short_and_all_of_their_blocks_are_listed():
    for document in TOPICS:
        text = (REPOSITORY / document).read_text(encoding="utf-8")
        assert len(text.splitlines()) < 200, document
        assert document in TESTED or "```" not in text, document


def anchors_of(document: Path) -> set[str]:
    """The headings of a document, as links name them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, *TOPICS, "CONTRIBUTING.md", "CHANGELOG.md", QUICK_START])
def test_links_and_named_files_exist(document):
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (REPOSITORY / document).parent / path if path else REPOSITORY / document
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), target
    for script in re.findall(r"(?:examples|benchmarks|tests)/[\w/.-]+\.py", text):
        assert (REPOSITORY / script).is_file(), script
