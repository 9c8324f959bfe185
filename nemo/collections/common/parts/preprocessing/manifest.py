"""Manifests are read as UTF-8, with or without a byte-order mark, and errors name the file and the line."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nemo.collections.common.parts.preprocessing.manifest import __parse_item as parse_item
from nemo.utils.data_utils import DataStoreObject


def item_iter(
    manifests_files: str | Iterable[str], parse_func: Callable[[str, str], dict[str, Any]] | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the entries of manifests in order, each with its number over all manifests as `id`.

    Args:
        manifests_files: one path or several. Each line of a file is a JSON object; empty lines are passed over.
        parse_func: makes an entry of a line and the manifest's path; None for NeMo's own.

    Raises:
        ValueError: a file is not text in UTF-8, or `parse_func` refuses a line.
    """
    parse_func = parse_func or parse_item
    number = 0
    for manifest in [manifests_files] if isinstance(manifests_files, str) else manifests_files:
        for place, line in manifest_lines(manifest):
            try:
                item = parse_func(line, manifest)
            except Exception as error:
                raise ValueError(f"{place} must be an entry of a manifest; got {line[:120]!r}: {error!r}") from error
            item["id"] = number
            number += 1
            yield item


def manifest_lines(manifest: str) -> Iterator[tuple[str, str]]:
    """Yields the lines of a manifest that are not empty, each with its place, `FILE, line NUMBER`.

    Raises:
        ValueError: the file is not text in UTF-8.
    """
    line_number = 0
    with open(os.path.expanduser(DataStoreObject(str(manifest)).get()), encoding="utf-8-sig") as lines:
        try:
            for line_number, line in enumerate(lines, start=1):
                if line := line.strip():
                    yield f"{manifest}, line {line_number}", line
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{manifest} must be UTF-8 text, a JSON object in each line; got other bytes after line {line_number}"
            ) from error


def parse_json(line: str, place: str) -> dict[str, Any]:
    """The JSON object that a line of a manifest is.

    Raises:
        ValueError: it is none.
    """
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} must be a JSON object; got {line[:120]!r}: {error}") from error
    if not isinstance(entry, dict):
        raise ValueError(f"{place} must be a JSON object; got {line[:120]!r}")
    return entry
