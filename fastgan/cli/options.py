"""Options that several commands share, and those of `fastgan` itself.

A command names the type of its parameter here, and its own default beside it.
"""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from fastgan.cli import console


def _verbose(value: bool) -> bool:
    if value:
        console.show_log(logging.DEBUG)
    return value


def _version(value: bool) -> None:
    if value:
        import fastgan

        typer.echo(f"fastgan {fastgan.__version__}")
        raise typer.Exit


Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=_verbose, help="Show the log on stderr.")
]
Model = Annotated[
    str,
    typer.Argument(
        help="An ONNX file, or a model that ships (see `fastgan models`): dcgan-digits.",
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(help="auto (an NVIDIA GPU if there is one), cpu, cuda or cuda:1."),
]
Backend = Annotated[
    str, typer.Option(help="auto (the first that takes the model), triton, torch or ort.")
]
Precision = Annotated[
    str,
    typer.Option(
        help="auto (fp32 on a CPU, fp16 on a GPU), fp32, tf32, fp16, bf16, or fp8 (large layers in "
        "8 bits, on an NVIDIA GPU of compute capability 8.9 or later)."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(metavar="N", help="Images per run. Default: what suits the device's caches."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail rather than fall back to another backend.")
]

# What is made ------------------------------------------------------------------------------------

Class = Annotated[
    str | None,
    typer.Option("--class", metavar="K", help="Class, by index or name. Default: random."),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="WxH", help="Of each picture, for models that make any: 1024x512."),
]
Rng = Annotated[str, typer.Option(help="philox, or numpy for the latents of StyleGAN's tools.")]

# Walks -------------------------------------------------------------------------------------------

Truncation = Annotated[
    float | None, typer.Option(metavar="T", help="Keep latents within -T and T.")
]
WalkFrames = Annotated[
    int, typer.Option(min=1, max=1_000_000, metavar="N", help="Frames from seed to seed.")
]
WalkSeeds = Annotated[
    str | None,
    typer.Option(metavar="SEEDS", help="A loop through these seeds instead: 0-7 or 1,2,5-9."),
]
DriftSeed = Annotated[int, typer.Option(help="Where the drift begins, without --seeds.")]
Osc = Annotated[int | None, typer.Option(metavar="PORT", help="Also listen to OSC on this port.")]


def label(text: str | None) -> int | str | None:
    """What `--class` names: a class index where the text is a number, else a class name."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return text


def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Images from trained GAN and VAE generators in ONNX, as fast as this machine allows."""
    console.show_log(logging.WARNING)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
