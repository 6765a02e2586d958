"""`fastgan export`: a published checkpoint to an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastgan.cli import records
from fastgan.errors import ArgumentError
from fastgan.host import files

EXAMPLES = """
fastgan export RealESRGAN_x4plus.pth -o x4plus.onnx  # then: fastgan apply x4plus.onnx
fastgan export net.safetensors -o net.onnx --size 256  # for images of one size
"""


def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="Weights: .pth, .safetensors, .ckpt.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write: m.onnx.")],
    size: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Height and width. Default: any, where PyTorch can export so."
        ),
    ] = None,
    json_file: records.JsonFile = None,
) -> None:
    """Make an ONNX file of a published checkpoint.

    Restoration, upscaling and inpainting models of the forty architectures that spandrel knows by
    their weights: ESRGAN, SwinIR, HAT, DAT, GFPGAN, LaMa... The file states its range, [0, 1]; its
    output is compared with PyTorch's. Nothing is unpickled that is not weights.
    """
    files.check_target("--output", output, (checkpoint,))
    if output.suffix != ".onnx":
        raise ArgumentError("--output", str(output), "a file that ends in .onnx")

    account = records.Account("export", json_file, str(checkpoint))
    from fastgan.exporting import checkpoint as checkpoints

    output.parent.mkdir(parents=True, exist_ok=True)
    made = checkpoints.export(checkpoint, output, side=size)
    sizes = "any size" if made.side is None else f"{made.side}x{made.side} alone"
    account.say(f"{output}: {made.architecture}, {made.scale}x, images of {sizes}")
    account.close(
        written=str(output), architecture=made.architecture, scale=made.scale, side=made.side
    )
