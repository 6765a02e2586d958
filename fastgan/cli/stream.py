"""`fastgan stream`: frames into shared memory, for a game or any other process."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.cli import console, options, records, typed
from fastgan.cli.typed import Seeds
from fastgan.cli.typed import size as parse_size
from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    from fastgan.realtime import Stats

EXAMPLES = """
fastgan stream dcgan-digits --shm /digits  # a drift from seed 0, 60 frames a second
fastgan stream model.onnx --shm /faces --seeds 0-7 --fps 90  # from seed to seed, for ever
fastgan stream style.onnx --shm /styled --from /game  # every frame of another ring, run
"""


def stream(
    model: options.ModelOrBundle,
    shm: Annotated[
        str, typer.Option("--shm", metavar="/NAME", help="The ring's name in shared memory.")
    ],
    fps: Annotated[
        float, typer.Option(metavar="F", help="Frames per second; 0 for as fast as it goes.")
    ] = 60.0,
    seed: options.DriftSeed = 0,
    seeds: options.WalkSeeds = None,
    w_frames: options.WalkFrames = 120,
    speed: Annotated[float, typer.Option(help="Frames of the walk per frame shown.")] = 1.0,
    trunc: options.Truncation = None,
    class_: options.Class = None,
    size: options.Size = None,
    input: options.Named = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="/NAME", help="The ring that an image model's frames are."),
    ] = None,
    format: Annotated[
        str, typer.Option(help="uint8, or float32 for the model's own range.")
    ] = "uint8",
    slots: Annotated[
        int, typer.Option(min=2, max=4096, metavar="N", help="Frames in shared memory.")
    ] = 4,
    cuda_ipc: Annotated[
        bool,
        typer.Option("--cuda-ipc", help="Leave frames on the GPU, for readers there (untried)."),
    ] = False,
    frames: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many. Default: until Ctrl-C.")
    ] = None,
    osc: options.Osc = None,
    stated: options.Stated = options.Stated(),
    how: options.Loading = options.Loading(),
    json_file: records.JsonFile = None,
) -> None:
    """Write frames into shared memory, for a game.

    Any process can read the ring of frames there, and steer what is made.

    csrc/include/fastgan_frames.h reads it from C and C++, fastgan.realtime.RingReader from Python;
    docs/frames.md has the layout. Ctrl-C or SIGTERM ends it.
    """
    from fastgan.realtime.ring.reader import RingReader
    from fastgan.realtime.ring.writer import check_free

    if not (math.isfinite(fps) and fps >= 0):
        raise ArgumentError("--fps", f"{fps:g}", "0 or more")
    chosen = None if seeds is None else Seeds(seeds)
    pixels = None if size is None else parse_size(size)
    given = typed.inputs(input)
    account = records.Account("stream", json_file, model)
    check_free(shm)
    source = None if from_ is None else RingReader(from_)

    from fastgan.realtime import CudaRingWriter, RingWriter, SeedPath
    from fastgan.realtime.live.osc import Osc
    from fastgan.realtime.ring.stream import pictures, put, serve

    generator = how.load(model, stated)
    if (source is not None) != (generator.signature.image is not None):
        found = "a model that makes pictures of a latent" if source else "a model of pictures"
        raise ArgumentError("--from", found, "--from /NAME for a model that takes pictures, alone")
    if cuda_ipc and generator.device.type != "cuda":
        raise ArgumentError("--cuda-ipc", f"a model on {generator.device}", "one on a GPU")
    typed.check(generator, given, class_)
    walk = None if chosen is None else SeedPath(tuple(chosen), w_frames, loop=True)
    rate = fps or None
    output = next((o for o in generator.signature.outputs if o.kind == "image"), None)
    if output is None:
        raise ArgumentError("stream", "an output that is no picture", "one that is")
    opened = generator.stream(
        fps=rate, latents=walk, labels=options.label(class_), format=format, truncation=trunc,
        seed=seed, speed=speed, source=None if source is None else pictures(source), size=pixels,
        **given,
    )  # fmt: skip
    try:
        with opened, ExitStack() as inputs:  # these end first
            if source is not None:
                inputs.enter_context(source)
            if osc is not None:
                inputs.enter_context(Osc(osc)).control(opened)
            first = opened.take()
            assert first is not None
            channels, height, width = _sizes(first.images, format)
            where: dict[str, Any] = {"device": generator.device} if cuda_ipc else {}
            with (CudaRingWriter if cuda_ipc else RingWriter)(
                shm, height, width, channels, format=format, slots=slots, fps=rate, seed=seed,
                speed=speed, truncation=trunc,
                range=(0.0, 255.0) if format == "uint8" else output.range or (-1.0, 1.0),
                **where,
            ) as ring:  # fmt: skip
                account.say(f"{ring.shape} in {shm}, {generator.backend} on {generator.device}")
                put(ring, first)
                serve(opened, ring, None if frames is None else frames - 1)
    except KeyboardInterrupt:  # SIGTERM as well: see errors.signals
        pass
    _summary(account, opened.stats)


def _sizes(images: Any, format: str) -> tuple[int, int, int]:
    """(C, H, W) of a frame."""
    if images.dim() != 4:
        raise ArgumentError("stream", "an output that is no picture", "one that is")
    sizes = images.shape[1:] if format == "float32" else images.permute(0, 3, 1, 2).shape[1:]
    return sizes[0], sizes[1], sizes[2]


def _summary(account: records.Account, stats: Stats) -> None:
    count = console.count
    account.say(
        f"{count(stats.produced, 'frame')} made, {stats.delivered} written, "
        f"{stats.dropped + stats.skipped} lost, {stats.missed} late"
    )
    compute = stats.compute
    account.say(f"ms a frame: p50 {compute.p50:.2f}, p99 {compute.p99:.2f}, max {compute.max:.2f}")
    account.close(**stats.as_json())
