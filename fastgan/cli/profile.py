"""`fastgan profile`: where the time of a run goes, step by step."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.cli import console, options, records
from fastgan.cli.typed import size as parse_size

if TYPE_CHECKING:
    from fastgan.measure.profile import Profile, Row

EXAMPLES = """
fastgan profile model.onnx  # the steps of one image, the longest first
fastgan profile model.onnx --batch 64 --precision bf16  # of another run
fastgan profile model.onnx --backend ort  # ONNX Runtime's nodes, by its own profiler
fastgan profile model.onnx --trace trace.json  # a timeline: open it at ui.perfetto.dev
fastgan profile model.onnx --arena memory.svg  # which buffer is where in memory, and when
"""


def profile(
    model: options.Model,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Images per run.")] = 1,
    size: options.Size = None,
    repeats: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Runs that are timed.")
    ] = 30,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write a few runs as a timeline, .json, for Perfetto."
        ),
    ] = None,
    arena: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also draw where and when buffers lie in memory, .png or .svg."
        ),
    ] = None,
    as_json: options.AsJson = False,
    where: options.Where = options.Where(),
    stated: options.Stated = options.Stated(),
) -> None:
    """Show how long each step takes, beside the least it could.

    A time is the median over the runs, after some to warm up. A floor is the least that the step
    could take here: its arithmetic at the rate of a large matrix product, or its traffic at the
    rate of a copy of its size, both measured now; 'of it' is the floor's share of the time. So a
    long step with a low share is where there is something to win. Steps that are one native call
    or one CUDA graph are a single line, which says so.
    """
    pixels = None if size is None else parse_size(size)

    from fastgan.loading import open_model, start
    from fastgan.measure import plot
    from fastgan.measure import profile as measure

    if arena is not None:
        plot.check(arena, "--arena")
    records.check(model, {"--trace": trace, "--arena": arena})
    opened = open_model(model, signature=stated.signature())
    generator = start(opened, **where.options)
    batch = generator.signature.frozen_batch or batch
    if pixels is not None:
        opened = measure.of_size(opened, generator, pixels)
    if arena is not None:
        memory = measure.memory(opened, generator, batch)
        title = f"{opened.name}, batch {batch}: {console.number(memory.size, 'B')}"
        records.draw(lambda path: plot.arena(memory, title, path), arena)
    with ExitStack() as stack:
        stack.enter_context(console.progress("{task.description}")).add_task("measuring")
        part = None if trace is None else stack.enter_context(records.replacing(trace))
        found = measure.profile(opened, generator, batch, repeats, part)
    facts = {
        "file": opened.name,
        "backend": generator.backend,
        "device": str(generator.device),
        "precision": generator.precision,
        "batch": batch,
        "repeats": repeats,
        "seconds": found.seconds,
        "notes": list(found.notes),
        "steps": [_step(row, found) for row in found.rows],
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(facts)


def _step(row: Row, found: Profile) -> dict[str, Any]:
    floor = row.floor
    return {
        "step": row.number or None,
        "op": row.name,
        "epilogue": row.fused,
        "kernel": row.kernel,
        "output": list(row.shape),
        "seconds": row.seconds,
        "share": row.seconds / (sum(each.seconds for each in found.rows) or 1.0),
        "floor_seconds": None if floor is None else floor.seconds,
        "bound": None if floor is None else floor.bound,
        "origin": list(row.origin),
    }


def _show(facts: dict[str, Any]) -> None:
    out = console.out()
    typer.echo(
        f"{facts['file']} by {facts['backend']} on {facts['device']} in {facts['precision']}, "
        f"batch {facts['batch']}: {console.digits(facts['seconds'] * 1e3)} ms a run, the median of "
        f"{facts['repeats']}"
    )
    table = console.table(
        *("", "kernel", "op", "out", "ms", "share", "floor", "of it", "bound by", "from"),
        left=4,
    )
    table.columns[-2].justify = table.columns[-1].justify = "left"
    table.columns[-1].min_width = 20
    for column in table.columns[:-1]:
        column.no_wrap = True
    for step in facts["steps"]:
        floor = step["floor_seconds"]
        table.add_row(
            str(step["step"] or ""),
            step["kernel"],
            "\n+ ".join(filter(None, (step["op"], *step["epilogue"].split(" + ")))),
            "x".join(map(str, step["output"])),
            console.digits(step["seconds"] * 1e3),
            f"{step['share']:.1%}",
            "" if floor is None else console.digits(floor * 1e3),
            f"{floor / step['seconds']:.0%}" if floor and step["seconds"] else "",
            step["bound"],
            "\n".join(step["origin"]),
        )
    # ONNX Runtime's nodes have no floors, and most chains nothing else beside them.
    table.columns = [each for each in table.columns if any(map(str, each.cells))]
    out.print(table)
    parts = sum(step["seconds"] for step in facts["steps"])
    typer.echo(f"{console.digits(parts * 1e3)} ms in these, looked at one by one")
    for note in facts["notes"]:
        typer.echo(f"* {note}")
