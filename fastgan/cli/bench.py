"""`fastgan bench`: this project and its peers on one model, side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgan.cli import console, options, rate_bench, records
from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    from fastgan.measure.report import Report

EXAMPLES = (
    ("fastgan bench dcgan-digits", "every size, every peer: about a minute and a half"),
    ("fastgan bench model.onnx --n 1,64 --peers onnxruntime", "two sizes, one peer"),
    ("fastgan bench model.onnx --json bench.json --plot bench.png", "keep the raw samples"),
    ("fastgan bench model.onnx --fps 90 --seconds 30", "does it hold 90 frames per second?"),
)


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
            help="Of onnxruntime, eager, compile, openvino, openvino-bf16; none for none. "
            "Default: all that are installed.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="CPU threads for each. Default: all cores.")
    ] = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    precision: options.Precision = "auto",
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write all samples as JSON; - is stdout."),
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Write a plot, .png or .svg.")
    ] = None,
    verbose: options.Verbose = False,
) -> None:
    """Time fastgan beside ONNX Runtime, PyTorch, torch.compile and OpenVINO on one model.

    All run in turns on the same machine in the same minute. 'fastgan' is generate(n), latents
    included; 'fastgan fed' gets latents made beforehand, as the peers do. Roofline is the share of
    what this machine's measured matrix products and copies allow.

    With --fps, frames are rendered on a schedule instead, and the highest rate is searched at which
    99 of 100 frames are ready in time.
    """
    if fps is not None:
        if peers is not None or threads is not None:
            raise ArgumentError("--fps", "--peers or --threads beside it", "one of the two")
        sizes = _sizes(n or "1")
        if len(sizes) > 1:
            raise ArgumentError("--n", repr(n), "one number of images per frame")
        rate_bench.run(
            model, fps, seconds, sizes[0], device, backend, precision, json_file, plot_file
        )
        return
    sizes = _sizes(n or "1,16,64,256,1024")
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
            precision=precision,
            device=device,
            backend=backend,
            peers=chosen,
            threads=threads,
            say=lambda text, done: bar.update(task, description=text, completed=done),
        )
    if not records.on_stdout(json_file):
        _show(report)
    records.write(report.as_json(["fastgan", *sys.argv[1:]]), json_file)
    records.draw(lambda path: plot.write(report, path), plot_file)


def _show(report: Report) -> None:
    from fastgan.measure import advice, table

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
    out.print(
        f"{report.model} on {report.device}, {console.count(report.threads, 'thread')}",
        soft_wrap=True,
    )
    out.print(shown)
    for line in table.notes(report):
        out.print(line, soft_wrap=True, markup=False)
    for line in advice.advise(report):
        out.print(f"* {line}", soft_wrap=True, markup=False)


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise ArgumentError("--n", repr(text), "whole numbers of at least 1, such as 1,16,64")
    return list(dict.fromkeys(sizes))
