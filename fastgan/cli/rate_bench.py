"""`fastgan bench --fps`: whether a model keeps a frame rate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.cli import console, records
from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    from fastgan.measure.rates import RateReport


def run(
    model: str,
    fps: float,
    seconds: float,
    batch: int,
    device: str,
    backend: str,
    precision: str,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Run at `fps`, search the highest rate that holds, and print both."""
    if not 0 < fps <= 10_000:
        raise ArgumentError("--fps", f"{fps:g}", "more than 0, at most 10000")
    if not 0 < seconds <= 86_400:
        raise ArgumentError("--seconds", f"{seconds:g}", "more than 0, at most 86400")
    from rich.progress import BarColumn, TimeElapsedColumn

    import fastgan
    from fastgan.measure import machine, rates
    from fastgan.measure import plot as plotting

    if plot_file is not None:
        plotting.check(plot_file)
    records.check(model, {"--json": json_file, "--plot": plot_file})
    generator = fastgan.load(model, device=device, backend=backend, precision=precision)
    if generator.signature.image is not None:
        raise ArgumentError("bench --fps", "a model that takes pictures", "one with a latent")
    with console.progress("{task.description}", BarColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task(f"{fps:g} fps", total=1.0)
        report = rates.run(
            generator, fps, seconds, batch, say=lambda done: bar.update(task, completed=done)
        )
        bar.update(task, total=None)
        best = rates.highest(generator, batch, say=lambda text: bar.update(task, description=text))
    if not records.on_stdout(json_file):
        _print(model, generator, report, best)
    record: dict[str, Any] = {
        "command": ["fastgan", *sys.argv[1:]],
        "machine": machine.describe() if json_file is not None else {},
        "model": model,
        "runs": f"{generator.backend} on {generator.device} in {generator.precision}",
        "run": report.as_json(),
        "highest": None if best is None else best.as_json(),
    }
    records.write(record, json_file)
    records.draw(lambda path: rates.plot(report, model, path), plot_file)


def _print(model: str, generator: Any, report: RateReport, best: RateReport | None) -> None:
    out, stats, period = console.out(), report.stats, 1e3 / report.fps
    images = console.count(report.batch, "image")
    out.print(
        f"{model} by {generator.backend} on {generator.device} in {generator.precision}, "
        f"{images} a frame, {report.fps:g} fps ({period:.2f} ms) for {report.seconds:.0f} s",
        soft_wrap=True,
    )
    shown = console.table("ms", "p50", "p95", "p99", "max")
    for name, p in (
        ("rendering", stats.compute),
        ("waiting for its time", stats.queueing),
        ("delivered after it", stats.delivery),
        ("jitter", report.jitter),
    ):
        shown.add_row(name, *(console.digits(x) for x in (p.p50, p.p95, p.p99, p.max)))
    out.print(shown)
    out.print(
        f"deadlines missed: {stats.missed} of {report.due} ({report.missed:.2%}); frames delivered "
        f"{stats.delivered}, dropped {stats.dropped}, skipped {stats.skipped}, "
        f"uncounted {report.uncounted}",
        soft_wrap=True,
    )
    verdict = "holds" if report.holds else "does not hold"
    out.print(f"{report.fps:g} fps {verdict} (99 of 100 frames in time)", soft_wrap=True)
    found = "none of 1 fps or more" if best is None else f"{best.fps:.0f} fps"
    out.print(f"highest rate that holds: {found}", soft_wrap=True)
