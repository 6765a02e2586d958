"""`fastgan evaluate`: how good a model is, on data that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgan.cli import console, options, records

if TYPE_CHECKING:
    from fastgan.recipes.evaluation.report import Report

EXAMPLES = """
fastgan evaluate dcgan-digits  # what its card promises, measured again
fastgan evaluate out/dcgan/dcgan.onnx --like dcgan-digits  # your own, by the same measure
fastgan evaluate dcgan-digits --precision fp32,bf16  # what bf16 costs
fastgan evaluate model.onnx --data photos  # how far its samples are from these images
"""


def evaluate(
    model: options.Model,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Judge by the figures of this shipped model. Default: by its own, or by those of "
            "the model that a file of the same name ships as.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Judge a generator by how far its samples are from the images in a folder, "
            "which it must not have been trained on.",
        ),
    ] = None,
    inception: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --data: FID and KID as papers report them, on these weights of Inception, "
            "by torch-fidelity.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", metavar="N", help="With --data: samples.")] = 2000,
    precision: Annotated[
        str,
        typer.Option(
            metavar="P,P",
            help="Of fp32, tf32, fp16, bf16 and fp8; all: those that this machine has. The first "
            "is what the others are compared with.",
        ),
    ] = "all",
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    json_file: records.FiguresFile = None,
) -> None:
    """Measure how good a model is, on held-out data.

    What its card promises, measured again in each precision: so what fp16 and bf16 cost.

    The exit code is 1 where a figure is not what it must be. docs/models.md has these figures of
    every model that ships.
    """
    from fastgan.errors import ArgumentError
    from fastgan.recipes.evaluation import collection, report, table

    chosen = [] if precision == "all" else [p.strip() for p in precision.split(",") if p.strip()]
    if precision != "all" and not chosen:
        raise ArgumentError("--precision", repr(precision), "such as fp32,bf16")
    if data is None and inception is not None:
        raise ArgumentError("--inception", "no --data", "a folder of real images")
    records.check(model, {"--json": json_file})
    if data is not None:
        figures = collection.against(data, n, inception)
    else:
        figures = table.figures_of(like or Path(model).stem)
    with console.progress("{task.description}") as bar:
        task = bar.add_task("")
        found = report.measure(
            model,
            figures,
            chosen,
            device=device,
            backend=backend,
            say=lambda text: bar.update(task, description=f"{model} in {text}"),
        )
    records.write(found.as_json(), json_file)
    if not records.on_stdout(json_file):
        _show(found)
    if not found.reached:
        raise typer.Exit(1)


def _show(report: Report) -> None:
    out = console.out()
    first, *others = report.figures
    table = console.table("", first, *others, "must be", "baseline", "", "what it is")
    table.columns[-1].justify = "left"
    for name, figure in report.figures[first].items():
        cells = [_number(figure.value, figure.unit)]
        cells += [_number(report.figures[p][name].value, figure.unit) for p in others]
        baseline = "" if figure.baseline is None else _number(figure.baseline, figure.unit)
        reached = [each[name].reached for each in report.figures.values()]
        verdict = "" if None in reached else "ok" if all(reached) else "MISSED"
        table.add_row(name, *cells, figure.promise, baseline, verdict, figure.explanation)
    out.print(f"{report.model}: {', '.join(f'{p} {r}' for p, r in report.ran.items())}")
    out.print(table)
    if report.refused:
        cpu = all(ran.endswith(" on cpu") for ran in report.ran.values())
        where = "this CPU" if cpu else "this machine"
        out.print(f"not on {where}: {', '.join(report.refused)}")


def _number(value: float, unit: str) -> str:
    return f"{console.digits(value)} {unit}".strip()
