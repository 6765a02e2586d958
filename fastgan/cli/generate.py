"""`fastgan generate`: images from seeds, as files or as one grid."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from fastgan.cli import console, options, records, saving, typed
from fastgan.cli.errors import hint
from fastgan.cli.many import scale
from fastgan.cli.typed import Seeds
from fastgan.cli.typed import grid as parse_grid
from fastgan.cli.typed import size as parse_size
from fastgan.errors import ArgumentError
from fastgan.host import files
from fastgan.images import made
from fastgan.images.formats import NAMED, NAMES

if TYPE_CHECKING:
    from fastgan.generator import Generator

EXAMPLES = """
fastgan generate dcgan-digits --grid 8x8  # 64 samples of seed 0 in one picture
fastgan generate model.onnx --n 1000 --seed 7  # out/sample000000.png to sample000999.png
fastgan generate model.onnx --seeds 0-63 --trunc 0.7  # out/seed0000.png to seed0063.png
fastgan generate model.onnx --n 8 --class 3 --outdir threes  # eight of class 3
fastgan generate --like out/sample000007.png  # that picture again, by what it says itself
fastgan generate model.onnx --n 8 --input psi=0.7  # with a further input that it has
fastgan generate model.onnx --seeds 85,265 --rng numpy  # as StyleGAN's own tools have them
fastgan generate model.onnx --n 1000000 --shards out --shard 3/64  # task 3 of a job array
"""


def generate(
    model: options.ModelIfAny = None,
    n: Annotated[
        int | None, typer.Option("--n", "-n", metavar="N", help="How many images. Default: 1.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="SEEDS", help="One image for each of these seeds: 0-63 or 1,2,5-9."),
    ] = None,
    seed: Annotated[int, typer.Option(help="With --n: the seed of all samples.")] = 0,
    start: Annotated[int, typer.Option(help="Index of the first sample.")] = 0,
    grid: Annotated[
        str | None,
        typer.Option(metavar="CxR", help="One picture of columns x rows instead, such as 8x8."),
    ] = None,
    trunc: Annotated[
        float | None,
        typer.Option(
            metavar="T", help="Draw latents from a normal distribution cut off at -T and T."
        ),
    ] = None,
    class_: options.Class = None,
    size: options.Size = None,
    noise: Annotated[
        bool,
        typer.Option(help="Noise that the model adds (StyleGAN's), from the seed; or none."),
    ] = True,
    rng: options.Rng = "philox",
    input: options.Named = None,
    outdir: Annotated[Path, typer.Option(help="Where files go; made if missing.")] = Path("out"),
    format: Annotated[
        str | None,
        typer.Option(
            help=f"{NAMES}, or npy for floats in the model's own range. "
            "Default: png, with --like that picture's own; npy for outputs that are no images. "
            "With --shards: webdataset (the default), parquet or png."
        ),
    ] = None,
    shards: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URL", help="Instead of files: shards with checksums, made by samples' ids."
        ),
    ] = None,
    shard_size: scale.ShardSize = 4096,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Of the shards every Nth from the Ith on, I from 0: for job arrays."
        ),
    ] = None,
    price_per_hour: scale.Price = None,
    resume: options.Resume = False,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Make this picture, which `fastgan generate` wrote, again, in its format.",
        ),
    ] = None,
    metadata: options.Metadata = True,
    manifest: Annotated[
        bool,
        typer.Option("--manifest", help="Also write that into DIR/manifest.jsonl, a line a file."),
    ] = False,
    batch_size: options.BatchSize = None,
    how: options.Loading = options.Loading(),
    json_file: records.JsonFile = None,
) -> None:
    """Make images, and save each as a file or all as one grid.

    The same seed gives the same image on every machine, whatever the batch size. A file that is
    there is whole. Files that are there already are replaced; with --resume and the same options
    they are kept, and those that are missing are made.
    """
    known = None
    if like is not None:
        if n is not None or seeds is not None or grid is not None:
            raise ArgumentError("--like", "--n, --seeds or --grid beside it", "one of them")
        known = made.read(like)
        told = _told(like, known)
        model = model or known.get("model")
        n, seeds, seed, start = told["n"], told["seeds"], told["seed"], told["start"]
        grid, trunc, class_, size = told["grid"], told["trunc"], told["class"], told["size"]
        noise, rng, input = told["noise"], told["rng"], told["input"]
        if how.precision == "auto":
            how = replace(how, precision=told["precision"])
        if format is None and shards is None:
            format = NAMED.get(like.suffix.lower())
    if model is None:
        needed = "an ONNX file, or a model that ships ('fastgan models' lists them)"
        raise ArgumentError("MODEL", "none", needed)
    # Whatever is wrong with the options is said before a model is loaded.
    account = records.Account("generate", json_file, model)
    account.keep((like, *typed.files(input)))
    cells = None if grid is None else parse_grid(grid)
    wanted = None if seeds is None else Seeds(seeds)
    pixels = None if size is None else parse_size(size)
    given = typed.inputs(input)
    if shards is not None:
        for option, value in (("--seeds", seeds), ("--grid", grid)):
            if value is not None:
                raise ArgumentError("--shards", f"{option} beside it", "one of the two")
        sharded = scale.job(
            model, shards, n, seed, start, shard_size, format,
            how.options,
            {
                "labels": options.label(class_), "truncation": trunc, "size": pixels,
                "noise": noise, "rng": rng, "batch_size": batch_size, **given,
            },
            how.threads,
        )  # fmt: skip
        return scale.here(account, sharded, given, class_, shard, resume, price_per_hour)
    for option, given_alone in (("--shard", shard), ("--price-per-hour", price_per_hour)):
        if given_alone is not None:
            raise ArgumentError(option, "no --shards beside it", "--shards DIR")
    if format is not None:
        saving.check_format(format)
    if n is not None and wanted is not None:
        raise ArgumentError("--n", "--seeds beside it", "one of the two")
    if resume and cells is not None:
        raise ArgumentError("--resume", "--grid beside it", "images as files of their own")
    count = _count(n, wanted, cells)

    import fastgan
    from fastgan.model.origin import digest

    began = time.perf_counter()
    generator = how.load(model)
    loaded = time.perf_counter() - began
    if generator.signature.image is not None and generator.signature.latent is None:
        found = "a model that takes a picture"
        raise ArgumentError("generate", found, "one that takes none", "fastgan apply is for it")
    typed.check(generator, given, class_)
    sha256 = None if generator.path is None else digest(str(generator.path))
    if known is not None and known.get("sha256") != sha256:
        raise ArgumentError(model, "another file than the picture was made by", "the same bytes")
    format = _format(format, generator, cells is not None)
    outdir.mkdir(parents=True, exist_ok=True)
    files.sweep(outdir)
    if cells is not None:
        files.check_target("--outdir", outdir / f"grid.{format}", (model,))
    if json_file is not None and json_file.suffix == f".{format}":
        account.keep((), [outdir / json_file.name])
    facts = {
        "fastgan": fastgan.__version__, "model": model, "sha256": sha256,
        "backend": generator.backend,
        "n": 1, "seeds": None, "seed": seed, "start": start, "grid": None, "trunc": trunc,
        "class": class_, "size": size, "noise": noise, "rng": rng, "input": input,
        "precision": generator.precision,
    }  # fmt: skip
    job = _Job(
        generator,
        count,
        wanted,
        {
            "start": start,
            "labels": options.label(class_),
            "truncation": trunc,
            "size": pixels,
            "noise": noise,
            "rng": rng,
            "batch_size": batch_size,
            "format": "float32" if format == "npy" else "uint8",
            **given,
        },
        seed,
        _there(outdir, format) if resume else {},
        facts,
        metadata,
    )
    began = time.perf_counter()
    lines = outdir / "manifest.jsonl"
    files.check_target("--manifest", lines)
    mode = "a" if resume else "w"
    with open(lines, mode, encoding="utf-8") if manifest else nullcontext() as log:
        job.log = log
        if cells is None:
            where = _save_files(job, outdir, format)
        else:
            own = {"n": None if seeds else count, "seeds": seeds, "grid": grid}
            where = _save_grid(job, outdir / f"grid.{format}", *cells, own)
    _summary(account, job, loaded, time.perf_counter() - began, where)


# Options -----------------------------------------------------------------------------------------


def _count(n: int | None, seeds: Seeds | None, cells: tuple[int, int] | None) -> int:
    room = None if cells is None else cells[0] * cells[1]
    count = seeds.count if seeds is not None else n if n is not None else room or 1
    if count < 1:
        raise ArgumentError("--n", str(count), "a whole number of at least 1")
    if room is not None and count > room:
        raise ArgumentError("--grid", f"{room} cells for {count} images", "a cell for each image")
    return count


def _format(format: str | None, generator: Generator, grid: bool) -> str:
    """The format to write: the one asked for, where the model's output can be written so."""
    output = generator.signature.made
    channels = output.shape[1] if len(output.shape) == 4 else None
    if output.kind == "image":
        format = format or "png"
        if format != "npy" and isinstance(channels, int):
            saving.check_channels(format, channels)
    elif format not in (None, "npy"):
        found = f"output {output.name!r}, which is no image"
        raise ArgumentError(f"--format {format}", found, "npy")
    else:
        format = "npy"
    if grid and format == "npy":
        raise ArgumentError("--grid", "a format or an output that is no picture", "a picture")
    return format


