"""Every failure of a command is one line on stderr and an exit code.

0: done. 1: a check said no (`fastgan compare`), or a fault of our own. 2: the input, the options or
the machine do not allow it. 130: interrupted; 143: ended by SIGTERM, 129 by SIGHUP, as cleanly.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from fastgan.errors import FastganError, one_line
from fastgan.host import files
from fastgan.host.arguments import meant, near

log = logging.getLogger("fastgan")

#: How many failures are listed by name.
_LISTED = 20


#: After which a signal is sent again whose error was lost.
_AGAIN_SECONDS = 0.01

#: What is said of a word that is none of those that an argument takes.
_CHOICE = re.compile(r"'([^']*)' is not one of ('[^.]*')")
#: Of a word that stands where a command does.
_NO_COMMAND = re.compile(r"No such command '([^']*)'\.$")


class Ended(KeyboardInterrupt):
    """Somebody ended the process by a signal; whatever cleans up after Ctrl-C does so now."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def signals() -> Iterator[None]:
    """Meanwhile SIGTERM and SIGHUP raise `Ended`, where they would kill; and no error that a signal
    raises is lost.
    """
    with ExitStack() as after:
        if threading.current_thread() is threading.main_thread():  # only it may set handlers
            after.enter_context(_none_lost())
            for name in ("SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                # What was told to ignore it, as by nohup, goes on doing so.
                if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                    after.callback(signal.signal, number, signal.signal(number, _end))
        yield


def _end(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # `timeout` sends it twice: cleaning up goes on
    raise Ended(number)


@contextmanager
def _none_lost() -> Iterator[None]:
    """A signal whose error nothing can catch is sent again: Python drops what comes out of a
    `__del__` or a collector's hook, wherever that happens to run.
    """
    main, before = threading.main_thread(), sys.unraisablehook
    turn, over = threading.Lock(), threading.Event()

    def send(number: int) -> None:
        with turn:
            if not over.is_set() and main.ident is not None:
                signal.pthread_kill(main.ident, number)

    def hook(lost: sys.UnraisableHookArgs) -> None:
        error = lost.exc_value
        if not isinstance(error, KeyboardInterrupt) or threading.current_thread() is not main:
            return before(lost)
        number = error.number if isinstance(error, Ended) else signal.SIGINT
        begun = False
        while not begun:
            with suppress(KeyboardInterrupt):  # of the next signal, which would be lost here too
                if signal.getsignal(number) == signal.SIG_IGN:
                    signal.signal(number, _end)
                again = threading.Timer(_AGAIN_SECONDS, send, (number,))
                again.daemon = True
                again.start()
                begun = True

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        with turn:
            over.set()


def interrupted(error: KeyboardInterrupt) -> int:
    """Say in one line what ended a command, and return the exit code that shells know for it."""
    number = error.number if isinstance(error, Ended) else signal.SIGINT
    words = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
    hint = f"; {error.args[0]}" if error.args else ""
    return fail(words.get(signal.Signals(number), "hung up") + hint, 128 + number)


@contextmanager
def hint(say: Callable[[], str]) -> Iterator[None]:
    """What is interrupted meanwhile says what to do about it."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.args = (say(),)
        raise


class Command(TyperCommand):
    """One command, whose paths are paths."""

    def invoke(self, ctx: Any) -> Any:
        """Run it, unless "-" or a URL was given for a file or a folder."""
        ctx.find_root().obj = {opt for option in self.params for opt in option.opts}
        for option in self.params:
            given = ctx.params.get(option.name)
            for value in given if isinstance(given, (list, tuple)) else [given]:
                standard = str(value) == "-" and "--json" in option.opts  # JSON may go to stdout
                fetched = option.name == "model" and files.is_remote(value)
                path = isinstance(value, Path) or (option.name == "model" and value is not None)
                if path and not (standard or fetched):
                    long = max(option.opts, key=len)
                    files.check_path(long if long.startswith("-") else long.upper(), value)
        return super().invoke(ctx)


class Commands(TyperGroup):
    """The group of all commands, which reports what they raise."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Typer itself would end an interrupted one without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Exit(interrupted(error)) from None
        except Exception as error:
            if _out_of_memory(error):
                raise typer.Exit(fail(f"not enough memory{_less(ctx.obj or ())}")) from None
            raise

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command and exit with its code."""
        options["standalone_mode"] = False  # raise, rather than report in Typer's own way
        try:
            with signals():
                code = super().main(*args, **options)
        except typer.Abort:
            code = fail("interrupted", 130)
        except Ended as error:  # before a command had begun
            code = interrupted(error)
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
        message = error.format_message().replace("Value error, ", "")
        if choice := _CHOICE.search(message):
            guess = meant(choice[1], re.findall(r"'([^']+)'", choice[2]))
            message = f"{message.removesuffix('.')}; {guess}" if guess else message
        if (unknown := _NO_COMMAND.search(message)) and (line := _of_model(unknown[1])):
            message = f"{message.removesuffix('.')}; did you mean '{line}'?"
        if message.startswith("Missing argument 'MODEL"):
            message += " an ONNX file, or a model that ships ('fastgan models' lists them)."
        stop = "" if message.endswith((".", "?")) else "."
        return fail(f"{message}{stop} See '{usage} --help'.")
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename is not None else ""
        return fail(f"{name}{error.strerror or error}")
    missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    if missing.partition(".")[0] not in ("", "fastgan"):
        return fail(f"{missing} is not installed, which fastgan needs; pip install {missing}")
    hint = "" if log.isEnabledFor(logging.DEBUG) else "; 'fastgan --verbose ...' shows where"
    kind = type(error).__name__
    return fail(f"a fault of fastgan, please report it: {kind}: {one_line(error)}{hint}", 1)


def _of_model(word: str) -> str:
    """The command that a model wants which was given none; "" where the word is no model's."""
    from fastgan import models
    from fastgan.model.file import read
    from fastgan.model.side_file import describe

    if word.endswith(".onnx"):
        return f"fastgan inspect {word}"
    for name in near(word, models.names()):
        described = describe(read(models.path(name)))
        takes, gives = (
            [port.kind for port in side] for side in (described.inputs, described.outputs)
        )
        command = "generate" if "latent" in takes else "apply" if "image" in gives else "inspect"
        return f"fastgan {command} {name}"
    return ""


def fail(message: str, code: int = 2) -> int:
    """Print the one line, and return the exit code."""
    typer.echo(f"fastgan: {message}", err=True)
    return code


def fail_with(reasons: Sequence[str], summary: str) -> None:
    """List what has failed on stderr, and end with exit code 1; nothing where nothing has."""
    if not reasons:
        return
    typer.echo(f"fastgan: {summary}:", err=True)
    for reason in reasons[:_LISTED]:
        typer.echo(f"  {reason}", err=True)
    if len(reasons) > _LISTED:
        typer.echo(f"  and {len(reasons) - _LISTED} more", err=True)
    raise typer.Exit(1)


def _less(options: Container[str]) -> str:
    """What to do about too little memory with the options that a command has."""
    for option, less in (
        ("--tile", "run large pictures in tiles with --tile"),
        ("--batch-size", "ask for fewer images at once with --batch-size"),
        ("--batch", "ask for fewer images at once with --batch"),
        ("--n", "ask for fewer images at once with --n"),
        ("--grid", "ask for fewer images at once with --grid"),
    ):
        if option in options:
            return f": {less}"
    return ""


def _out_of_memory(error: Exception) -> bool:
    # On a CPU torch raises a plain RuntimeError, known by its allocator's name alone.
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and ("out of memory" in text or "DefaultCPUAllocator" in text)
    )
