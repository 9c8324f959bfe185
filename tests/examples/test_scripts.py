"""What all scripts have in common: they stand on the library alone, and meet folders of audio in one way."""

import ast
import json
from pathlib import Path

import context_report
import extract_features
import numpy as np
import pytest
import soundfile
import stream_features

SCRIPTS = Path(extract_features.__file__).parent
RATE = 16000


def python_files() -> list[Path]:
    return sorted(SCRIPTS.rglob("*.py"))


def imported_by(file: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_no_script_imports_another():
    commands = {file.stem for file in SCRIPTS.glob("*.py")}
    assert len(commands) >= 8
    for file in python_files():
        assert not commands & {name.split(".")[0] for name in imported_by(file)}, file


def test_the_worker_that_speaks_imports_from_the_standard_library_alone():
    worker = SCRIPTS / "nest_tools/corpus/espeak_worker.py"
    assert imported_by(worker) == {"ctypes", "json", "os", "sys"}


def private_names(file: Path) -> set[str]:
    """Private names that a file takes from modules and objects other than its own."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names if alias.name.startswith("_")}
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                found.add(node.attr)
    return found


def test_nothing_private_of_others_is_used():
    public = {"_asdict", "_replace"}  # of named tuples
    for file in python_files():
        assert not private_names(file) - public, file


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory) -> Path:
    """A real folder of audio: good files, and many a bad one."""
    folder = tmp_path_factory.mktemp("folder")
    tiny_model().save_to(str(folder / "model.nemo"))
    samples = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    for name in ("good.wav", "again/good.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, samples, RATE)
    soundfile.write(folder / "integers.wav", samples, RATE, subtype="PCM_32")
    soundfile.write(folder / "stereo.wav", np.stack([samples, samples], axis=1), RATE)
    soundfile.write(folder / "slow.wav", samples[:8000], 8000)
    soundfile.write(folder / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(folder / "no_samples.wav", samples[:0], RATE)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is no audio\n")
    (folder / "truncated.wav").write_bytes((folder / "good.wav").read_bytes()[:9000])
    return folder


BAD = ("nan.wav", "no_samples.wav", "empty.wav", "text.wav", "truncated.wav", "missing.wav")
OTHERS = ("stereo.wav", "slow.wav")
GOOD = ("good.wav", "again/good.wav", "integers.wav")


def run(script, folder: Path, out: Path, names: tuple[str, ...], *options: str) -> int:
    """Gives a script the files in the form that it takes."""
    model, files = str(folder / "model.nemo"), [str(folder / name) for name in names]
    if script is context_report:
        manifest = out.with_suffix(".json")
        manifest.write_text("".join(json.dumps({"audio_filepath": file}) + "\n" for file in files))
        files = ["--manifest", str(manifest), "--draws", "1"]
    device = [] if script is context_report else ["--device", "cpu"]
    return script.main(["--model", model, "--context", "8,0", "--out", str(out), *device, *files, *options])


@pytest.mark.slow
@pytest.mark.parametrize("script", [extract_features, stream_features, context_report], ids=lambda s: s.__name__)
def test_bad_files_are_named_and_skipped_and_the_rest_is_done(script, folder, tmp_path, capsys):
    if script is context_report:
        pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    assert run(script, folder, out, (GOOD[0], *BAD, *OTHERS, *GOOD[1:])) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert [any(name in line for line in told) for name in (*BAD, *OTHERS)] == [True] * 8 and len(told) == 8
    assert not list(out.rglob("*partial*"))
    if script is context_report:
        assert json.loads((out / "report.json").read_text())["utterances"] == len(GOOD)
        return
    assert sorted(file.name for file in out.iterdir()) == ["good-1.npz", "good.npz", "integers.npz"]
    for file in out.iterdir():
        arrays = np.load(file)
        assert all(len(arrays[name]) > 10 and np.isfinite(arrays[name]).all() for name in arrays)


@pytest.mark.slow
@pytest.mark.parametrize("script", [extract_features, stream_features, context_report], ids=lambda s: s.__name__)
def test_all_is_well_where_files_are_good_or_to_be_converted(script, folder, tmp_path, capsys):
    if script is context_report:
        pytest.importorskip("matplotlib")
    assert run(script, folder, tmp_path / "good", GOOD) == 0
    assert run(script, folder, tmp_path / "converted", (*GOOD, *OTHERS), "--convert") == 0
    assert "left out" not in capsys.readouterr().err


def test_frames_of_files_and_live_frames_are_made_of_the_same_samples(folder, tmp_path):
    for script in (extract_features, stream_features):
        assert run(script, folder, tmp_path / script.__name__, (*GOOD, *OTHERS), "--convert") == 0
    for file in (tmp_path / "extract_features").iterdir():
        live = np.load(tmp_path / "stream_features" / file.name)["encoded"]
        np.testing.assert_allclose(np.load(file)["8,0"], live, rtol=0, atol=1e-4)


@pytest.mark.parametrize("script", [extract_features, stream_features, context_report], ids=lambda s: s.__name__)
def test_nothing_is_written_where_nothing_can_be_used(script, folder, tmp_path, capsys):
    try:
        code = run(script, folder, tmp_path / "out", BAD)
    except ValueError as error:
        code = 1 if "no utterance can be used" in str(error) else 0
    assert code == 1 and not list((tmp_path / "out").rglob("*"))
