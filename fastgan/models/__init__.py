"""The trained models that ship with the package, each with a card, NAME.md, and a NAME.png."""

from __future__ import annotations

import re
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


def card(name: str) -> str:
    """The card of a shipped model, as Markdown."""
    return path(name).with_suffix(".md").read_text(encoding="utf-8")


def summary(name: str) -> str:
    """What a shipped model does: the first sentence of its card, up to the colon."""
    return card(name).split("\n\n")[1].replace("\n", " ").split(":")[0]


def licence(name: str) -> str:
    """Of the data that a shipped model was trained on, as its card has it."""
    found = re.search(r"^Licence of the data: (.+)$", card(name), re.MULTILINE)
    return found[1] if found else "not stated"