def _there(outdir: Path, format: str) -> dict[str, Path]:
    """The files in a folder that hold something, by their names without suffix."""
    with os.scandir(outdir) as entries:
        return {
            entry.name.removesuffix(f".{format}"): Path(entry)
            for entry in entries
            if entry.name.endswith(f".{format}") and entry.is_file() and entry.stat().st_size
        }


# Making ------------------------------------------------------------------------------------------


@dataclass
class _Job:
    """What to make, and how long it took.

    Attributes:
        there: images that are made already, by name.
        facts: how every picture is made, but for its own seed and index.
        metadata: whether pictures say it.
        log: what is to have it as JSON, a line a picture.
        made, kept: how many images were made, and were there, so far.
    """

    generator: Generator
    count: int
    seeds: Seeds | None
    arguments: dict[str, Any]
    seed: int
    there: Mapping[str, Path] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    metadata: bool = True
    log: IO[str] | None = None
    seconds: float = 0.0
    first: tuple[int, float] | None = None
    made: int = 0
    kept: int = 0

    def images(self) -> Iterator[tuple[str, saving.Array, dict[str, int]]]:
        """(file name without suffix, array, seed and start) of each image, chunk by chunk."""
        with console.counting("images", self.count) as told:
            for names, arguments in self._chunks():
                began = time.perf_counter()
                images = self.generator.generate(len(names), **arguments).cpu().numpy()
                taken = time.perf_counter() - began
                self.seconds += taken
                if self.first is None:
                    self.first = len(names), taken
                for row, (name, image) in enumerate(zip(names, images, strict=True)):
                    seed, first = arguments["seed"], arguments["start"]
                    several = isinstance(seed, list)
                    own = (seed[row], first) if several else (seed, first + row)
                    yield name, image, {"seed": own[0], "start": own[1]}
                    self.made += 1
                    told(self.kept + self.made)

    def told(self, path: Path, own: dict[str, Any]) -> dict[str, Any] | None:
        """What a picture says of itself, if it does; the log is told it too."""
        facts = {**self.facts, **own}
        if self.log is not None:
            self.log.write(json.dumps({"file": path.name, **facts}) + "\n")
        return facts if self.metadata else None

    def _chunks(self) -> Iterator[tuple[list[str], dict[str, Any]]]:
        """(names, arguments of `generate`) of the images that are not there, in order."""
        size, first = self._chunk(), self.arguments["start"]
        if self.seeds is not None:
            missing = self._missing((f"seed{seed:04d}", seed) for seed in self.seeds)
            while chunk := list(islice(missing, size)):
                names = [name for name, _ in chunk]
                yield names, {**self.arguments, "seed": [seed for _, seed in chunk]}
            return
        indices = range(first, first + self.count)
        ahead = self._missing((f"sample{i:06d}", i) for i in indices)
        chunk = []
        for name, index in chain(ahead, [("", -1)]):  # a chunk has no gap
            if chunk and (not name or len(chunk) == size or index != chunk[-1][1] + 1):
                yield (
                    [name for name, _ in chunk],
                    {**self.arguments, "seed": self.seed, "start": chunk[0][1]},
                )
                chunk = []
            chunk.append((name, index))

    def _missing(self, images: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        for name, number in images:
            if name in self.there:
                own = {"start": number} if self.seeds is None else {"seed": number}
                self._check_kept(self.there[name], own)
                self.kept += 1
            else:
                yield name, number

    def _check_kept(self, path: Path, own: dict[str, int]) -> None:
        """That a picture which says how it was made was made so, if not by which engine."""
        of_engine = ("fastgan", "model", "backend", "n", "seeds")
        made.check(path, {**self.facts, **own}, of_engine, "another --outdir")

    def _chunk(self) -> int:
        """Images per call; all of them, where they may meet in the model."""
        if not self.generator.signature.made.apart and not self.arguments["batch_size"]:
            return self.count
        from fastgan.scale.work import chunk

        return chunk(self.generator, self.arguments["size"], self.arguments["batch_size"])


# Saving ------------------------------------------------------------------------------------------


def _told(like: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The options that a picture was made with.

    Raises:
        ArgumentError: one of them is missing, as in a picture of a later version.
    """
    names = ("n", "seeds", "seed", "start", "grid", "trunc", "class", "size", "noise", "rng")
    told = {name: facts[name] for name in (*names, "input", "precision") if name in facts}
    if len(told) < len(names) + 2:
        version = facts.get("fastgan")
        found = "made of another" if "outscale" in facts else f"of fastgan {version}"
        raise ArgumentError(str(like), f"a picture {found}", "one that this version generated")
    return told


def _save_files(job: _Job, outdir: Path, format: str) -> str:
    first = last = None
    saver = saving.Saver()

    def told() -> str:
        count = console.count(job.count, "image")
        done = f"{job.kept + saver.written} of {count} are saved"
        return f"{done}; the same command with --resume goes on"

    with hint(told), saver:
        for name, image, own in job.images():
            last = outdir / f"{name}.{format}"
            first = first or last
            if format != "npy":
                saving.check_channels(format, image.shape[-1])
            saver.put(last, image, job.told(last, own))
    if last is None:
        return f"nothing to do: all are in {outdir}"
    return f"{first}" if first == last else f"{first} to {last and last.name}"


def _save_grid(job: _Job, path: Path, columns: int, rows: int, own: dict[str, Any]) -> str:
    grid = saving.Grid(columns, rows)
    for _, image, _ in job.images():
        grid.add(image)
    saving.check_channels(path.suffix[1:], grid.picture.shape[-1])
    saving.write(path, grid.picture, job.told(path, own))
    return str(path)


def _summary(
    account: records.Account, job: _Job, loaded: float, seconds: float, where: str
) -> None:
    n, say = job.made, account.say
    account.ran(job.generator)
    if job.kept:
        say(f"{console.count(job.kept, 'image')} were there already")
    if n:
        say(
            f"{console.count(n, 'image')}: loaded in {loaded:.2f} s, made in {job.seconds:.2f} s "
            f"({_rate(job)}), with saving {seconds:.2f} s"
        )
    say(where)
    account.close(
        model=job.facts["model"], sha256=job.facts["sha256"], images=n, kept=job.kept, saved=where,
        load_seconds=loaded, make_seconds=job.seconds, seconds=seconds,
    )  # fmt: skip


def _rate(job: _Job) -> str:
    """Images a second, without the planning that the first of them wait for where more follow."""
    images, seconds = job.first or (0, 0.0)
    steady = job.made > images
    if not steady:
        images, seconds = 0, 0.0
    rate = console.digits((job.made - images) / max(job.seconds - seconds, 1e-9))
    return f"{rate} images/s{', once planned' if steady else ', planning included'}"
