"""`fastgan scale`: samples and pictures in masses, on one machine or on many; and shards proven.

What `fastgan generate --shards` does stands here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.cli import console, options, records, typed
from fastgan.cli.errors import fail_with, hint
from fastgan.cli.typed import size as parse_size
from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    from fastgan.scale.on_ray import Cluster
    from fastgan.scale.report import Report
    from fastgan.scale.shards import Job

ShardSize = Annotated[int, typer.Option(metavar="N", help="Samples in a shard.")]
Price = Annotated[
    float | None,
    typer.Option(metavar="P", help="What the machine costs an hour: the report says what for."),
]


def job(
    model: str,
    out: str,
    n: int | None,
    seed: int,
    start: int,
    size: int,
    format: str | None,
    load: dict[str, Any],
    arguments: dict[str, Any],
    threads: int | None = None,
) -> Job:
    """What is to be made, checked as far as no model is needed for it."""
    from fastgan.scale.shards import FORMATS, Job

    for option, value, least in (("--n", n, 1), ("--start", start, 0), ("--shard-size", size, 1)):
        if value is None or value < least:
            raise ArgumentError(option, str(value), f"a whole number of at least {least}")
    format = format or "webdataset"
    if format not in FORMATS:
        raise ArgumentError("--format", repr(format), f"with shards: {', '.join(FORMATS)}")
    return Job(model, out, n or 1, seed, start, size, format, load, arguments, threads)


def here(
    account: records.Account,
    job: Job,
    given: dict[str, Any],
    class_: str | None,
    shard: str | None,
    resume: bool,
    price: float | None,
) -> None:
    """Make a job's shards, or a task's part of them, in this process."""
    part = _part(shard)
    from fastgan.scale import work

    generator = work.load(job)
    typed.check(generator, given, class_)
    with _progress() as told:
        report = work.run(generator, job, part, resume, told)
    account.ran(generator)
    _say(account, report, job.out, price)


def _part(text: str | None) -> tuple[int, int]:
    """I and N of "I/N"."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text or "0/1", re.ASCII)
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 <= index < count:
        raise ArgumentError("--shard", repr(text), "I/N, with I from 0 to N - 1, such as 3/64")
    return index, count


@contextmanager
def _progress(
    things: str = "images", pieces: str | None = "shards"
) -> Iterator[Callable[[int, int], object]]:
    """A bar of images, their rate and time left; and how to go on, where pieces are made."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with console.progress(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=None, rate=things)

        def told(done: int, total: int) -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            rate = f"{console.digits(speed)} {things}/s" if speed else things
            bar.update(task, completed=done, total=total, rate=rate)

        whole = f"{pieces} that are there are whole; --resume makes the others"
        with hint(lambda: whole) if pieces else nullcontext():
            yield told


def _say(
    account: records.Account, report: Report, out: str, price: float | None, things: str = "shards"
) -> None:
    for line in report.lines(price, things):
        account.say(line)
    account.say(out)
    rates = {
        "rate": report.rate, "core_seconds_per_thousand": report.core_seconds_per_thousand,
        "price": None if price is None else report.price(price),
    }  # fmt: skip
    account.close(out=out, **asdict(report), **rates)
    reasons = [f"{what}: {why}" for what, why in report.failures]
    fail_with(reasons, f"{len(reasons)} failed")


# On Ray -------------------------------------------------------------------------------------------

ABOUT = "Samples or pictures in masses, on this machine or on Ray."

GENERATE_EXAMPLES = """
fastgan scale generate model.onnx --n 1000000 --seed 7 --out shards  # on this machine's cores
fastgan scale generate dcgan-digits --n 1000000 --out s3://bucket/x --address auto  # on a cluster
"""
APPLY_EXAMPLES = """
fastgan scale apply x4.onnx -i photos -o large  # every picture below photos
"""
VERIFY_EXAMPLES = """
fastgan scale verify shards  # exit code 1 if anything is missing or damaged
"""


@dataclass(frozen=True)
class OnRay:
    """Which workers of Ray's there are; a group of options."""

    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of a Ray cluster: auto, ray://HOST:PORT. Default: this machine.",
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Actors. Default: as many as there is for."),
    ] = None
    threads: Annotated[
        int, typer.Option(min=1, metavar="N", help="Threads that each computes with.")
    ] = 1
    gpus: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="G", help="GPUs that each has. Default: 1 where there are any."
        ),
    ] = None
    max_failures: Annotated[
        int, typer.Option(min=0, metavar="N", help="Failures to go on after; they are listed.")
    ] = 0

    def cluster(self) -> Cluster:
        """As `fastgan.scale.on_ray` takes them."""
        from fastgan.scale.on_ray import Cluster

        return Cluster(self.address, self.workers, self.threads, self.gpus, self.max_failures)


