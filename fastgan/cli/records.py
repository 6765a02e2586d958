"""What a command measured, as JSON in a file or on stdout, and as a plot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from fastgan.host import files


def check(model: str, outputs: Mapping[str, Path | None]) -> None:
    """Whether all can be written: to be asked before a long run, not after it.

    Args:
        outputs: files by their option.

    Raises:
        ArgumentError: a file can't be put there, or is the model or another of them.
        OSError: its folder can't be made.
    """
    seen: list[Path | str] = [model]
    for option, path in outputs.items():
        if path is not None and not on_stdout(path):
            files.check_target(option, path, seen)
            path.parent.mkdir(parents=True, exist_ok=True)
            files.sweep(path.parent)
            seen.append(path)


def on_stdout(path: Path | None) -> bool:
    """Whether JSON goes to stdout, and nothing else does."""
    return str(path) == "-"


def write(record: dict[str, Any], json_file: Path | None) -> None:
    """Write the record where it was asked for, if it was."""
    text = json.dumps(record, indent=1)
    if on_stdout(json_file):
        typer.echo(text)
    elif json_file is not None:
        with files.whole(json_file) as file:
            file.write(f"{text}\n".encode())


def draw(plot: Callable[[Path], None], plot_file: Path | None) -> None:
    """Let `plot` write a picture where it was asked for, if it was."""
    if plot_file is not None:
        with files.replacing(plot_file) as part:
            plot(part)
