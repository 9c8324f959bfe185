"""What mypy gets to read of files that extend a module of NeMo."""

import ast

import pytest
import type_check

EXTENDED = """\
from nemo.utils.extended import Theirs as NemoTheirs

class Theirs(NemoTheirs): ...
"""


@pytest.fixture
def copies(tmp_path, monkeypatch) -> dict[str, str]:
    """The copies of a small half of ours, by path."""
    files = {
        "ours/nemo/utils/extended.py": EXTENDED,
        "ours/nemo/utils/new.py": "from nemo.utils.extended import Theirs\n",
        "ours/nemo/utils/package/__init__.py": "",
        "ours/nemo_overlay/__init__.py": "",
        "theirs/nemo/__init__.py": "",
        "theirs/nemo/utils/__init__.py": "",
        "theirs/nemo/utils/extended.py": "class Theirs: ...\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(type_check, "REPOSITORY", tmp_path / "ours")
    monkeypatch.setattr(type_check, "installed_nemo", lambda: tmp_path / "theirs/nemo")
    return {path.as_posix(): text for path, text in type_check.copies()}


def test_what_a_module_takes_from_nemos_half_of_itself_comes_from_elsewhere(copies):
    lines = copies["nemo/utils/extended.py"].splitlines()
    assert lines[:3] == [
        "from installed_nemo.utils.extended import Theirs as NemoTheirs",
        "",
        "class Theirs(NemoTheirs): ...",
    ]
    assert "def __getattr__" in lines[-1]


def test_new_modules_and_packages_are_read_as_they_are(copies):
    assert copies["nemo/utils/new.py"] == "from nemo.utils.extended import Theirs\n"
    assert copies["nemo/utils/package/__init__.py"] == ""


def test_packages_of_nemo_have_every_name(copies):
    names = {path for path, text in copies.items() if path.endswith("__init__.py") and "__getattr__" in text}
    assert names == {"nemo/__init__.py", "nemo/utils/__init__.py"}


def test_every_copy_of_our_files_is_python_with_our_lines():
    for path, text in type_check.copies():
        ours = type_check.REPOSITORY / path
        assert ast.parse(text) is not None
        if ours.is_file():
            lines = len(ours.read_text(encoding="utf-8").splitlines())
            changed = [a for a, b in zip(ours.read_text().splitlines(), text.splitlines(), strict=False) if a != b]
            assert len(text.splitlines()) >= lines and all(line.startswith("from nemo.") for line in changed)
