"""What a command did or measured: lines for people, JSON in a file or on stdout, and a plot."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.cli import console
from fastgan.errors import ArgumentError
from fastgan.host import files

if TYPE_CHECKING:
    from fastgan.generator import Generator

JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write what was done as JSON; - is stdout."),
]
#: The same of a command that measures.
FiguresFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write all figures as JSON; - is stdout."),
]


class Account:
    """What a command did, said line by line, or as JSON alone where that goes to stdout.

    Args:
        command: its name, which the record begins with.
        json_file: where the record goes; None for nowhere.
        reads: what is read, so never written over.

    Raises:
        ArgumentError, OSError: as `check`.
    """

    def __init__(self, command: str, json_file: Path | None, reads: str = "") -> None:
        check(reads, {"--json": json_file})
        self._command, self._file = command, json_file
        self._ran: dict[str, Any] = {}

    def keep(self, reads: Iterable[Path | str | None], makes: Iterable[Path] = ()) -> None:
        """Say what else the record must not replace.

        Args:
            reads: what is read beside the model.
            makes: what is written beside the record.

        Raises:
            ArgumentError: the record would go there.
        """
        if self._file is None or on_stdout(self._file):
            return
        files.check_target("--json", self._file, reads)
        place = files.identity(self._file)
        for path in makes:
            if files.identity(path) == place:
                raise ArgumentError("--json", f"{path}, where a result goes", "another file")

    def say(self, line: str) -> None:
        """A line for people."""
        if not on_stdout(self._file):
            typer.echo(line)

    def ran(self, generator: Generator) -> None:
        """What ran a model, and why nothing before it that is made for its device did."""
        self._ran = ran(generator)
        if not on_stdout(self._file):
            console.ran(generator)

    def close(self, **facts: Any) -> None:
        """Write the record."""
        write({"command": self._command, **self._ran, **facts}, self._file)


def ran(generator: Generator) -> dict[str, Any]:
    """What runs a model, and why what was asked before it does not."""
    return {
        "backend": generator.backend,
        "device": str(generator.device),
        "precision": generator.precision,
        "refusals": [str(refusal) for refusal in generator.refusals],
    }


def check(model: str, outputs: Mapping[str, Path | None]) -> None:
    """Whether all can be written: to be asked before a long run, not after it.

    Args:
        outputs: files by their option.

    Raises:
        ArgumentError: a file can't be put there, or is the model or another of them.
        OSError: its folder can't be made. It is made once there is something to write.
    """
    seen: list[Path | str] = [model]
    if model and any(path is not None and not on_stdout(path) for path in outputs.values()):
        from fastgan.model.side_file import beside

        seen.append(beside(Path(model)))
    for option, path in outputs.items():
        if path is not None and not on_stdout(path):
            files.check_target(option, path, seen)
            _check_folder(path.parent)
            seen.append(path)


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        files.sweep(folder)
    above = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
    code = 0 if os.access(above, os.W_OK | os.X_OK) else errno.EACCES
    code = code if above.is_dir() else errno.ENOTDIR
    if code:
        raise OSError(code, os.strerror(code), str(above))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """`files.replacing`, in a folder that is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as part:
        yield part


def on_stdout(path: Path | None) -> bool:
    """Whether JSON goes to stdout, and nothing else does."""
    return str(path) == "-"


def write(record: dict[str, Any], json_file: Path | None) -> None:
    """Write the record where it was asked for, if it was."""
    text = json.dumps(record, indent=1)
    if on_stdout(json_file):
        typer.echo(text)
    elif json_file is not None:
        with replacing(json_file) as part:
            part.write_text(f"{text}\n", encoding="utf-8")


def draw(plot: Callable[[Path], None], plot_file: Path | None) -> None:
    """Let `plot` write a picture where it was asked for, if it was."""
    if plot_file is not None:
        with replacing(plot_file) as part:
            plot(part)
