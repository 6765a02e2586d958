"""`fastgan apply`: pictures through an image-to-image model, file by file or whole folders."""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.cli import console, options, records, typed
from fastgan.cli.errors import fail_with
from fastgan.errors import ArgumentError, FastganError, one_line
from fastgan.host import files
from fastgan.images.formats import GRADED, NAMES

if TYPE_CHECKING:
    from fastgan.apply.targets import Job
    from fastgan.cli.apply.movie import Movie
    from fastgan.cli.apply.run import Run
    from fastgan.generator import Generator

log = logging.getLogger("fastgan")

EXAMPLES = """
fastgan apply x4.onnx -i photo.jpg  # out/photo_out.jpg, four times as large
fastgan apply x4.onnx -i photos -o large --outscale 2  # a folder, its tree kept, at twice
fastgan apply x4.onnx -i scan.png --tile 512 --ext jpg  # in tiles of 512 pixels
fastgan apply x2.onnx -i clip.mp4 -o large.mp4  # a video, its sound kept
fastgan apply inpaint.onnx -i photo.png --mask hole.png  # white in the mask is filled in
fastgan apply faces.onnx -i photo.jpg --input w=0.7  # with a further input that it has
fastgan apply adain.onnx -i photo.jpg --style painting.jpg  # content and style
fastgan apply net.onnx -i photo.jpg --range 0:1  # where inspect shows a wrong guess
"""


