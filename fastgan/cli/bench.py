"""`fastgan bench`: this project and its peers on one model, or whether it keeps a frame rate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.cli import console, options, records, typed
from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    from fastgan.measure.bench.report import Report
    from fastgan.measure.rates import RateReport

EXAMPLES = """
fastgan bench dcgan-digits  # every size, every peer: about a minute and a half
fastgan bench model.onnx --n 1,64 --peers onnxruntime  # two sizes, one peer
fastgan bench model.onnx --json bench.json --plot bench.png  # keep the raw samples
fastgan bench model.onnx --fps 90 --seconds 30  # does it hold 90 frames per second?
"""


def bench(
    model: options.Model,
    n: Annotated[
        str | None,
        typer.Option(
            "--n",
            "-n",
            metavar="N,N",
            help="Images per call. Default: 1,16,64,256,1024; with --fps 1.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Of timing per size.")] = 5.0,
    fps: Annotated[
        float | None,
        typer.Option(
            metavar="F",
            help="Instead: keep this frame rate, and count missed deadlines, jitter and latency.",
        ),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Of onnxruntime, eager, compile, openvino, openvino-bf16, ncnn, tensorrt, "
            "tensorrt-fp16; none for none. Default: all that are installed.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="CPU threads for each. Default: all cores.")
    ] = None,
    where: options.Where = options.Where(),
    json_file: records.FiguresFile = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Write a plot, .png or .svg.")
    ] = None,
) -> None:
    """Time fastgan beside its peers on one model.

    ONNX Runtime, PyTorch, torch.compile and OpenVINO, as far as they are installed.

    All run in turns on the same machine in the same minute. 'fastgan' is generate(n), latents
    included; 'fastgan fed' gets latents made beforehand, as the peers do. Roofline is the share of
    what this machine's measured matrix products and copies allow.

    With --fps, frames are rendered on a schedule instead, and the highest rate is searched at which
    99 of 100 frames are ready in time.
    """
    if fps is not None:
        if peers is not None or threads is not None:
            raise ArgumentError("--fps", "--peers or --threads beside it", "one of the two")
        sizes = typed.wholes("--n", n or "1")
        if len(sizes) > 1:
            raise ArgumentError("--n", repr(n), "one number of images per frame")
        _keep_rate(model, fps, seconds, sizes[0], where, json_file, plot_file)
        return
    sizes = typed.wholes("--n", n or "1,16,64,256,1024")
    chosen = None if peers is None else [p for p in peers.split(",") if p and p != "none"]
    if not seconds > 0:
        raise ArgumentError("--seconds", str(seconds), "a number above 0")

    from rich.progress import BarColumn, TimeElapsedColumn

    from fastgan.measure import bench as benchmark
    from fastgan.measure import plot

    if plot_file is not None:
        plot.check(plot_file)
    records.check(model, {"--json": json_file, "--plot": plot_file})
    with console.progress("{task.description}", BarColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("", total=1.0)
        report = benchmark.run(
            model,
            sizes=sizes,
            seconds=seconds,
            **where.options,
            peers=chosen,
            threads=threads,
            say=lambda text, done: bar.update(task, description=text, completed=done),
        )
    if not records.on_stdout(json_file):
        _show(report)
    records.write(report.as_json(["fastgan", *sys.argv[1:]]), json_file)
    records.draw(lambda path: plot.write(report, path), plot_file)


def _show(report: Report) -> None:
    from fastgan.measure.bench import advice, table

    out = console.out()
    shown = console.table(*table.HEADERS, left=1)
    shown.columns[0].justify, shown.columns[1].justify = "right", "left"
    for column in shown.columns:
        column.no_wrap = True
    previous = None
    for row in table.rows(report):
        if previous not in (None, row[0]):
            shown.add_section()
        shown.add_row(*row if row[0] != previous else ("", *row[1:]))
        previous = row[0]
    typer.echo(f"{report.model} on {report.device}, {console.count(report.threads, 'thread')}")
    out.print(shown)
    for line in table.notes(report):
        typer.echo(line)
    for line in advice.advise(report):
        typer.echo(f"* {line}")


def _keep_rate(
    model: str,
    fps: float,
    seconds: float,
    batch: int,
    where: options.Where,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Run at `fps`, search the highest rate that holds, and print both."""
    if not 0 < fps <= 10_000:
        raise ArgumentError("--fps", f"{fps:g}", "more than 0, at most 10000")
    if not 0 < seconds <= 86_400:
        raise ArgumentError("--seconds", f"{seconds:g}", "more than 0, at most 86400")
    from rich.progress import BarColumn, TimeElapsedColumn

    from fastgan.measure import machine, rates
    from fastgan.measure import plot as plotting

    if plot_file is not None:
        plotting.check(plot_file)
    records.check(model, {"--json": json_file, "--plot": plot_file})
    generator = where.load(model)
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
        _show_rate(model, generator, report, best)
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


def _show_rate(model: str, generator: Any, report: RateReport, best: RateReport | None) -> None:
    out, stats, period = console.out(), report.stats, 1e3 / report.fps
    images = console.count(report.batch, "image")
    typer.echo(
        f"{model} by {generator.backend} on {generator.device} in {generator.precision}, "
        f"{images} a frame, {report.fps:g} fps ({period:.2f} ms) for {report.seconds:.0f} s"
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
    typer.echo(
        f"deadlines missed: {stats.missed} of {report.due} ({report.missed:.2%}); frames delivered "
        f"{stats.delivered}, dropped {stats.dropped}, skipped {stats.skipped}, "
        f"uncounted {report.uncounted}"
    )
    verdict = "holds" if report.holds else "does not hold"
    typer.echo(f"{report.fps:g} fps {verdict} (99 of 100 frames in time)")
    found = "none of 1 fps or more" if best is None else f"{best.fps:.0f} fps"
    typer.echo(f"highest rate that holds: {found}")
