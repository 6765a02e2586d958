"""What can go wrong. An error says where, what was found, what is needed, and what to do instead.

A user of the library catches `FastganError`; a user of the command line reads its one line.
"""

from __future__ import annotations

from dataclasses import dataclass


class FastganError(Exception):
    """The base of every error that fastgan raises on purpose.

    Args:
        where: the file, node, argument or option at fault, by name.
        found: what was found there.
        needed: what would have been right.
        instead: what happens instead, or what the user can do about it; may be empty.
    """

    def __init__(self, where: str, found: str, needed: str, instead: str = "") -> None:
        self.where, self.found, self.needed, self.instead = where, found, needed, instead
        super().__init__(where, found, needed, instead)

    def __str__(self) -> str:
        text = f"{self.where}: found {self.found}; needed {self.needed}"
        return f"{text}; {self.instead}" if self.instead else text


class ModelFileError(FastganError):
    """The file is missing, is not ONNX, is damaged, or refers to data outside its own folder."""


class LimitError(ModelFileError):
    """The file asks for more than `Limits` allows."""


class UnsupportedError(FastganError):
    """The model is valid ONNX, but something in it is not covered: an op, an attribute, a shape."""


class ArgumentError(FastganError, ValueError):
    """An argument of a call is of the wrong type, shape, device or range."""


class BackendError(FastganError):
    """No backend can run the model as asked, or the one asked for is not installed."""


class BudgetError(FastganError):
    """A frame takes longer than the time that it was given."""


class RingError(FastganError):
    """A ring of frames in shared memory is missing, taken, or of another version or size."""


def one_line(error: BaseException) -> str:
    """The start of what any error says, on one line; its type's name where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a backend does not take a model: the reason behind every fallback."""

    backend: str
    where: str
    found: str
    needed: str

    def __str__(self) -> str:
        return f"{self.backend}: {self.where}: found {self.found}; needed {self.needed}"
