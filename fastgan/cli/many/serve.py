"""`fastgan serve`: models behind the Open Inference Protocol, or written for NVIDIA's Triton."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from fastgan.cli import options
from fastgan.errors import ArgumentError

EXAMPLES = """
fastgan serve dcgan-digits  # HTTP on 127.0.0.1:8080, gRPC on 127.0.0.1:8081
fastgan serve faces=gan.onnx x4.onnx --host 0.0.0.0  # two models, one by a name of its own
fastgan serve dcgan-digits --export-triton models  # a repository for tritonserver instead
"""


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]MODEL...",
            help="ONNX files, or models that ship; a file's own name is what clients call it.",
            show_default=False,
        ),
    ],
    http: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8080,
    grpc: Annotated[
        int, typer.Option(min=-1, max=65535, help="Port; 0: any that is free; -1: no gRPC.")
    ] = 8081,
    host: Annotated[
        str, typer.Option(help="What is bound. 0.0.0.0 is all that this machine has.")
    ] = "127.0.0.1",
    batch_ms: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="MS",
            help="How long a request waits for others to be run with. Those that come while a "
            "batch is computed are one anyway.",
        ),
    ] = 0.0,
    queue: Annotated[int, typer.Option(min=1, metavar="N", help="Requests that may wait.")] = 256,
    max_n: Annotated[int, typer.Option(min=1, metavar="N", help="Images of a request.")] = 64,
    max_pixels: Annotated[
        int, typer.Option(min=1, metavar="N", help="Of all images of a request together.")
    ] = 64_000_000,
    max_bytes: Annotated[
        int, typer.Option(min=1024, metavar="N", help="Of the message of a request.")
    ] = 64 << 20,
    export_triton: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a model repository for Triton instead, and end."),
    ] = None,
    how: options.Loading = options.Loading(),
) -> None:
    """Serve models to clients of the Open Inference Protocol.

    A request gets the bytes that it would get alone, whatever it was run with. SIGTERM and Ctrl-C
    end the server when what it has taken is answered. There is no encryption and no password:
    behind anything but 127.0.0.1 belongs a proxy that has them.
    """
    named = _named(models)
    if export_triton is not None:
        from fastgan.serve import triton

        for name, model in named.items():
            typer.echo(str(triton.export(name, model, export_triton, how.options, max_n)))
        return

    from fastgan.serve.address import bound

    with bound(host, http) as listening:  # or it is said now that it can't be
        from fastgan.serve.batching import Batcher
        from fastgan.serve.model import ServedModel
        from fastgan.serve.requests import Limits, Reader
        from fastgan.serve.server import Server
        from fastgan.serve.together import Together

        limits = Limits(max_n, max_pixels, max_bytes)
        served = []
        for name, model in named.items():
            generator = how.load(model)
            together = Together(name, generator, Reader(generator, limits))
            batcher = Batcher(name, together, batch_ms / 1000, queue)
            served.append(ServedModel(name, generator, batcher))
            typer.echo(
                f"{name}: {generator.backend} on {generator.device} in {generator.precision}, "
                f"batches of {together.least} to {together.largest}"
            )
        Server(served, listening, None if grpc < 0 else grpc, limits).run(_ready)


def _ready(over_http: str, over_grpc: str | None) -> None:
    typer.echo(f"ready: {over_http}" + (f", gRPC on {over_grpc}" if over_grpc else ""))


def _named(models: list[str]) -> dict[str, str]:
    """Models by the names that clients call them."""
    found: dict[str, str] = {}
    for text in models:
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)=(.+)", text)
        if match and not Path(text).exists():
            name, model = match[1], match[2]
        else:
            name, model = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(text).stem), text
        if name in found:
            raise ArgumentError("MODEL", f"two called {name!r}", "a name for each: a=one.onnx")
        found[name] = model
    return found
