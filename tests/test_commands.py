"""The documents' shell commands run as they are written, on little speech and a tiny model.

What a command calls (`python`, `torchrun`, `srun`, ...) is looked up in a folder of stand-ins first. They call the
real program, and add what makes it small: fewer layers, two processes instead of eight GPUs, one node instead of four.
"""

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from document_blocks import QUICK_START, REPOSITORY, blocks

import nemo

# What makes the model small, the run short and the machine a CPU, and nothing else: batch sizes, workers, intervals of
# validation and of checkpoints are those of the documents and configs, so a fault in them is a fault here.
SMALL = """
model.num_classes=32 model.encoder.n_layers=1 model.encoder.d_model=16 model.encoder.n_heads=2
model.encoder.subsampling_conv_channels=4
trainer.max_steps=2 trainer.accelerator=cpu trainer.num_nodes=1
""".split()

COMMON = f"""#!/bin/bash
python={shlex.quote(sys.executable)}
repository={shlex.quote(str(REPOSITORY))}
make={shlex.quote(shutil.which("make") or "make")}
small() {{  # what makes a script's run small, by its command
    case "$*" in
        *fit_targets.py*) echo model.num_classes=32 ;;
        *masked_token_pred_pretrain.py*)
            echo {" ".join(SMALL)}
            # Ten minutes of speech in a batch are for a GPU; on a CPU, making and training them takes minutes.
            # Each of the workers would fill a buffer of 10,000 utterances, with their audio.
            case "$*" in *use_lhotse*)
                echo ++model.train_ds.batch_duration=20
                echo ++model.train_ds.bucket_buffer_size=200 ++model.train_ds.shuffle_buffer_size=200 ;;
            esac
            case "$*" in *trainer.devices=8*) echo trainer.devices=2 ;; esac ;;  # processes in place of GPUs
        *demo_corpus.py*) echo --minutes 0.5 ;;
        *context_report.py*) echo --draws 2 ;;
        *phone_probe.py*) echo --minutes 0.5 ;;
    esac
}}
"""
STAND_INS = {
    "python": 'exec "$python" "$@" $(small "$@")',
    "torchrun": """
given="$*"
given=${given/--nnodes=4/--nnodes=1}
given=${given/--nproc-per-node=8/--nproc-per-node=2}
exec "$python" -m torch.distributed.run $given $(small "$@")""",
    "srun": """
for rank in 0 1; do
    SLURM_JOB_ID=1 SLURM_JOB_NAME=nest SLURM_NNODES=1 SLURM_NODEID=0 SLURM_NODELIST=localhost SLURM_NTASKS=2 \\
        SLURM_NTASKS_PER_NODE=2 SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" &
    jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job" || exit; done""",
    "make": """
prefix=$("$python" -c "import sys; print(sys.prefix)")
options=(--no-print-directory -C "$repository" VENV="$prefix" --assume-old="$prefix/.ready")
case "$1" in
    demo) exec "$make" "${options[@]}" demo DEMO_OPTIONS="--out $PWD/demo --steps 2 --minutes 1.5" ;;
    test) "$make" "${options[@]}" --dry-run test | grep pytest ;;  # these tests are part of it
    *) exit 1 ;;
esac""",
    "pip": """
[ "$*" = "install ." ] || exit 1
mkdir source && cd "$repository" && cp -r setup.py pyproject.toml README.md LICENSE nemo nemo_overlay "$OLDPWD/source"
cd "$OLDPWD/source" && exec "$python" -m pip install . --quiet --no-deps --no-build-isolation --target ../installed""",
    "tensorboard": 'exec "$python" -m tensorboard.main --inspect "$@"',
}

pytestmark = [
    pytest.mark.documents,
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="the documents' commands are those of a POSIX shell"),
    pytest.mark.skipif(
        f"nemo_toolkit[asr]=={nemo.__version__}" not in (REPOSITORY / "requirements.txt").read_text(),
        reason="the documents' commands are tested with the NeMo that they install",
    ),
]


