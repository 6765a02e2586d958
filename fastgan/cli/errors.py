"""Every failure of a command is one line on stderr and an exit code.

0: done. 1: a check said no (`fastgan compare`), or a fault of our own. 2: the input, the options or
the machine do not allow it. 130: interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from fastgan.errors import FastganError

log = logging.getLogger("fastgan")


class Commands(TyperGroup):
    """The group of all commands, which reports what they raise."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Typer itself would end an interrupted one without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(fail("interrupted", 130)) from None

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command and exit with its code."""
        options["standalone_mode"] = False  # raise, rather than report in Typer's own way
        try:
            code = super().main(*args, **options)
        except typer.Abort:
            code = fail("interrupted", 130)
        except BrokenPipeError:
            # Whoever read our output has gone (`| head`): nobody is left to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        except Exception as error:
            code = report(error)
        sys.exit(code if isinstance(code, int) else 0)


def report(error: Exception) -> int:
    """Say what went wrong in one line, and return the exit code for it."""
    log.debug("where it was raised", exc_info=error)
    if isinstance(error, FastganError):
        return fail(str(error))
    if hasattr(error, "format_message"):  # Typer's own: options that do not parse
        usage = getattr(getattr(error, "ctx", None), "command_path", "fastgan")
        message = error.format_message()
        stop = "" if message.endswith((".", "?")) else "."
        return fail(f"{message}{stop} See '{usage} --help'.")
    if _out_of_memory(error):
        return fail("not enough memory: ask for fewer images at once with --batch-size")
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename is not None else ""
        return fail(f"{name}{error.strerror or error}")
    hint = "" if log.isEnabledFor(logging.DEBUG) else "; 'fastgan --verbose ...' shows where"
    kind, text = type(error).__name__, " ".join(str(error).split())
    return fail(f"a fault of fastgan, please report it: {kind}: {text}{hint}", 1)


def fail(message: str, code: int = 2) -> int:
    """Print the one line, and return the exit code."""
    typer.echo(f"fastgan: {message}", err=True)
    return code


def _out_of_memory(error: Exception) -> bool:
    # On a CPU torch raises a plain RuntimeError, known by its allocator's name alone.
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and ("out of memory" in text or "DefaultCPUAllocator" in text)
    )
