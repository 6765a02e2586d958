"""`fastgan warmup`: everything that a first run on a GPU would wait for, done beforehand."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from fastgan.cli import console, options, records, typed
from fastgan.errors import BackendError

EXAMPLES = """
fastgan warmup model.onnx  # measure and keep what is fastest on this GPU
fastgan warmup model.onnx --n 1,64,256 --format uint8  # for these batch sizes
fastgan warmup model.onnx --no-tune  # compile alone: seconds, not minutes
"""


def warmup(
    model: options.Model,
    n: Annotated[
        str, typer.Option("--n", "-n", metavar="N,N", help="Batch sizes.")
    ] = "1,16,64,256",
    format: Annotated[str, typer.Option(help="float32, uint8, or both as float32,uint8.")] = (
        "float32,uint8"
    ),
    tune: Annotated[
        bool, typer.Option(help="Measure which kernel is fastest for each layer.")
    ] = True,
    seconds: Annotated[float, typer.Option(help="Of measuring, at most.")] = 600.0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    json_file: records.JsonFile = None,
) -> None:
    """Prepare a model's kernels for this GPU.

    Compiles (on four cores or more by all of them), measures and captures them, so that first runs
    are fast.

    Compiled kernels are kept in Triton's cache (~/.triton), measured choices in
    ~/.cache/fastgan/tuning. Both serve every later process on the same GPU, driver and versions.
    """
    sizes = sorted(typed.wholes("--n", n), reverse=True)

    import torch
    from rich.progress import BarColumn, TimeElapsedColumn

    import fastgan

    if device == "cpu" or not torch.cuda.is_available():
        found = "the CPU" if device == "cpu" else "no NVIDIA GPU that torch can use"
        raise BackendError("warmup", found, "an NVIDIA GPU: on a CPU there is nothing to prepare")
    formats = [part for part in format.split(",") if part]
    began = time.monotonic()
    account = records.Account("warmup", json_file, model)
    generator = fastgan.load(model, device=device, precision=precision, backend="triton")
    account.ran(generator)
    from fastgan.kernels import compiling  # and Triton with it, which this generator has

    taken = {}
    with console.progress("{task.description}", BarColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("", total=None)
        for size in sizes:
            start = time.monotonic()
            left = max(0.0, seconds - (start - began))
            bar.update(task, description=f"{size} images", completed=0, total=None)
            with compiling.told(lambda done, total: bar.update(task, completed=done, total=total)):
                generator.warm_up([size], formats=formats, tune=tune, seconds=left)
            taken[str(size)] = time.monotonic() - start
            account.say(f"  {size:5} images: {taken[str(size)]:.1f} s")
    account.say(f"ready in {time.monotonic() - began:.1f} s")
    account.close(seconds=taken)