def apply(
    model: options.ImageModelOrBundle,
    input: Annotated[
        list[str],
        typer.Option(
            "--input",
            "-i",
            metavar="PATH|NAME=VALUE",
            help="A picture, a folder of them, or a video; again for a further input of the "
            "model: w=0.7, w=[1,2] or w=w.npy.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A folder, made if missing; for one picture or video a file.",
        ),
    ] = Path("out"),
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            "-t",
            metavar="N",
            help="Run in tiles of N pixels; 0: never. Default: by memory.",
        ),
    ] = None,
    tile_pad: Annotated[
        int | None,
        typer.Option(metavar="N", help="How far tiles look beyond their border. Default: 32."),
    ] = None,
    outscale: Annotated[
        float | None,
        typer.Option(
            "--outscale",
            "-s",
            metavar="S",
            help="Final size by size of the picture. Default: the model's.",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="For inpainting: a mask, or a folder of masks of the same names."),
    ] = None,
    fill: Annotated[
        str | None,
        typer.Option(
            metavar="W", help="What of the mask is filled in: white or black. Default: the model's."
        ),
    ] = None,
    style: Annotated[
        Path | None, typer.Option(help="The second picture, for models that take one.")
    ] = None,
    class_: options.Class = None,
    seed: Annotated[int, typer.Option(help="For models with a latent or random class.")] = 0,
    suffix: Annotated[str, typer.Option(help="Put behind each name; may be empty.")] = "out",
    ext: Annotated[
        str, typer.Option(help=f"{NAMES}; auto takes the picture's own, or png.")
    ] = "auto",
    quality: Annotated[int, typer.Option(help=f"Of {GRADED}, 1 to 100.")] = 95,
    alpha: Annotated[
        str,
        typer.Option(help="Transparency: keep (resized apart), ignore, or model (run as grey)."),
    ] = "keep",
    resume: options.Resume = False,
    metadata: options.Metadata = True,
    batch_size: options.BatchSize = None,
    stated: options.Stated = options.Stated(),
    how: options.Loading = options.Loading(),
    json_file: records.JsonFile = None,
) -> None:
    """Restore, upscale, stylise, translate or inpaint pictures.

    Folders keep their tree; a video keeps its sound. Results of an earlier run are replaced, what
    is read never; with --resume and the same options they are kept, but for pictures that changed.
    A picture that can't be read is reported at the end, and the exit code is then 1.
    """
    _check_options(ext, quality, outscale, suffix)
    account = records.Account("apply", json_file, model)
    source, given = _inputs(input)
    # The sources are read from files, so nothing of a model is needed to say what is wrong there.
    from fastgan.apply import folders, targets
    from fastgan.cli.apply import movie

    film = movie.target(source, output, suffix, ext) if movie.wanted(source) else None
    if film is not None:
        files.check_target("--output", film, (style, mask, model))
        jobs = []
        account.keep((source, style, mask, *typed.files(input)), (film,))
        if mask is not None and mask.is_dir():
            raise ArgumentError("--mask", "a folder", "one picture, for every frame")
        if resume and _made(film):
            account.say("1 video was there already")
            account.close(written=[], kept=1, failed=[])
            return
    else:
        jobs = folders.find(source, output, suffix, ext, mask)
        targets.check(jobs, (style, model))
        pictures = {path for job in jobs for path in (job.source, job.mask)}
        account.keep((*pictures, style, *typed.files(input)), [job.target for job in jobs])
        jobs[0].target.parent.mkdir(parents=True, exist_ok=True)  # or say now that it can't be
    warnings.filterwarnings("ignore", module="PIL")  # what Pillow thinks of a file's tags

    import fastgan
    from fastgan.apply import Options
    from fastgan.cli.apply.run import Run
    from fastgan.images.files import read
    from fastgan.model.origin import digest

    Options("pil", tile, tile_pad, alpha, fill, batch_size)  # raises what it would raise later
    began = time.perf_counter()
    generator = how.load(model, stated)
    _check_inputs(generator, mask, style, class_)
    typed.check(generator, given, class_)
    arguments: dict[str, Any] = {
        "tile": tile,
        "tile_pad": tile_pad,
        "alpha": alpha,
        "fill": fill,
        "batch_size": batch_size,
        "seed": seed,
        "labels": options.label(class_),
        **given,
    }
    if style is not None:
        arguments["style"] = read(style).pixels
    if film is not None:
        if mask is not None:
            arguments["mask"] = read(mask).pixels
        loaded = time.perf_counter() - began
        _play(account, movie.Movie(source, film, arguments, outscale), generator, loaded)
        return
    run = Run(generator, arguments, outscale, quality, metadata=metadata)
    # A large model takes a moment to be digested.
    path = generator.path if metadata or resume else None
    run.facts = {
        "fastgan": fastgan.__version__, "model": model,
        "sha256": None if path is None else digest(str(path)),
        "backend": generator.backend, "precision": generator.precision,
        "outscale": outscale, "tile": tile, "tile_pad": tile_pad, "fill": fill, "alpha": alpha,
        "class": class_, "seed": seed,
        "style": None if style is None else digest(str(style)),
        "input": [text for text in input if typed.is_named(text)],
        "signature": stated.signature(),
    }  # fmt: skip
    jobs = targets.settle(jobs, run.result, (style, model))
    account.keep((), [job.target for job in jobs])
    kept = 0
    if resume:
        there = [job for job in jobs if _made(job.target)]
        current = {job.index for job in there if run.is_made(job)}
        jobs = [job for job in jobs if job.index not in current]
        kept = len(current)
        for count, what in ((kept, "there already"), (len(there) - kept, "of another picture")):
            if count:
                were = "was" if count == 1 else "were"
                account.say(f"{console.count(count, 'image')} {were} {what}")
        if not jobs:
            account.close(written=[], kept=kept, failed=[])
            return
    run.loaded = time.perf_counter() - began
    began = time.perf_counter()
    for folder in {job.target.parent for job in jobs}:
        if folder.is_dir():
            files.sweep(folder)
    run.all(jobs)
    _report(account, run, jobs, output, time.perf_counter() - began, kept)


# Options -----------------------------------------------------------------------------------------


def _inputs(texts: list[str]) -> tuple[Path, dict[str, Any]]:
    """The picture or folder, and the further inputs by name."""
    paths = [text for text in texts if not typed.is_named(text)]
    if len(paths) != 1:
        found = f"{len(paths)} pictures or folders" if paths else "no picture"
        raise ArgumentError("--input", found, "one picture or folder, such as -i photo.png")
    files.check_path("--input", paths[0])
    return Path(paths[0]), typed.inputs([text for text in texts if text not in paths])


def _check_options(ext: str, quality: int, outscale: float | None, suffix: str) -> None:
    from fastgan.images.formats import WRITTEN

    if ext != "auto" and ext not in WRITTEN:
        raise ArgumentError("--ext", repr(ext), f"auto, {', '.join(WRITTEN)}")
    if not 1 <= quality <= 100:
        raise ArgumentError("--quality", str(quality), "1 to 100")
    if outscale is not None and not 0 < outscale <= 64:
        raise ArgumentError("--outscale", f"{outscale:g}", "more than 0, at most 64")
    if "/" in suffix or "\\" in suffix:
        raise ArgumentError("--suffix", repr(suffix), "a part of a file name")


