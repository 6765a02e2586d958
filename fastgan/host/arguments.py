"""Numbers that callers pass: Python's, NumPy's and PyTorch's alike, as Python's own.

Any integer will do for a whole number, and any real one for a number, 0-d arrays and tensors
included; truth values and texts are neither, since whoever passes one has mistaken the argument.
"""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import Any

from fastgan.errors import ArgumentError

LARGEST_SEED = (1 << 64) - 1


def whole(name: str, value: Any, least: int = 1, most: int | None = None, needed: str = "") -> int:
    """An integer from `least` to `most`.

    Args:
        name: of the argument, for the error.
        needed: what to say was needed, where the bounds do not say it.

    Raises:
        ArgumentError: it is none.
    """
    if not needed:
        to = f"of at least {least}" if most is None else f"from {least} to {most}"
        needed = f"a whole number {to}"
    value = _python(value)
    axes = getattr(value, "ndim", 0)  # [3] of PyTorch has an index too
    try:
        if isinstance(value, bool) or axes:
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise ArgumentError(name, text(value), needed) from None
    if found < least or (most is not None and found > most):
        raise ArgumentError(name, str(found), needed)
    return found


def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: float = -math.inf,
    finite: bool = True,
    needed: str = "a finite number",
) -> float:
    """A number from `least` to `most`, and greater than `above`; never NaN.

    Args:
        name, needed: as in `whole`.
        finite: whether infinity is refused.

    Raises:
        ArgumentError: it is none.
    """
    value = _python(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ArgumentError(name, text(value), needed)
    try:
        found = float(value)
    except OverflowError:  # an integer beyond every float
        raise ArgumentError(name, text(value), needed) from None
    inside = least <= found <= most and found > above  # false for NaN
    if not inside or (finite and not math.isfinite(found)):
        raise ArgumentError(name, text(value), needed)
    return found


def flag(name: str, value: Any) -> bool:
    """Yes or no, as a boolean, 0 or 1.

    Raises:
        ArgumentError: it is neither.
    """
    value = _python(value)
    if not isinstance(value, int) or value not in (0, 1):
        raise ArgumentError(name, text(value), "True or False")
    return bool(value)


def several(name: str, value: Any, needed: str) -> list[Any]:
    """The items of a list, a tuple, a range, or an array or tensor of one axis.

    Raises:
        ArgumentError: it is none of these.
    """
    axes = getattr(value, "ndim", None)
    if axes is not None and hasattr(value, "tolist"):
        if axes != 1:
            raise ArgumentError(name, text(value), needed)
        return list(value.tolist())
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray, memoryview)):
        raise ArgumentError(name, text(value), needed)
    return list(value)


def is_several(value: Any) -> bool:
    """Whether it is more than a number or a text: a sequence, or an array that has axes."""
    axes = getattr(value, "ndim", None)
    return (
        axes > 0
        if isinstance(axes, int)
        else isinstance(value, Sequence) and not isinstance(value, str)
    )


def each(name: str, value: Any, least: int, most: int) -> int | tuple[int, ...]:
    """An integer from `least` to `most`, or one for each image.

    Raises:
        ArgumentError: it is neither.
    """
    needed = f"{least} to {most}, or one such number for each image"
    if not is_several(value):
        return whole(name, value, least, most, needed)
    listed = several(name, value, needed)
    return tuple(whole(name, one, least, most, needed) for one in listed)


def size(name: str, value: Any) -> tuple[int, int]:
    """(height, width) in pixels, each at least 1.

    Raises:
        ArgumentError: it is not.
    """
    needed = "(height, width) in pixels"
    sides = several(name, value, needed)
    if len(sides) != 2:
        raise ArgumentError(name, text(value), needed)
    height, width = (whole(name, side, 1, needed=needed) for side in sides)
    return height, width


def near(found: str, known: Iterable[str], most: int = 1, least: float = 0.7) -> list[str]:
    """Of the names those that are nearly the one found, the nearest first.

    Args:
        most: how many.
        least: how near they are, from 0 to 1, where they are the same.
    """
    return difflib.get_close_matches(found, [name for name in known if name], most, least)


def meant(found: str, known: Iterable[str], most: int = 1, least: float = 0.7) -> str:
    """ "did you mean dcgan-digits?", of the names that are `near` the one found; "" for none."""
    names = near(found, known, most, least)
    return f"did you mean {', '.join(names)}?" if names else ""


def text(value: Any) -> str:
    """What a value is, for an error: short, and an array by its type and shape."""
    axes = getattr(value, "ndim", None)
    if isinstance(axes, int) and axes > 0:
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _python(value: Any) -> Any:
    """A number of NumPy or PyTorch as Python's; anything else as it is."""
    if isinstance(value, (int, float)):
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        try:
            return value.item()
        except (RuntimeError, ValueError):  # such as a tensor without data
            return value
    return value
