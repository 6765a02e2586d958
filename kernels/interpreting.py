"""Triton's interpreter without what it does in vain, which is half of a kernel's time there.

Every sum and product of integers is worked out again in 64 bits, for an assertion that is left out
unless the interpreter's option `debug` is set; and every call of a function within a kernel looks
through all of Triton's language, to replace what was replaced when the kernel began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import triton.language as tl
from triton.runtime import interpreter

_CHECKED = "sanitize_overflow"


class _Replaced:
    """In place of a scope of replacements: whoever began the kernel has it, and restores."""

    def restore(self) -> None:
        pass


def spare() -> None:
    """Leave both out, in this process; a second call changes nothing.

    They are no interface of Triton's: where another version has not got them, nothing is done.
    """
    builder = interpreter.interpreter_builder
    if not getattr(builder.options, "debug", True) and hasattr(builder.options, _CHECKED):
        builder.options = replace(builder.options, **{_CHECKED: False})
    if hasattr(interpreter, "_patch_lang") and not hasattr(interpreter._patch_lang, "whole"):
        interpreter._patch_lang = _once_a_kernel(interpreter._patch_lang)


def _once_a_kernel(whole: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def patch(function: Any) -> Any:
        return _Replaced() if _is_replaced(function) else whole(function)

    patch.whole = whole  # type: ignore[attr-defined]
    return patch


def _is_replaced(function: Any) -> bool:
    """Whether the modules that a function names, and what it computes with, are the interpreter's.

    Triton's own functions (`tl.sum`) name `tl.core`, which a kernel does not.
    """
    named = [m for m in function.__globals__.values() if m is tl or m is tl.core]
    found = [tl.tensor.__add__, *(module.program_id for module in named)]
    return not any(map(tl.core.is_builtin, found))
