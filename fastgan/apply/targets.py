"""Where results go: decided for every picture, and checked, before anything is written."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from fastgan.errors import ArgumentError
from fastgan.host import files
from fastgan.images import files as image_files
from fastgan.images.files import Header
from fastgan.images.formats import WRITTEN


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to make of another.

    Attributes:
        index: its place among all jobs.
        mask: the mask that belongs to it.
        fixed: whether the target's format was asked for; else another may hold the result better.
    """

    index: int
    source: Path
    target: Path
    mask: Path | None = None
    fixed: bool = False


def settle(
    jobs: Sequence[Job], result: Callable[[Header], Header], reads: Iterable[Path | str | None] = ()
) -> list[Job]:
    """The jobs with the targets that they will have: png where their format can't hold a result.

    Args:
        result: what a picture becomes.
        reads: what else is read.

    Raises:
        ArgumentError: see `check`.
    """
    settled = [_settled(job, result) for job in jobs]
    check(settled, reads)
    return settled


def _settled(job: Job, result: Callable[[Header], Header]) -> Job:
    format = image_files.format_of(job.target)
    if job.fixed or format in (None, "png"):
        return job
    try:
        header = result(image_files.look(job.source))
    except ArgumentError:  # what can't be read is said when its turn comes
        return job
    if holds(format, header):
        return job
    return replace(job, target=job.target.with_suffix(".png"))


def holds(format: str | None, result: Header) -> bool:
    """Whether a format holds a picture: one so large, with transparency or without."""
    if format is None or max(result.size) > WRITTEN[format].longest:
        return False
    return WRITTEN[format].alpha or not result.alpha


def check(jobs: Sequence[Job], reads: Iterable[Path | str | None] = ()) -> None:
    """Refuse targets that are read, that two results share, or where no file can be put.

    Args:
        reads: what is read beside the sources and masks of the jobs.

    Raises:
        ArgumentError: there is such a target.
    """
    others = {Path(read) for read in reads if read is not None}
    others |= {job.mask for job in jobs if job.mask is not None}
    sources = {files.identity(job.source) for job in jobs}
    known = {files.identity(other) for other in others}
    parent = cache(os.path.realpath)
    taken: dict[tuple[str, str], Job] = {}
    folded: dict[tuple[str, str], Job] = {}
    for job in jobs:
        files.check_target("output", job.target)
        same = files.identity(job.target) if os.path.lexists(job.target) else None
        if same in sources or same in known:
            what = "one of the pictures to read" if same in sources else "also read"
            found = f"{job.target}, which is {what}"
            needed = "another --output" + ", or another --suffix" * (len(jobs) > 1)
            raise ArgumentError("output", found, needed)
        # A link there is replaced itself, so it is its folder that counts.
        place = str(parent(job.target.parent)), job.target.name
        blind = place[0], unicodedata.normalize("NFC", place[1]).casefold()
        before = taken.get(place)
        if before is None and blind in folded and _folds(job.target.parent):
            before = folded[blind]
        if before is not None:
            found = f"{before.source.name} and {job.source.name}, which would both become "
            raise ArgumentError("output", found + str(job.target), "a name for each", _apart(jobs))
        taken[place] = folded[blind] = job


def _apart(jobs: Sequence[Job]) -> str:
    """What to do about two results of one name; nothing that is done already."""
    if all(job.fixed for job in jobs):
        sources = [job.source for job in jobs]
        natural = {(s.with_suffix(""), image_files.format_of(s) or "png") for s in sources}
        if len(natural) == len(jobs):
            return "take --ext auto"
    return "rename one of them, or run them into folders of their own"


def _folds(folder: Path) -> bool:
    """Whether a folder, or the one that it will be made in, holds "a" and "A" for one name."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return _folds_here(os.path.realpath(folder))


@cache
def _folds_here(folder: str) -> bool:
    with suppress(OSError), tempfile.NamedTemporaryFile(dir=folder, prefix=".fastgan-a") as file:
        name = os.path.basename(file.name)
        return os.path.exists(os.path.join(folder, name.swapcase()))
    return False
