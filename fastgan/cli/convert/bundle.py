"""`fastgan bundle`: a model as one file for programs without Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fastgan.bundle import SUFFIX
from fastgan.cli import console, options, records, typed
from fastgan.errors import ArgumentError
from fastgan.host import files

EXAMPLES = """
fastgan bundle dcgan-digits -o digits.fgb  # one image to a run
fastgan bundle model.onnx -o model.fgb --batch 1,16  # ready for one image, and for sixteen
fastgan bundle superres-x4 -o x4.fgb --size 256x256,512x512  # ready for images of these sizes
fastgan bundle dcgan-digits -o digits.fgb --cpu avx2,avx512  # how long it takes on each of these
"""


def bundle(
    model: options.Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write: model.fgb.")],
    batch: Annotated[
        str, typer.Option(metavar="N,...", help="Images to a run: a program for each.")
    ] = "1",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH,...",
            help="Of images, for models that take or make any: a program for each, 256x256.",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|bf16",
            help="To compute in; bf16 is faster where the processor has AVX512-BF16.",
        ),
    ] = "fp32",
    cpu: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Then try it as on these processors: portable, avx2, avx512, avx512_bf16, amx. "
            "Every bundle is for all of them.",
        ),
    ] = None,
    stated: options.Stated = options.Stated(),
    json_file: records.JsonFile = None,
) -> None:
    """Make a model ready for programs that have no Python.

    The file holds the model's inputs and outputs, what each batch and size runs, and the weights
    once, for every CPU. libfastgan opens it (docs/bundle.md), and so does fastgan.load.
    """
    account = records.Account("bundle", json_file, model)
    files.check_target("--output", output)
    if output.suffix != SUFFIX:
        raise ArgumentError("--output", str(output), f"a file that ends in {SUFFIX}")
    batches = typed.wholes("--batch", batch)
    sizes = [] if size is None else [typed.size(part.strip()) for part in size.split(",")]

    from rich.progress import BarColumn, MofNCompleteColumn

    from fastgan.bundle import trial
    from fastgan.bundle.write import write
    from fastgan.loading import open_model

    processors = [] if cpu is None else [name.strip() for name in cpu.split(",")]
    trial.check(processors)
    opened = open_model(model, signature=stated.signature())
    output.parent.mkdir(parents=True, exist_ok=True)
    columns: tuple[Any, ...] = ("{task.description}", BarColumn(), MofNCompleteColumn())
    with console.progress(*columns) as bar:
        task = bar.add_task("programs", total=None)

        def progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        made = write(opened, output, batches, sizes, progress, precision)
    names = (
        f"{count}" + (f" of {sides[1]}x{sides[0]}" if sides else "")
        for count, sides in made.programs
    )
    account.say(f"{output}: {console.number(made.bytes, 'B')}, batches {', '.join(names)}")
    taken = {name: trial.seconds(output, name) for name in dict.fromkeys(processors)}
    for name, seconds in taken.items():
        said = "not tried, this processor has less"
        if seconds is not None:
            said = f"runs, {console.digits(1000 * seconds)} ms on one thread"
        account.say(f"as with {name}: {said}")
    programs = [{"batch": count, "size": sides} for count, sides in made.programs]
    account.close(written=str(output), bytes=made.bytes, programs=programs, cpu_seconds=taken)


def inspect(path: str) -> dict[str, Any]:
    """What a bundle holds, for `fastgan inspect`."""
    from fastgan.bundle import ports
    from fastgan.bundle.session import open_bundle
    from fastgan.limits import Limits

    opened = open_bundle(Path(path), Limits())
    count, size = opened.weights
    return {
        "file": path,
        "bytes": Path(path).stat().st_size,
        "model": opened.name,
        "maker": opened.maker,
        "weights": count,
        "weight_bytes": size,
        "programs": [
            {
                **{key: program[key] for key in ("batch", "width", "height")},
                **{key: program[key] for key in ("bf16", "bytes", "arena_bytes")},
            }
            for program in opened.programs
        ],
        "signature": ports.read(opened).describe(),
    }


def show(facts: dict[str, Any]) -> None:
    """Print it for people."""
    size, weights = (console.number(facts[key], "B") for key in ("bytes", "weight_bytes"))
    count = console.count(facts["weights"], "weight")
    typer.echo(f"{facts['file']}: {size}, a bundle of {facts['model']}, made by {facts['maker']}")
    typer.echo(facts["signature"])
    typer.echo(f"{count}, {weights}; programs for")
    for program in facts["programs"]:
        of = f" of {program['width']}x{program['height']}" if program["height"] else ""
        how = "bf16" if program["bf16"] else "fp32"
        memory = console.number(program["arena_bytes"], "B")
        typer.echo(f"  batch {program['batch']}{of}: {how}, {memory} of memory between its steps")
