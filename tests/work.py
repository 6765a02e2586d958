"""Work, counted: what a call costs on any machine, however busy it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def lines(call: Callable[[], object]) -> int:
    """How many lines of Python a call runs; each turn of a loop or a comprehension is one, too.

    What C does beneath a line is one line, however long it takes.
    """
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


#: These make room, or give a tensor its sizes in place.
_UNTOUCHED = ("aten.empty", "aten.as_strided_.")


def operators(call: Callable[[], object]) -> list[str]:
    """The operators of torch's that a call runs and that read or write elements.

    One that only makes room, or names the same elements otherwise, is none of them.
    """
    seen: list[str] = []

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            made = function(*args, **(kwargs or {}))
            name, schema = str(function), function._schema
            written = schema.is_mutable or not _shares(made, args)
            if written and not name.startswith(_UNTOUCHED):
                seen.append(name)
            return made

    with Seen():
        call()
    return seen


def _shares(made: Any, args: Any) -> bool:
    """Whether a result is other words for the first argument."""
    return (
        bool(args)
        and isinstance(made, torch.Tensor)
        and isinstance(args[0], torch.Tensor)
        and made.untyped_storage().data_ptr() == args[0].untyped_storage().data_ptr()
    )
