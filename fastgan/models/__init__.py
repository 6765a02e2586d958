"""The trained models that ship with the package, each with a card, NAME.md, and a NAME.png."""

from __future__ import annotations

from pathlib import Path

from fastgan.errors import ArgumentError
from fastgan.host import arguments

_FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The names of the shipped models."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.onnx")))


def path(name: str) -> Path:
    """Where the shipped model of this name lies.

    Raises:
        ArgumentError: there is none; the message lists those that there are.
    """
    if name not in names():
        needed = "one of " + ", ".join(names())
        raise ArgumentError("model name", repr(name), needed, arguments.meant(name, names()))
    return _FOLDER / f"{name}.onnx"


def summary(name: str) -> str:
    """What a shipped model does: the first sentence of its card, up to the colon."""
    card = path(name).with_suffix(".md").read_text(encoding="utf-8")
    return card.split("\n\n")[1].replace("\n", " ").split(":")[0]
