"""What was measured as a picture: a benchmark as lines, a plan's memory as boxes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastgan.errors import ArgumentError, BackendError
from fastgan.measure.bench.report import Report
from fastgan.measure.profile import Arena


def check(path: Path, option: str = "plot") -> None:
    """Whether this file can be written: to be asked before a long run, not after it.

    Raises:
        BackendError: matplotlib is not installed.
        ArgumentError: it does not write this format.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise BackendError(option, "no matplotlib", "pip install 'fastgan[bench]'") from None
    if path.suffix[1:] not in FigureCanvasBase.get_supported_filetypes():
        raise ArgumentError(option, repr(str(path)), "a suffix such as .png or .svg")


def write(report: Report, path: Path) -> None:
    """Images per second over batch size, one line per contender; the format is that of the suffix.

    Raises as `check`.
    """
    with figure(path, (8, 5)) as axes:
        for name in report.contenders:
            results = [r for r in report.results if r.name == name]
            if not results:
                continue
            own = name.startswith("fastgan")
            axes.plot(
                [r.n for r in results],
                [r.rate for r in results],
                marker="o",
                linewidth=2.5 if own else 1.2,
                linestyle="-" if own else "--",
                label=name,
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(report.sizes, [str(n) for n in report.sizes])
        axes.set_xlabel("images per call")
        axes.set_ylabel("images per second")
        axes.set_title(f"{report.model}, {report.device}, {report.threads} threads")
        axes.grid(True, which="both", alpha=0.2)
        axes.legend()


def arena(found: Arena, title: str, path: Path) -> None:
    """Each buffer as a box, from the step that writes it to the last that reads it. See `write`."""
    with figure(path, (10, 6)) as axes:
        lives = sorted(found.lifetimes, key=lambda life: life.first)
        for number, life in enumerate(lives):
            begin, steps = found.offsets[life.name], life.last - life.first + 1
            axes.broken_barh(
                [(life.first + 0.5, steps)],
                (begin, life.bytes),
                facecolors=f"C{number % 10}",
                edgecolors="white",
            )
            if life.bytes > found.size / 40:  # room for its name
                middle = (life.first + 0.5 + steps / 2, begin + life.bytes / 2)
                axes.annotate(life.name, middle, ha="center", va="center", fontsize=6, clip_on=True)
        axes.set_xlim(-0.5, found.steps + 1.5)
        axes.set_ylim(0, found.size or 1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value / 2**20:.3g} MiB")
        axes.set_xlabel("step; inputs come before the first, outputs stay behind the last")
        axes.set_ylabel("offset" if found.planned else "stacked: libraries place each by itself")
        axes.set_title(title)


@contextmanager
def figure(path: Path, inches: tuple[float, float], columns: int = 1) -> Iterator[Any]:
    """The axes of a picture (a list, of several columns) that is written at the end."""
    check(path)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    made, axes = pyplot.subplots(1, columns, figsize=inches, layout="constrained")
    try:
        yield axes
        made.savefig(path, dpi=150)
    finally:
        pyplot.close(made)
