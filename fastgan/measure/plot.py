"""A benchmark as a picture: images per second over batch size, one line per contender."""

from __future__ import annotations

from pathlib import Path

from fastgan.errors import ArgumentError, BackendError
from fastgan.measure.report import Report


def check(path: Path) -> None:
    """Whether `write` can write this file: to be asked before a long run, not after it.

    Raises:
        BackendError: matplotlib is not installed.
        ArgumentError: it does not write this format.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise BackendError("plot", "no matplotlib", "pip install 'fastgan[bench]'") from None
    if path.suffix[1:] not in FigureCanvasBase.get_supported_filetypes():
        raise ArgumentError("plot", repr(str(path)), "a suffix such as .png or .svg")


def write(report: Report, path: Path) -> None:
    """Write the plot; its format is that of the suffix. Raises as `check`."""
    check(path)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
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
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
