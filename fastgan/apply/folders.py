"""Pictures from files to files: which, and read and written while others are computed."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastgan.apply import targets
from fastgan.apply.targets import Job
from fastgan.errors import ArgumentError, FastganError, ModelFileError
from fastgan.host import files
from fastgan.images import files as image_files
from fastgan.images.files import Picture
from fastgan.images.formats import SUFFIXES, WRITTEN
from fastgan.model.origin import digest

log = logging.getLogger("fastgan")

_THREADS = 2
#: Decoded pictures that wait for the model, and results that wait to be written, take about this.
_WAITING_BYTES = 512 << 20
_MOST_AHEAD = 64


# Which -------------------------------------------------------------------------------------------


def find(source: Path, target: Path, suffix: str, ext: str, mask: Path | None = None) -> list[Job]:
    """The jobs for a file or for all pictures in a folder and below it, in the order of names.

    Args:
        target: a folder, made later if missing; or, for one file, a file with a suffix that can be
            written.
        suffix: put behind each name, after an underscore.
        ext: a key of `WRITTEN`, or "auto" for the format of the source, or png.
        mask: a file for all, or a folder with a mask of the same name for each.

    Raises:
        ArgumentError: there is nothing to do, or a result would replace a source or another result.
            `targets.settle` looks again, once it is known what the results are.
    """
    if not os.path.lexists(source):
        raise ArgumentError(str(source), "no such file or folder", "a picture, or a folder of them")
    to_file = False
    if source.is_dir():
        if target.exists() and not target.is_dir():
            raise ArgumentError(str(target), "a file", "a folder for the results of a folder")
        sources = _pictures(source, target, suffix)
        root = source
    else:
        sources, root = [source], source.parent
        to_file = not target.is_dir() and _names_a_file(target, ext)
    found = []
    for index, path in enumerate(sources):
        place = target
        if not to_file:
            format = (image_files.format_of(path) or "png") if ext == "auto" else ext
            name = f"{path.stem}_{suffix}" if suffix else path.stem
            place = target / path.relative_to(root).parent / f"{name}.{format}"
        fixed = to_file or ext != "auto"
        found.append(Job(index, path, place, _mask(mask, path, root), fixed))
    targets.check(found)
    inside = Path(os.path.realpath(source)) in Path(os.path.realpath(target)).parents
    if source.is_dir() and not suffix and inside:
        for job in found:
            if os.path.lexists(job.target):  # a picture of that folder, or an earlier result
                name = f"{job.target}, which is there and may be a picture to read"
                raise ArgumentError("output", name, "a folder of its own, or a --suffix")
    return found


def _names_a_file(target: Path, ext: str) -> bool:
    """Whether the output of one picture is a file, by its suffix, rather than a folder."""
    format = image_files.format_of(target)
    if format is None:
        if target.suffix.lower() in SUFFIXES:
            kinds = ", ".join(f".{format}" for format in WRITTEN)
            raise ArgumentError("--output", target.name, f"a folder, or a file in one of {kinds}")
        return False
    if ext not in ("auto", format):
        raise ArgumentError(f"--ext {ext}", f"an output named {target.name}", "one of them")
    return True


def _pictures(source: Path, target: Path, suffix: str) -> list[Path]:
    """Every picture below `source` but for results, of this run or of an earlier one."""
    inside, results = os.path.realpath(source), os.path.realpath(target)
    found = []

    def unread(error: OSError) -> None:
        log.warning("%s: %s, so it is skipped", error.filename, error.strerror)

    for folder, names, names_of_files in os.walk(source, onerror=unread):
        names[:] = [
            name
            for name in names
            if not name.startswith(".")
            and (results == inside or os.path.realpath(os.path.join(folder, name)) != results)
        ]
        found += [Path(folder, name) for name in names_of_files if not name.startswith(".")]
    pictures = sorted(path for path in found if path.suffix.lower() in SUFFIXES and _plain(path))
    if results == inside and suffix:
        stems = {path.with_suffix("") for path in pictures}
        pictures = [path for path in pictures if not _is_result(path, suffix, stems)]
    if not pictures:
        kinds = ", ".join(SUFFIXES)
        raise ArgumentError(str(source), "no pictures", f"files that end in {kinds}")
    return pictures


def _plain(path: Path) -> bool:
    """Whether it may be a picture; a link that leads nowhere may have been one."""
    try:
        what = files.kind(os.stat(path).st_mode)
    except OSError:  # it fails as a picture does
        return True
    if what is not None:
        log.warning("%s: %s, so it is skipped", path, what)
    return what is None


def _is_result(path: Path, suffix: str, stems: set[Path]) -> bool:
    bare = path.stem.removesuffix(f"_{suffix}")
    return bare != path.stem and path.with_name(bare) in stems


def _mask(mask: Path | None, path: Path, root: Path) -> Path | None:
    if mask is None or not mask.is_dir():
        return mask
    place = mask / path.relative_to(root)
    for ending in (path.suffix, *SUFFIXES):
        if place.with_suffix(ending).exists():
            return place.with_suffix(ending)
    raise ArgumentError(str(mask), f"no mask for {path.name}", f"{place.stem}.png or the like")


# Reading -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Read:
    """What was read for a job, or why it could not be.

    Attributes:
        source: the SHA-256 of the picture's file.
    """

    job: Job
    picture: Picture | None = None
    mask: Picture | None = None
    source: str | None = None
    error: FastganError | None = None


def read_ahead(jobs: Sequence[Job]) -> Iterator[Read]:
    """The pictures in order, the next ones read on other threads meanwhile."""
    with _Pool("fastgan-read") as pool:
        waiting: deque[Future[Read]] = deque()
        ahead = _THREADS
        for job in jobs:
            waiting.append(pool.submit(_read, job))
            if len(waiting) > ahead:
                done = waiting.popleft().result()
                ahead = _ahead(done)
                yield done
        while waiting:
            yield waiting.popleft().result()


def _read(job: Job) -> Read:
    try:
        mask = None if job.mask is None else image_files.read(job.mask)
        source = None
        # First: a file that changes in between is one that was not made yet, for --resume.
        with suppress(ModelFileError):  # `read` says better what is wrong with it
            source = digest(str(job.source))
        return Read(job, image_files.read(job.source), mask, source)
    except FastganError as error:
        return Read(job, error=error)


def _ahead(read: Read) -> int:
    if read.picture is None:
        return _THREADS
    values = read.picture.pixels.values
    return max(1, min(_MOST_AHEAD, _WAITING_BYTES // (values.numel() * values.itemsize)))


def alike(pictures: Iterator[Read], most: Callable[[Picture], int]) -> Iterator[list[Read]]:
    """Runs of pictures of one size and kind, at most `most` of them; an error stands alone."""
    group: list[Read] = []
    for read in pictures:
        if group and (_kind(read) != _kind(group[0]) or len(group) >= _most(group[0], most)):
            yield group
            group = []
        group.append(read)
    if group:
        yield group


def together(size: int, most: int) -> int:
    """How many pictures whose results take so many bytes go through a model together: 64 MiB."""
    return max(1, min(most, (64 << 20) // max(1, size)))


def _kind(read: Read) -> object:
    if read.picture is None:
        return read.job.index
    return read.picture.pixels.kind, read.mask and read.mask.pixels.kind


def _most(read: Read, most: Callable[[Picture], int]) -> int:
    return 1 if read.picture is None else most(read.picture)


# Writing -----------------------------------------------------------------------------------------


class _Pool(ThreadPoolExecutor):
    """A few threads; after an error, what they have not begun is dropped."""

    def __init__(self, name: str) -> None:
        super().__init__(_THREADS, name)

    def __exit__(self, *raised: object) -> None:
        self.shutdown(wait=True, cancel_futures=any(raised))


@dataclass
class Writers:
    """Writes on other threads; room for a result is asked for before it is made.

    Attributes:
        errors: (job, what went wrong) of writes that failed; complete once it is left.
    """

    errors: list[tuple[Job, Exception]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pool = _Pool("fastgan-write")
        self._room = threading.Condition()
        self._used = 0

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._pool.__exit__(*raised)

    def reserve(self, size: int) -> None:
        """Wait until results of so many bytes may be held, at least beside none."""
        with self._room:
            self._room.wait_for(lambda: not self._used or self._used + size <= _WAITING_BYTES)
            self._used += size

    def release(self, size: int) -> None:
        """Give back what was reserved."""
        with self._room:
            self._used -= size
            self._room.notify_all()

    def submit(self, job: Job, write: Callable[[], None], size: int) -> None:
        """Call `write` soon; `size` of what was reserved is released when it is done."""

        def run() -> None:
            try:
                write()
            except Exception as error:  # of any codec; reported at the end with its picture
                self.errors.append((job, error))
            finally:
                self.release(size)

        self._pool.submit(run)
