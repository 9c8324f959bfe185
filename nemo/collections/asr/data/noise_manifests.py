"""Manifests of noise recordings, checked as a whole before training begins."""

import os
from collections.abc import Iterable
from typing import Any

from nemo.collections.asr.parts.utils.checks import check_number
from nemo.collections.common.parts.preprocessing.manifest import get_full_path, manifest_lines, parse_json
from nemo.utils.data_utils import is_datastore_path

__all__ = ["read_noise_manifests"]


def read_noise_manifests(manifests: str | Iterable[str] | None) -> list[dict[str, Any]]:
    """The entries of noise manifests, each with the full path of its file as `audio_filepath`.

    Args:
        manifests: one path, several divided by commas, a list of them, or None for no noise.

    Raises:
        ValueError, TypeError: a line is no entry (the message names file and line), or a manifest has none.
        FileNotFoundError: files that entries name do not exist.
    """
    if manifests is None:
        return []
    manifests = manifests.split(",") if isinstance(manifests, str) else list(manifests)
    entries = []
    for manifest in manifests:
        of_manifest = [_entry(line, place, manifest) for place, line in manifest_lines(manifest)]
        if not of_manifest:
            raise ValueError(f"noise_manifest must name manifests that have entries; got {manifest}, which has none")
        entries += of_manifest
    _check_files_exist([entry["audio_filepath"] for entry in entries], manifests)
    return entries


def _entry(line: str, place: str, manifest: str) -> dict[str, Any]:
    entry = parse_json(line, place)
    file = entry.get("audio_filepath", entry.get("audio_filename"))
    if not isinstance(file, str):
        raise ValueError(f"audio_filepath in {place} must be the path of a file; got {file!r}")
    for key in ("offset", "duration"):
        if entry.get(key) is not None:
            check_number(f"{key} in {place}", entry[key], minimum=0)
    return {**entry, "audio_filepath": get_full_path(file, str(manifest))}


def _check_files_exist(files: list[str], manifests: list[str]) -> None:
    files = list(dict.fromkeys(files))
    missing = [file for file in files if not is_datastore_path(file) and not os.path.isfile(file)]
    if missing:
        listed = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise FileNotFoundError(
            f"noise_manifest must list files that exist; in {', '.join(map(str, manifests))} {len(missing)} of "
            f"{len(files)} do not: {listed}"
        )
