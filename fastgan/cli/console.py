"""What the commands print: results on stdout, progress and the log on stderr."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from fastgan.generator import Generator

#: Between two lines of progress, where there is no bar.
_SECONDS_PER_LINE = 10.0

#: Tables are not squeezed below this: long lines read better than words cut in three.
_LEAST_WIDTH = 100
#: Nor folded at all for another program.
_PIPED_WIDTH = 1000


def out() -> Console:
    """Where results go. Made anew each time, since tests swap stdout."""
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, _LEAST_WIDTH if console.is_terminal else _PIPED_WIDTH)
    return console


def err() -> Console:
    """Where progress and the log go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def show_log(level: int) -> None:
    """Show fastgan's log from this level on; the lowest level asked for stays."""
    log = logging.getLogger("fastgan")
    handler = _handler()
    if handler not in log.handlers:
        log.addHandler(handler)
        log.setLevel(level)
    log.setLevel(min(level, log.level))


@cache
def _handler() -> logging.Handler:
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler


class _Stderr(logging.Handler):
    """Prints a record as one line, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from rich.markup import escape

        try:
            line = escape(self.format(record))
            err().print(f"[dim]{record.levelname.lower()}:[/dim] {line}", soft_wrap=True)
        except Exception:
            self.handleError(record)


def ran(generator: Generator) -> None:
    """Say what ran a model, and why nothing before it that is made for its device did."""
    from fastgan.engine import get

    print_ = out().print
    print_(f"{generator.backend} on {generator.device} in {generator.precision}", markup=False)
    for refusal in generator.refusals:
        if generator.device.type in get(refusal.backend).devices:
            print_(f"  not {refusal}", markup=False, soft_wrap=True)


def progress(*columns: Any) -> Progress:
    """A progress bar on stderr that leaves nothing behind; where that is no terminal, as in CI, a
    line now and then.
    """
    from rich.progress import Progress

    class Lines(Progress):
        """Says how far it is every ten seconds."""

        said = time.monotonic()

        def update(self, task_id: Any, **fields: Any) -> None:
            super().update(task_id, **fields)
            self._say(task_id)

        def advance(self, task_id: Any, advance: float = 1) -> None:
            super().advance(task_id, advance)
            self._say(task_id)

        def _say(self, task_id: Any) -> None:
            if time.monotonic() - self.said < _SECONDS_PER_LINE:
                return
            self.said = time.monotonic()
            task = next(task for task in self.tasks if task.id == task_id)
            total = "" if task.total is None else f" of {task.total:g}"
            far = f"{task.completed:g}{total}" if task.completed else ""
            text = " ".join(part for part in (task.description, far) if part)
            console.print(text, markup=False, soft_wrap=True)

    console = err()
    if console.is_terminal:
        return Progress(*columns, console=console, transient=True)
    return Lines(*columns, console=console, disable=True)


@contextmanager
def counting(things: str, total: int | None) -> Iterator[Callable[[float], None]]:
    """A progress bar of things; call what it gives with how many are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    with progress(BarColumn(), MofNCompleteColumn(), things, TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


def table(*headers: str, left: int = 1, **options: Any) -> Table:
    """An empty table: the first `left` columns to the left, the others, numbers, to the right."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, **options)
    for index, header in enumerate(headers):
        made.add_column(header, justify="left" if index < left else "right", overflow="fold")
    return made


def number(value: float, unit: str = "") -> str:
    """Three significant digits with a decimal prefix: "209 MFLOP", "1.05 MB"."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{digits(value / factor)} {prefix}{unit}".strip()
    return f"{digits(value)} {unit}".strip()


def digits(value: float) -> str:
    """Three significant digits, never with an exponent: "0.512", "7.31", "1234"."""
    if value == 0:
        return "0"
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{places}f}"


def count(number: int, thing: str) -> str:
    """ "1 image", "2 images"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