def _check_inputs(
    generator: Generator, mask: Path | None, style: Path | None, class_: str | None
) -> None:
    """Refuse at once what would be refused for every picture."""
    signature = generator.signature
    images = [port for port in signature.inputs if port.kind == "image"]
    if not images:
        found = "a model that takes no picture"
        raise ArgumentError("apply", found, "one that does", "fastgan generate is for this one")
    if signature.outputs and all(output.kind != "image" for output in signature.outputs):
        raise ArgumentError("apply", "a model whose result is no picture", "one whose result is")
    channels = signature.made.shape[1] if len(signature.made.shape) == 4 else None
    if isinstance(channels, int) and channels not in (1, 3, 4):
        needed = "1 (grey), 3 (RGB) or 4 (RGBA)"
        found = f"a model whose result has {channels} channels"
        raise ArgumentError("apply", found, needed, "in Python, g(images) gives a tensor")
    if len(images) > 2:
        names = ", ".join(f"{port.name}=..." for port in images[1:])
        found = f"a model that takes {len(images)} pictures"
        raise ArgumentError("apply", found, "one or two", f"in Python: g(images, {names})")
    for option, value, takes in (
        ("--mask", mask, signature.first("mask") is not None),
        ("--style", style, len(images) > 1),
    ):
        if value is not None and not takes:
            raise ArgumentError(option, "a model that takes none", "a model that takes one")
        if value is None and takes:
            raise ArgumentError(option, "none for a model that takes one", "a picture")
    if class_ is not None and signature.label is None:
        raise ArgumentError("--class", "a model without classes", "a model that has them")


def _made(target: Path) -> bool:
    """Whether a result is there; what is there is whole."""
    return target.is_file() and target.stat().st_size > 0


# Reporting ---------------------------------------------------------------------------------------


def _play(account: records.Account, video: Movie, generator: Generator, loaded: float) -> None:
    """Make a video, and say so."""
    began = time.perf_counter()
    video.make(generator)
    seconds = time.perf_counter() - began
    account.ran(generator)
    account.say(
        f"{console.count(video.frames, 'frame')}: loaded in {loaded:.2f} s, done in "
        f"{seconds:.2f} s ({console.digits(video.frames / seconds)} frames/s), "
        f"{video.computing:.2f} s of that in the model"
    )
    account.say(str(video.target))
    account.close(
        written=[str(video.target)], kept=0, failed=[], frames=video.frames, load_seconds=loaded,
        seconds=seconds, compute_seconds=video.computing,
    )  # fmt: skip


def _report(
    account: records.Account, run: Run, jobs: list[Job], output: Path, seconds: float, kept: int
) -> None:
    """What was done on stdout, what failed on stderr; exit code 1 if anything did.

    Raises:
        FastganError, OSError: what went wrong with the only picture there was.
    """
    failures = sorted(run.failures, key=lambda failure: failure[0].index)
    if len(jobs) == 1 and failures:
        raise failures[0][1]
    n = len(run.written)
    account.ran(run.generator)
    if n:
        rate = console.digits(n / seconds)
        account.say(
            f"{n} image{'s' * (n > 1)}: loaded in {run.loaded:.2f} s, done in {seconds:.2f} s "
            f"({rate} images/s), {run.computing:.2f} s of that in the model"
        )
        account.say(str(run.written[0] if len(jobs) == 1 else output))
    account.close(
        written=[str(path) for path in run.written], kept=kept,
        failed=[{"source": str(job.source), "error": str(error)} for job, error in failures],
        load_seconds=run.loaded, seconds=seconds, compute_seconds=run.computing,
    )  # fmt: skip
    if run.deep:
        log.warning(
            "%d of %d pictures have more than 8 bits a channel: colours are read with 8, grey with "
            "all of them, and results are written with 8",
            run.deep,
            len(jobs),
        )
    reasons = [_reason(job, error) for job, error in failures]
    fail_with(reasons, f"{len(failures)} of {len(jobs)} images failed")


def _reason(job: Job, error: Exception) -> str:
    text = one_line(error)
    known = isinstance(error, FastganError) and str(job.source) in text
    return text if known else f"{job.source}: {text}"