@pytest.fixture
def folder(tiny_model, tmp_path, monkeypatch) -> Path:
    """A clone's root as the commands see it: the scripts, a model, recordings and their manifests."""
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    tiny_model().save_to(str(tmp_path / "model.nemo"))
    generator = np.random.default_rng(0)
    names = [f"{split}/{number}.wav" for split in ("train", "validation", "noise") for number in range(4)]
    for name in ["speech.wav", *names]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, 0.1 * generator.standard_normal(40000), 16000)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, lines in STAND_INS.items():
        (programs / name).write_text(COMMON + lines.strip() + "\n")
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: str, earlier: list[str], folder: Path) -> str:
    """Runs a block of shell, which may use the variables that earlier blocks have set, and returns what it printed."""
    variables = [line for text in earlier for line in text.splitlines() if re.match(r"[A-Z_]+=\S+$", line)]
    environment = {
        **os.environ,
        "PATH": f"{folder / 'programs'}{os.pathsep}{os.environ['PATH']}",
        "NODE_RANK": "0",
        "MASTER_ADDR": "localhost",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("MAKEFLAGS", None)  # of the make that runs these tests
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join([*variables, block])],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout[-4000:]}"
    return done.stdout


def run_all(document: str, folder: Path) -> list[str]:
    """Runs the blocks of a document one after another, and returns what each of them printed."""
    found = blocks(document, "bash")
    assert found
    return [run(block, found[:index], folder) for index, block in enumerate(found)]


def trained_models(folder: Path) -> set[str]:
    """The folders of experiments that hold a `.nemo` file."""
    return {file.relative_to(folder).parts[0] for file in folder.glob("experiments*/*/checkpoints/*.nemo")}


def test_the_readme_installs_shows_trains_and_streams(folder):
    for split in ("train", "validation"):
        write_manifest(split)
    demo, status, _, features = run_all("README.md", folder)
    assert "Streamed" in demo and "| unlimited | [-1, 0] |" in demo and "| log-mels |" in demo and "pytest" in demo
    assert (folder / "demo/pictures/contexts.png").is_file()
    assert "ssl_models" in status and (folder / "installed/nemo_streaming_ssl.pth").is_file()
    assert trained_models(folder) == {"experiments"}
    assert "frames" in features and list((folder / "features").glob("*.npz"))


def write_manifest(split: str) -> None:
    entries = [{"audio_filepath": f"{split}/{number}.wav", "duration": 2.5, "text": ""} for number in range(4)]
    Path(f"{split}_manifest.json").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))


def test_the_quick_start_goes_from_manifests_to_a_streamed_feature(folder):
    for block in blocks(QUICK_START, "python"):
        exec(compile(block, QUICK_START, "exec"), {})
    assert json.loads(Path("train_manifest.json").read_text().splitlines()[0])["duration"] == 2.5
    assert list(Path("train_shar").glob("recording.*.tar"))
    printed = dict(zip(blocks(QUICK_START, "bash"), run_all(QUICK_START, folder), strict=True))
    ways = {"experiments", "experiments_node", "experiments_torchrun", "experiments_slurm", "experiments_lhotse"}
    assert trained_models(folder) == ways
    for block, output in printed.items():
        if "devices=8" in block:
            assert "GLOBAL_RANK: 1, MEMBER: 2/2" in output, output[-4000:]
        elif "stream_features" in block:
            # Both commands of the block: frames of files, and the same frames live.
            assert list((folder / "features").glob("*.npz"))
            assert float(re.findall(r"^\| speech.* (\S+) \|$", output, flags=re.M)[-1]) < 1e-4
    # The same on the corpus that demo_corpus.py has spoken, as the document says: fewer utterances than a batch.
    one_gpu = next(block for block in printed if "trainer.devices=1 " in block)
    on_corpus = re.sub(r"=(\w+_manifest\.json)", r"=corpus/\1", one_gpu).replace("=experiments", "=experiments_corpus")
    assert "| [320, 0] |" in run(on_corpus, [], folder)
    assert trained_models(folder) == ways | {"experiments_corpus"} and list(folder.glob("experiments*/**/*-last.ckpt"))
    for name in ("report", "report_of_model"):
        assert (folder / name / "contexts.png").is_file()
    assert "log-mels" in (folder / "probe/probe.md").read_text()
    assert (folder / "stock.nemo").is_file()


def test_the_commands_of_the_objective_fit_targets_and_statistics_and_train_with_them(folder):
    for split in ("train", "validation"):
        write_manifest(split)
    fitted, _ = run_all("docs/objective.md", folder)
    assert "4 codebook(s) of 32 codes were fitted" in fitted and (folder / "targets.pt").is_file()
    assert trained_models(folder) == {"experiments_fitted", "experiments_fixed"}
