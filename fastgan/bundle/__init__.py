"""Bundles: a model made ready ahead of time, for programs without Python (docs/bundle.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastgan.host import files

#: What every bundle begins with.
MAGIC = b"fastgan\n"

#: What files are called.
SUFFIX = ".fgb"


def is_bundle(source: Any) -> bool:
    """Whether it is the path of a file that begins as a bundle does."""
    if not isinstance(source, (str, Path)):
        return False
    try:
        with files.open_plain(source) as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False
