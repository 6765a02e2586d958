"""What people type: seeds, grids and sizes, and values of a model's further inputs.

"0-63", "1,2,5-9"; "8x8"; "1024x512"; `--input w=0.7`, `w=[1,2]`, `w=w.npy`.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

from fastgan.errors import ArgumentError, one_line

if TYPE_CHECKING:
    from fastgan.generator import Generator

LARGEST_SEED = 2**64 - 1

#: A grid is one picture in memory; this many cells of 64x64 in colour are 12 GB.
LARGEST_GRID = 1_000_000


class Seeds:
    """Seeds in the order in which they were named, each once; ranges are not expanded.

    Args:
        text: numbers and ranges with both ends in them, as StyleGAN's tools take them.

    Raises:
        ArgumentError: anything else, a range that runs backwards, a seed named twice.
    """

    def __init__(self, text: str) -> None:
        self.ranges = [_range(part.strip(), text) for part in text.split(",")]
        ordered = sorted(self.ranges, key=lambda r: r.start)
        for before, after in pairwise(ordered):
            if after.start < before.stop:
                raise ArgumentError("--seeds", f"{after.start} twice in {text!r}", "each seed once")

    @property
    def count(self) -> int:
        """How many; it may be more than `len` could say."""
        return sum(r.stop - r.start for r in self.ranges)

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.ranges)


def _range(part: str, text: str) -> range:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", part, re.ASCII)
    if match is None:
        raise ArgumentError("--seeds", repr(text), "numbers and ranges, such as 0-63 or 1,2,5-9")
    if max(len(digits) for digits in match.groups() if digits) > 20:
        raise ArgumentError("--seeds", f"{part[:24]}...", f"seeds from 0 to {LARGEST_SEED}")
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if last > LARGEST_SEED:
        raise ArgumentError("--seeds", str(last), f"seeds from 0 to {LARGEST_SEED}")
    if last < first:
        raise ArgumentError("--seeds", repr(part), f"a range that ends after {first}")
    return range(first, last + 1)


def grid(text: str) -> tuple[int, int]:
    """Columns and rows of "8x8".

    Raises:
        ArgumentError: it is not two whole numbers of at least 1, or larger than any picture.
    """
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text.strip(), re.ASCII)
    columns, rows = (int(match[1]), int(match[2])) if match else (0, 0)
    if columns < 1 or rows < 1 or columns * rows > LARGEST_GRID:
        needed = f"columns x rows, such as 8x8, at most {LARGEST_GRID} cells"
        raise ArgumentError("--grid", repr(text), needed)
    return columns, rows


def size(text: str) -> tuple[int, int]:
    """Height and width of "1024x512", which is width x height, as image tools say it.

    Raises:
        ArgumentError: it is not two whole numbers of at least 1.
    """
    match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", text.strip(), re.ASCII)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if width < 1 or height < 1:
        raise ArgumentError("--size", repr(text), "width x height in pixels, such as 1024x512")
    return height, width


def wholes(option: str, text: str) -> list[int]:
    """The numbers of "1,16,64", each once.

    Raises:
        ArgumentError: they are not whole numbers of at least 1.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ArgumentError(option, repr(text), "whole numbers of at least 1, such as 1,16,64")
    return list(dict.fromkeys(numbers))


# Further inputs -----------------------------------------------------------------------------------

_NEEDED = "NAME=VALUE, the value a number, a list such as [1,2], true, false, or a .npy file"


def is_named(text: str) -> bool:
    """Whether it is NAME=VALUE, rather than the path of something that exists."""
    return re.match(r"[^=/\\]+=", text) is not None and not os.path.exists(text)


def inputs(texts: Sequence[str] | None) -> dict[str, Any]:
    """The values by name.

    Raises:
        ArgumentError: a text is not NAME=VALUE, or a name stands twice.
    """
    found: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ArgumentError("--input", repr(text), _NEEDED)
        if name in found:
            raise ArgumentError("--input", f"{name!r} twice", "each input once")
        found[name] = _value(name, value.strip())
    return found


def files(texts: Sequence[str] | None) -> list[str]:
    """The files that values are read from."""
    named = (text.partition("=")[2].strip() for text in texts or () if is_named(text))
    return [value for value in named if value.lower().endswith(".npy")]


def _value(name: str, text: str) -> Any:
    if text.lower().endswith(".npy"):
        import numpy as np

        try:
            return np.load(text, allow_pickle=False)
        except FileNotFoundError:
            raise ArgumentError(f"--input {name}", f"no file {text}", "a .npy file") from None
        except (OSError, ValueError, EOFError) as error:
            found = f"{text}: {one_line(error)}"
            raise ArgumentError(f"--input {name}", found, "a .npy file") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, (int, float, list)):
        raise ArgumentError(f"--input {name}", repr(text[:100]), _NEEDED)
    return value


def check(generator: Generator, values: dict[str, Any], labels: Any = None) -> None:
    """Refuse at once what would be refused for every picture.

    Args:
        labels: what `--class` says.

    Raises:
        ArgumentError: a value that the model can't take, or an input without one.
    """
    from fastgan.cli import options
    from fastgan.inputs.labels import resolve
    from fastgan.inputs.make import Inputs
    from fastgan.latents.sampling import SEED_0

    calls = (generator.generate, generator.__call__, generator.stream)
    taken = {name for call in calls for name in inspect.signature(call).parameters}
    for name in values:
        if name in taken:
            raise ArgumentError(f"--input {name}", "an option's own name", "Generator.run instead")
    signature = generator.signature
    inputs_ = Inputs(signature, generator.device)
    named, _ = inputs_.named(values, 1, SEED_0, labels)
    try:
        if labels is not None and signature.label is not None:
            names = signature.class_names
            resolve(options.label(labels), 1, signature.label, names, SEED_0, generator.device)
    except ArgumentError as error:
        raise ArgumentError("--class", error.found, error.needed, error.instead) from None
    for port in signature.needed:
        if port.kind not in ("image", "mask") and port.name not in named:
            needed = f"--input {port.name}=..."
            raise ArgumentError(f"input {port.name!r}", f"no value for this {port.kind}", needed)
