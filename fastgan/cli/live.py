"""`fastgan live`: a page on this machine that shows a model at work, and steers it."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.cli import options, typed
from fastgan.cli.typed import Seeds
from fastgan.cli.typed import size as parse_size
from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    from fastgan.generator import Generator
    from fastgan.realtime.live.page import LivePage

EXAMPLES = """
fastgan live dcgan-digits  # open the address that it prints
fastgan live superres-x4  # a picture, or the camera, goes in on the page
fastgan live dcgan-digits vae-digits superres-x4  # the page chooses among them
fastgan live model.onnx --seeds 0-7 --w-frames 90 --fps 60  # from seed to seed
fastgan live model.onnx --osc 9000  # steered by TouchOSC, Max or Ableton as well
fastgan live model.onnx --host 0.0.0.0  # for other machines, who need the token
"""


def live(
    model: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            autocompletion=options.models,
            help="An ONNX file, a bundle (.fgb), or a model that ships (see `fastgan models`); of "
            "several the page chooses one.",
            show_default=False,
        ),
    ],
    fps: Annotated[float, typer.Option(metavar="F", help="Frames per second.")] = 30.0,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures in a frame.")] = 1,
    seeds: options.WalkSeeds = None,
    w_frames: options.WalkFrames = 120,
    seed: options.DriftSeed = 0,
    trunc: options.Truncation = None,
    class_: options.Class = None,
    budget_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Refuse to start if a frame takes longer.")
    ] = None,
    format: Annotated[
        str, typer.Option(help="Of the pictures sent: jpeg, png (exact) or webp.")
    ] = "jpeg",
    quality: Annotated[int, typer.Option(help="Of jpeg and webp, 1 to 100.")] = 90,
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Who may come in: this machine alone, unless said otherwise.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(help="What the address must hold. Default: made where --host is not local."),
    ] = None,
    outdir: Annotated[Path, typer.Option(help="Where recordings go.")] = Path("out"),
    osc: options.Osc = None,
    ndi: Annotated[str | None, typer.Option(metavar="NAME", help="Also send over NDI.")] = None,
    spout: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Also send over Spout (Windows; not tried yet)."),
    ] = None,
    size: options.Size = None,
    stated: options.Stated = options.Stated(),
    input: options.Named = None,
    how: options.Loading = options.Loading(),
) -> None:
    """Show a model in the browser, live, under your hands.

    A model with a latent: seed, speed, truncation and classes; drag the picture to walk. A model
    that takes pictures: open, drop or paste one, or start the camera; paint the mask. Pause, and
    record to a video. Of several models the page shows one, and has a list to choose another. It
    is served to this machine alone, and no other site's page gets in.
    Ctrl-C ends it.
    """
    from fastgan.realtime.live import tokens

    tokens.check(token)
    walk: Any = list(Seeds(seeds)) if seeds is not None else None
    pixels = None if size is None else parse_size(size)
    further = typed.inputs(input)
    from fastgan.realtime import Drift, SeedPath
    from fastgan.realtime.live.images import LiveImages
    from fastgan.realtime.live.osc import Osc
    from fastgan.realtime.live.page import Serving
    from fastgan.realtime.live.session import Live
    from fastgan.realtime.outputs.senders import NdiSender, SpoutSender

    if not (math.isfinite(fps) and fps > 0):
        raise ArgumentError("--fps", f"{fps:g}", "a number above 0")
    serving = Serving(format, quality, outdir, host, token, models=model)
    labels = options.label(class_)
    walking = {"--seeds": seeds, "--trunc": trunc, "--size": size, "--osc": osc}
    walking["--batch"] = batch - 1
    wrong = [name for name, value in walking.items() if value]
    generators = {name: how.load(name, stated) for name in model}
    for generator in generators.values():
        _check(generator, wrong, class_)
        typed.check(generator, further, class_)
    shown: str | None = model[0]
    while shown is not None:
        generator = generators[shown]
        with ExitStack() as open_:
            sinks: list[Any] = []
            if ndi is not None:
                sinks.append(open_.enter_context(NdiSender(ndi, fps)))
            if spout is not None:
                sinks.append(open_.enter_context(SpoutSender(spout)))
            own = replace(serving, token=token, sinks=sinks)
            page: LivePage
            if generator.signature.image is not None:
                page = LiveImages(
                    generator, shown, own, fps=fps, labels=labels, seed=seed,
                    budget_ms=budget_ms, inputs=further,
                )  # fmt: skip
            else:
                stream = generator.stream(
                    fps=fps,
                    batch=batch,
                    latents=SeedPath(tuple(walk), w_frames) if walk else Drift(seed),
                    labels=labels,
                    truncation=trunc,
                    seed=seed,
                    budget_ms=budget_ms,
                    size=pixels,
                    **further,
                )
                open_.enter_context(stream)
                if osc is not None:
                    open_.enter_context(Osc(osc)).control(stream)
                page = Live(generator, shown, stream, own, seed)
            page.run(port, ready=partial(_ready, shown))
        # Browsers come back to the same address.
        shown, port, token = page.chosen, page.port, page.token


def _ready(model: str, address: str) -> None:
    typer.echo(f"{model}: {address}")


def _check(generator: Generator, walking: list[str], class_: str | None) -> None:
    """Refuse what no page can show; `walking`: options that only a model with a latent takes."""
    if all(output.kind != "image" for output in generator.signature.outputs):
        raise ArgumentError("live", "an output that is no picture", "one that is")
    if generator.signature.image is not None:
        for option in walking:
            found = "a model that takes pictures"
            raise ArgumentError(option, found, "one that makes them of a latent", "leave it away")
        if class_ is not None and generator.signature.label is None:
            raise ArgumentError("--class", "a model without classes", "a model that has them")
