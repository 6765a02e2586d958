"""`fastgan live`: a page on this machine that shows a model at work, and steers it."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.cli import options
from fastgan.cli.seeds import Seeds
from fastgan.cli.seeds import size as parse_size
from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    from fastgan.generator import Generator
    from fastgan.realtime.live_page import LivePage, Serving

EXAMPLES = (
    ("fastgan live dcgan-digits", "open the address that it prints"),
    ("fastgan live restore-photos", "a picture, or the camera, goes in on the page"),
    ("fastgan live model.onnx --seeds 0-7 --w-frames 90 --fps 60", "from seed to seed"),
    ("fastgan live model.onnx --osc 9000", "steered by TouchOSC, Max or Ableton as well"),
    ("fastgan live model.onnx --host 0.0.0.0", "for other machines, who need the token"),
)


def live(
    model: options.Model,
    fps: Annotated[float, typer.Option(metavar="F", help="Frames per second.")] = 30.0,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures in a frame.")] = 1,
    seeds: Annotated[
        str | None, typer.Option(metavar="SEEDS", help="Walk from seed to seed, such as 0-7.")
    ] = None,
    w_frames: Annotated[
        int, typer.Option(min=1, max=1_000_000, metavar="N", help="Frames from seed to seed.")
    ] = 120,
    seed: Annotated[int, typer.Option(help="Of the drift, where no --seeds are given.")] = 0,
    trunc: Annotated[
        float | None, typer.Option(metavar="T", help="Keep latents within -T and T.")
    ] = None,
    class_: Annotated[
        str | None, typer.Option("--class", metavar="K", help="Class, by index or name.")
    ] = None,
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
    osc: Annotated[
        int | None, typer.Option(metavar="PORT", help="Also listen to OSC on this port.")
    ] = None,
    ndi: Annotated[str | None, typer.Option(metavar="NAME", help="Also send over NDI.")] = None,
    spout: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also send over Spout (Windows; not tried yet).")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Of each picture, for models that make any: 512x512."),
    ] = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    precision: options.Precision = "auto",
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail rather than fall back to another backend.")
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """Show a model in the browser, live: what it makes, under your hands.

    A model with a latent: seed, speed, truncation and classes; drag the picture to walk. A model
    that takes pictures: open, drop or paste one, or start the camera; paint the mask. Pause, and
    record to a video. The page is served to this machine alone, and no other site's page gets in.
    Ctrl-C ends it.
    """
    walk: Any = list(Seeds(seeds)) if seeds is not None else None
    pixels = None if size is None else parse_size(size)
    import fastgan
    from fastgan.cli.generate import label
    from fastgan.realtime import Drift, SeedPath
    from fastgan.realtime.live import Live
    from fastgan.realtime.live_page import Serving
    from fastgan.realtime.osc import Osc
    from fastgan.realtime.senders import NdiSender, SpoutSender

    if not (math.isfinite(fps) and fps > 0):
        raise ArgumentError("--fps", f"{fps:g}", "a number above 0")
    Serving(format, quality)  # raises what it would raise later
    generator = fastgan.load(
        model, device=device, backend=backend, precision=precision, strict=strict
    )
    if all(output.kind != "image" for output in generator.signature.outputs):
        raise ArgumentError("live", "an output that is no picture", "one that is")
    given = {"--seeds": seeds, "--trunc": trunc, "--size": size, "--osc": osc, "--batch": batch - 1}
    with ExitStack() as open_:
        sinks: list[Any] = []
        if ndi is not None:
            sinks.append(open_.enter_context(NdiSender(ndi, fps)))
        if spout is not None:
            sinks.append(open_.enter_context(SpoutSender(spout)))
        serving = Serving(format, quality, outdir, host, token, sinks)
        page: LivePage
        if generator.signature.image is not None:
            options_of_walks = [name for name, value in given.items() if value]
            page = _images(
                generator, model, serving, fps, label(class_), seed, budget_ms, options_of_walks
            )
        else:
            stream = generator.stream(
                fps=fps,
                batch=batch,
                latents=SeedPath(tuple(walk), w_frames) if walk else Drift(seed),
                labels=label(class_),
                truncation=trunc,
                seed=seed,
                budget_ms=budget_ms,
                size=pixels,
            )
            open_.enter_context(stream)
            if osc is not None:
                open_.enter_context(Osc(osc)).control(stream)
            page = Live(generator, model, stream, serving, seed)
        page.run(port, ready=lambda address: typer.echo(f"{model}: {address}"))


def _images(
    generator: Generator,
    model: str,
    serving: Serving,
    fps: float,
    labels: Any,
    seed: int,
    budget_ms: float | None,
    options_of_walks: list[str],
) -> LivePage:
    """The page of a model that takes pictures."""
    from fastgan.realtime.live_images import LiveImages

    for option in options_of_walks:
        found = "a model that takes pictures"
        raise ArgumentError(option, found, "one that makes them of a latent", "leave it away")
    if labels is not None and generator.signature.label is None:
        raise ArgumentError("--class", "a model without classes", "a model that has them")
    return LiveImages(
        generator, model, serving, fps=fps, labels=labels, seed=seed, budget_ms=budget_ms
    )
