"""`fastgan video`: a walk through latent space as a video file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastgan.cli import console, options, records, typed
from fastgan.cli.typed import Seeds
from fastgan.cli.typed import grid as parse_grid
from fastgan.cli.typed import size as parse_size
from fastgan.errors import ArgumentError
from fastgan.host import files

if TYPE_CHECKING:
    from fastgan.realtime import Walk

EXAMPLES = """
fastgan video dcgan-digits --seeds 0-7 --loop -o walk.mp4  # from seed to seed, and back
fastgan video dcgan-digits --seeds 0-31 --grid 4x2 --w-frames 60 --scale 4  # eight walks, enlarged
fastgan video model.onnx --audio song.wav --trunc 0.7  # the louder, the faster
fastgan video model.onnx --codec ffv1 -o exact.mkv --start 100 --frames 50  # 50 frames, exactly
"""


def video(
    model: options.ModelOrBundle,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file: .mp4, .mkv, .webm, .mov or .gif.")
    ] = Path("out/video.mp4"),
    seeds: Annotated[
        str, typer.Option(metavar="SEEDS", help="Seeds in order: 0-7 or 1,2,5-9.")
    ] = "0-7",
    grid: Annotated[
        str, typer.Option(metavar="CxR", help="Columns x rows of walks side by side.")
    ] = "1x1",
    num_keyframes: Annotated[
        int | None,
        typer.Option(metavar="N", help="Seeds in each walk. Default: shared out evenly."),
    ] = None,
    w_frames: options.WalkFrames = 120,
    interpolation: Annotated[
        str, typer.Option(help="spherical, linear, or cubic (no corners at the seeds).")
    ] = "spherical",
    loop: Annotated[
        bool, typer.Option("--loop/--no-loop", help="Go on from the last seed to the first.")
    ] = True,
    fps: Annotated[float, typer.Option(metavar="F", help="Frames per second.")] = 60.0,
    start: Annotated[int, typer.Option(min=0, help="First frame.")] = 0,
    frames: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many. Default: once through.")
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(help="A sound that drives the speed, louder is faster, and is heard."),
    ] = None,
    trunc: options.Truncation = None,
    class_: options.Class = None,
    size: options.Size = None,
    input: options.Named = None,
    rng: options.Rng = "philox",
    codec: Annotated[
        str | None, typer.Option(help="An encoder of FFmpeg's. Default: the suffix's usual one.")
    ] = None,
    crf: Annotated[
        int | None, typer.Option(min=0, max=63, help="Quality of x264, x265, VP9: 0 is best.")
    ] = None,
    scale: Annotated[int, typer.Option(min=1, max=64, help="Pixels a side for each pixel.")] = 1,
    how: options.Loading = options.Loading(),
    json_file: records.JsonFile = None,
) -> None:
    """Record a walk from seed to seed as a video.

    A seed's frame is what `fastgan generate --seeds` makes of it. The same options give the same
    frames, bit for bit, also where --start begins in the middle. The file appears once it is whole.
    """
    from fastgan.realtime.outputs import video as recording

    columns, rows = parse_grid(grid)
    pixels = None if size is None else parse_size(size)
    if not (0 < fps <= 1000):
        raise ArgumentError("--fps", f"{fps:g}", "more than 0, at most 1000")
    given = typed.inputs(input)
    recording.check(output, codec)
    files.check_target("--output", output, (audio, model))
    account = records.Account("video", json_file, model)
    account.keep((audio, *typed.files(input)), (output,))
    walk, count = _walk(
        Seeds(seeds), columns * rows, num_keyframes, w_frames, interpolation, loop, rng
    )
    if audio is not None:
        from fastgan.realtime import Envelope, Retime

        envelope = Envelope.of_file(audio, fps)
        walk, count = Retime(walk, envelope.scaled(0.25, 3.0)), envelope.frames
    count = frames if frames is not None else max(1, count - start)
    output.parent.mkdir(parents=True, exist_ok=True)
    files.sweep(output.parent)
    quality = None if crf is None else {"crf": str(crf)}
    with recording.VideoWriter(output, fps, codec, quality, scale, audio, start / fps) as sink:
        began = time.perf_counter()
        generator = how.load(model)
        if generator.signature.image is not None:
            found, needed = "a model that takes pictures", "one that makes them of a latent"
            raise ArgumentError("video", found, needed, "see fastgan apply")
        typed.check(generator, given, class_)
        with (
            generator.stream(
                latents=walk, batch=columns * rows, labels=options.label(class_), truncation=trunc,
                policy="every", start=start, frames=count, size=pixels,
                **given,
            ) as stream,
            console.counting("frames", count) as told,
        ):  # fmt: skip
            for done, frame in enumerate(stream, 1):
                if frame.images.dim() != 4:
                    raise ArgumentError("video", "an output that is no picture", "one that is")
                sink.write(recording.tile(frame.images, columns), frame.index)
                told(done)
        seconds = time.perf_counter() - began
    written = output.stat().st_size
    account.say(f"{console.count(count, 'frame')} in {seconds:.1f} s, {count / fps:.1f} s of video")
    account.say(f"{output}: {console.number(written, 'B')}")
    account.close(written=str(output), bytes=written, frames=count, fps=fps, seconds=seconds)


def _walk(
    seeds: Seeds,
    cells: int,
    num_keyframes: int | None,
    w_frames: int,
    interpolation: str,
    loop: bool,
    rng: str,
) -> tuple[Walk, int]:
    """The walk of all cells, and its frames: cell after cell takes the next seeds."""
    from fastgan.realtime import Each, SeedPath

    if seeds.count > 1_000_000:
        raise ArgumentError("--seeds", f"{seeds.count} seeds", "at most 1000000")
    every = list(seeds)
    if num_keyframes is None:
        if len(every) % cells:
            needed = f"a multiple of {cells}, or --num-keyframes"
            raise ArgumentError("--seeds", f"{len(every)} for {cells} cells", needed)
        num_keyframes = len(every) // cells
    if num_keyframes < 1:
        raise ArgumentError("--num-keyframes", str(num_keyframes), "at least 1")
    walks = [
        SeedPath(
            tuple(every[(cell * num_keyframes + k) % len(every)] for k in range(num_keyframes)),
            w_frames,
            interpolation,
            loop,
            rng,
        )
        for cell in range(cells)
    ]
    return Each(tuple(walks)), w_frames * (num_keyframes - (not loop)) + (not loop)
