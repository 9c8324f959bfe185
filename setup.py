"""Adds to setuptools what pyproject.toml cannot say: our half of NeMo, and the file that activates it."""

import os
import shutil
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build

HERE = Path(__file__).resolve().parent


class build_overlay(Command):
    """Puts ``nemo/`` inside ``nemo_overlay`` and a ``.pth`` beside it, which Python executes when it starts.

    An editable install reads ``nemo/`` where it is, so it gets the ``.pth`` alone.
    """

    user_options = []
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        if self.editable_mode:
            self._write_editable_pth()
            return
        tree = Path(self.build_lib, "nemo_overlay", "nemo")
        # A build folder that was used before may hold modules that are gone: they would still be laid over NeMo.
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(HERE / "nemo", tree, ignore=shutil.ignore_patterns("__pycache__"))
        Path(self.build_lib, "nemo_streaming_ssl.pth").write_text(
            "import nemo_overlay; nemo_overlay.install()\n", encoding="ascii"
        )

    def _write_editable_pth(self) -> None:
        # setuptools adds the clone to sys.path by a .pth of its own, which Python reads just before this one. Left
        # there, the clone's nemo/ and tests/ would be importable by everyone, so it goes when it has served.
        line = (
            "import sys, nemo_overlay; nemo_overlay.install(); "
            f"sys.path[-1] == {ascii(os.fspath(HERE))} and sys.path.pop()\n"
        )
        site_packages = Path(self.get_finalized_command("install").install_purelib)
        (site_packages / "__editable__.nemo_streaming_ssl-overlay.pth").write_text(line, encoding="ascii")

    def get_source_files(self) -> list[str]:
        return sorted(file.relative_to(HERE).as_posix() for file in (HERE / "nemo").rglob("*.py"))

    def get_outputs(self) -> list[str]:
        if self.editable_mode:
            return []
        built = [os.path.join(self.build_lib, "nemo_overlay", file) for file in self.get_source_files()]
        return [*built, os.path.join(self.build_lib, "nemo_streaming_ssl.pth")]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class build_with_overlay(build):
    sub_commands = [*build.sub_commands, ("build_overlay", None)]


setup(cmdclass={"build": build_with_overlay, "build_overlay": build_overlay})
