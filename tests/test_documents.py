"""The documents: every block of Python and YAML in them works, every message is explained, every link is there.

Their shell commands are run in `test_commands.py`.
"""

import ast
import re
from pathlib import Path

import pytest
from document_blocks import GUIDE, QUICK_START, REPOSITORY, blocks
from hydra.utils import instantiate
from omegaconf import OmegaConf

pytestmark = pytest.mark.documents

DOCUMENTS = ["README.md", GUIDE, "MASKING_SYNC_SUMMARY.md"]


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


def test_no_block_of_code_goes_untested():
    tested = {
        "README.md": {"python", "bash"},
        GUIDE: {"python", "yaml"},
        "MASKING_SYNC_SUMMARY.md": {"python"},
        QUICK_START: {"python", "bash"},
    }
    for document, languages in tested.items():
        fences = re.findall(r"^ *```(\w*)$", (REPOSITORY / document).read_text(encoding="utf-8"), flags=re.M)
        assert set(fences[::2]) == languages and set(fences[1::2]) == {""}


HOLE = "\N{HORIZONTAL ELLIPSIS}"


def template(text: ast.expr) -> str:
    """A message as the source has it, with a hole for each value that is put in."""
    if isinstance(text, ast.Constant):
        return str(text.value)
    if isinstance(text, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else HOLE for part in text.values)
    if isinstance(text, ast.BinOp):
        return template(text.left) + template(text.right)
    return HOLE


def messages_of(file: Path) -> list[str]:
    """What a module raises and warns of, and what its `describe_...` functions make for that purpose."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found += node.exc.args[:1]
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            message_at = {"warn_once": 2, "warning": 0, "warn": 0}.get(called)
            found += [] if message_at is None else [node.args[message_at]]
        elif isinstance(node, ast.FunctionDef) and node.name in ("describe_copies", "describe_failure"):
            found += [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
    return [text for text in map(template, found) if re.search(r"\w", text)]


def test_the_guide_explains_every_message_and_no_other():
    guide = (REPOSITORY / GUIDE).read_text(encoding="utf-8")
    _, section = guide.split("## Messages, and what to do")
    first_cells = re.findall(r"^\| (`.+`) \| .+ \|$", section, flags=re.M)
    rows = [row for cell in first_cells for row in re.findall("`(.+?)`", cell)]
    folders = ("nemo/**", "nemo_overlay", "examples/asr/speech_pretraining")
    files = [file for folder in folders for file in REPOSITORY.glob(f"{folder}/*.py")]
    messages = {message for file in files for message in messages_of(file)}
    assert len(messages) > 90

    def explains(row: str, message: str) -> bool:
        """It quotes the message, and more of it than `... is ..., but ...` quotes of most."""
        quoted, words = (len(re.sub(rf"\.\.\.|{HOLE}", "", text)) for text in (row, message))
        parts = ".*".join(map(re.escape, row.split("...")))
        return quoted >= min(19, words / 2) and re.search(parts, message, flags=re.S) is not None

    stale = [row for row in rows if not any(explains(row, message) for message in messages)]
    missing = [message for message in messages if not any(explains(row, message) for row in rows)]
    assert not stale and not missing


def anchors_of(document: Path) -> set[str]:
    """The headings of a document, as links name them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, "CONTRIBUTING.md", "CHANGELOG.md", QUICK_START])
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
