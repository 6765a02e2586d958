"""`fastgan compare`: every backend and precision against the reference."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from fastgan.cli import console, options, records

if TYPE_CHECKING:
    from fastgan.measure.parity import Row

EXAMPLES = """
fastgan compare model.onnx  # is bf16 good enough for this model? exit code 1 if not
fastgan compare model.onnx --json -  # the same for a program
fastgan compare model.onnx --n 64 --reference ort  # against ONNX Runtime, on 64 images
"""


def compare(
    model: options.Model,
    n: Annotated[int, typer.Option("--n", "-n", metavar="N", help="How many images.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the inputs.")] = 0,
    reference: Annotated[
        str,
        typer.Option(
            help="torch (the file's nodes one by one in fp32, nothing fused), ort, or auto for the "
            "first that takes the model."
        ),
    ] = "auto",
    stated: options.Stated = options.Stated(),
    json_file: records.FiguresFile = None,
) -> None:
    """Compare every backend and precision with the reference.

    Largest absolute difference (in units of an image in [-1, 1]), PSNR, largest difference of the
    uint8 images, and the time of the whole batch. The exit code is 1 where one is outside the
    tolerance of its precision.
    """
    from fastgan.errors import ArgumentError
    from fastgan.loading import open_model
    from fastgan.measure import parity
    from fastgan.measure.subject import example_inputs

    if n < 1:
        raise ArgumentError("--n", str(n), "a whole number of at least 1")
    records.check(model, {"--json": json_file})
    opened = open_model(model, signature=stated.signature())
    inputs = example_inputs(opened, n, seed)
    count = max(tensor.shape[0] for tensor in inputs.values())
    label, expected = parity.reference_of(opened, inputs, reference)

    with console.progress("{task.description}") as bar:
        task = bar.add_task("")
        rows = list(
            parity.rows(opened, inputs, expected, lambda text: bar.update(task, description=text))
        )

    records.write(
        {
            "model": opened.name,
            "reference": label,
            "images": count,
            "rows": [row.as_json() for row in rows],
        },
        json_file,
    )
    if not records.on_stdout(json_file):
        _show(f"{opened.name} against {label}", rows, count)
    if any(row.difference is not None and not row.within for row in rows):
        raise typer.Exit(1)


def _show(title: str, rows: list[Row], count: int) -> None:
    from fastgan.measure.tolerances import TOLERANCES

    table = console.table(
        "backend", "device", "precision", "max abs", "PSNR", "uint8", f"{count} images", "", left=3
    )
    table.columns[-1].justify = "left"
    for row in rows:
        if row.difference is None:
            continue
        verdict = "ok" if row.within else f"OUTSIDE {TOLERANCES[row.precision]}"
        psnr = row.difference.psnr
        table.add_row(
            row.backend,
            row.device,
            row.precision,
            f"{row.difference.max_abs:.2g}",
            "equal" if math.isinf(psnr) else f"{psnr:.1f} dB",
            "" if row.difference.max_uint8 is None else str(row.difference.max_uint8),
            f"{console.digits(row.seconds * 1e3)} ms",
            verdict,
        )
    out = console.out()
    typer.echo(title)
    out.print(table)
    for reason, names in _refusals(rows).items():
        typer.echo(f"not run: {', '.join(names)}: {reason}")


def _refusals(rows: list[Row]) -> dict[str, list[str]]:
    """The names of those that did not run, by the reason."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.refusal:
            found.setdefault(row.refusal, []).append(f"{row.backend} {row.precision}")
    return found