def generate(
    model: options.Model,
    n: Annotated[int, typer.Option("--n", "-n", metavar="N", help="How many samples.")],
    out: Annotated[
        str, typer.Option(metavar="DIR|URL", help="Where shards go: a folder, s3://..., gs://...")
    ] = "out",
    seed: Annotated[int, typer.Option(help="The seed of all samples.")] = 0,
    start: Annotated[int, typer.Option(help="Index of the first sample.")] = 0,
    format: Annotated[str, typer.Option(help="webdataset, parquet or png.")] = "webdataset",
    shard_size: ShardSize = 4096,
    trunc: options.Truncation = None,
    class_: options.Class = None,
    size: options.Size = None,
    input: options.Named = None,
    workers_on: OnRay = OnRay(),
    resume: options.Resume = False,
    price_per_hour: Price = None,
    batch_size: options.BatchSize = None,
    where: options.Where = options.Where(),
    json_file: records.JsonFile = None,
) -> None:
    """Make samples of a seed, in shards: each whole, with a checksum, the same whoever makes it.

    A run that was killed goes on with --resume. Shards of other options are never mixed in.
    """
    account = records.Account("scale generate", json_file, model)
    pixels = None if size is None else parse_size(size)
    asked = job(
        model, out, n, seed, start, shard_size, format,
        where.options,
        {
            "labels": options.label(class_), "truncation": trunc, "size": pixels,
            "batch_size": batch_size, **typed.inputs(input),
        },
        workers_on.threads,
    )  # fmt: skip
    from fastgan.scale import on_ray

    with _progress() as told:
        report = on_ray.generate(
            model, n, out, seed=seed, start=start, shard_size=shard_size, format=asked.format,
            resume=resume, told=told, options=dict(asked.options),
            cluster=workers_on.cluster(),
            **asked.arguments,
        )  # fmt: skip
    _say(account, report, out, price_per_hour)


def apply(
    model: options.ImageModel,
    input: Annotated[
        str, typer.Option("--input", "-i", metavar="DIR|URL", help="Pictures, in any tree.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR|URL", help="Where results go.")
    ] = "out",
    ext: Annotated[str, typer.Option(help="png, jpg or webp.")] = "png",
    tile: Annotated[
        int | None,
        typer.Option("--tile", "-t", metavar="N", help="Run in tiles of N pixels; 0: never."),
    ] = None,
    seed: Annotated[int, typer.Option(help="For models with a latent or random class.")] = 0,
    class_: options.Class = None,
    workers_on: OnRay = OnRay(),
    resume: options.Resume = False,
    price_per_hour: Price = None,
    where: options.Where = options.Where(),
    json_file: records.JsonFile = None,
) -> None:
    """Run an image-to-image model on every picture of a folder or a bucket.

    Results keep the tree and the names. A picture that fails is listed with its reason.
    """
    account = records.Account("scale apply", json_file, model)
    from fastgan.scale import on_ray

    with _progress(pieces="pictures") as told:
        report = on_ray.apply(
            model, input, output, ext=ext, resume=resume, told=told,
            options=where.options,
            cluster=workers_on.cluster(),
            tile=tile, seed=seed, labels=options.label(class_),
        )  # fmt: skip
    _say(account, report, output, price_per_hour, "pictures")


def verify(
    place: Annotated[str, typer.Argument(metavar="DIR|URL", help="What a run wrote.")],
    json_file: records.JsonFile = None,
) -> None:
    """Read every shard, or picture, again: all there, whole, once. Exit code 1 if not."""
    from fastgan.scale.verify import verify as check

    account = records.Account("scale verify", json_file)
    with _progress("files", None) as told:
        wrong, shards, samples = check(place, told)
    account.close(
        place=place, shards=shards, samples=samples,
        failures=[{"shard": shard, "reason": reason} for shard, reason in wrong],
    )  # fmt: skip
    made = f"{shards} shards" if shards else f"{samples} pictures"
    reasons = [f"{what}: {why}" for what, why in wrong]
    fail_with(reasons, f"{place}: {len(wrong)} of {made} are not as they were made")
    whole = f"{made}, {samples} samples" if shards else made
    account.say(f"{place}: {whole}: each is there once, and whole")
