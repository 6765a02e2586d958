"""Files: read only where they are plain ones, written whole or not at all, never over a source."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fastgan.errors import ArgumentError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)
#: Two letters or more before the colon: one is a drive of Windows. Paths make "//" a "/".
_URL = re.compile(r"([a-z][a-z0-9+.-]+:)/+", re.IGNORECASE)


# Reading -----------------------------------------------------------------------------------------


def kind(mode: int) -> str | None:
    """What a file is that is no plain one, of its `st_mode`: "a named pipe"; None for a plain one.

    A link counts as what it leads to, so ask `os.stat`.
    """
    return None if stat.S_ISREG(mode) else next((k for is_, k in _KINDS if is_(mode)), "no file")


def open_plain(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a plain file to read. A named pipe would keep us waiting for a writer, and a device for
    ever; they are errors at once.

    Raises:
        OSError: there is no such file, it may not be read, or it is no plain one, which
            `strerror` then says.
    """
    # Asked twice: opening a socket or a tape has effects, and names can change hands.
    _check_plain(os.stat(path).st_mode, path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        _check_plain(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _check_plain(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if found := kind(mode):
        raise OSError(errno.EINVAL, found, os.fspath(path))


def cache(part: str) -> Path:
    """A folder for what is kept between processes: in FASTGAN_CACHE, else in the user's cache."""
    if "FASTGAN_CACHE" in os.environ:
        return Path(os.environ["FASTGAN_CACHE"]) / part
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "fastgan" / part


# Writing -----------------------------------------------------------------------------------------


def check_path(where: str, path: str | os.PathLike[str]) -> None:
    """Refuse what people mean otherwise than as a path.

    Raises:
        ArgumentError: "-" for standard input or output, or a URL.
    """
    text = os.fspath(path)
    if text == "-":
        found = "-, which stands for standard input or output"
        raise ArgumentError(where, found, "a path")
    if _URL.match(text) and not os.path.lexists(text):
        address = _URL.sub(r"\1//", text, count=1)
        raise ArgumentError(where, f"{address}, a URL", "a path on this machine")


def is_remote(source: object) -> bool:
    """Whether it is an address that a model is fetched from (`fastgan.model.remote`)."""
    return isinstance(source, str) and source.startswith(("hf://", "https://", "http://"))


def check_target(where: str, path: Path, reads: Iterable[Path | str | None] = ()) -> None:
    """Refuse a place where a file can't be put, or must not; to be asked before long work.

    Args:
        where: the argument or option that names it.
        reads: what is read: none of it is replaced, under whichever name.

    Raises:
        ArgumentError: the place is a folder, a device or the like, or one of `reads`.
    """
    check_path(where, path)
    with suppress(OSError):
        # What is written is moved into place, so that a device itself would be replaced.
        if found := kind(os.stat(path).st_mode):
            raise ArgumentError(where, f"{path}, {found}", "a file, there already or not")
    for read in reads:
        if read is not None and identity(path) == identity(read):
            found = f"{path}, which is also read"
            raise ArgumentError(where, found, "another file", f"{read} would be lost")


def identity(path: str | os.PathLike[str]) -> object:
    """By what a file is known under any name: its inode; its real path where there is none."""
    with suppress(OSError):
        status = os.stat(path)
        if status.st_ino:
            return status.st_dev, status.st_ino
    return os.path.realpath(path)  # of a link to itself: that link


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which becomes `path` if nothing is raised; else nothing is
    left there. It ends in the same suffix.
    """
    part = part_of(path)
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears at `path` once it is whole; one that is there is replaced."""
    with replacing(path) as part, open(part, "xb") as file:
        yield file


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else who asks for this folder has it meanwhile: no thread, and no other process.

    Where the file system knows no locks, or Windows none of folders, nobody is kept out.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # and the lock with it


def part_of(path: Path) -> Path:
    """A hidden name beside `path` to write to, of one length however long the name."""
    name = f"{_prefix()}{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}"
    return path.with_name(name)


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that were killed left half-written in a folder."""
    pattern = re.compile(re.escape(_prefix()) + r"(\d+)-[0-9a-f]+\.part(\..*)?")
    for path in folder.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not _runs(int(match[1])):
            path.unlink(missing_ok=True)


def _prefix() -> str:
    # Folders are shared between machines and containers, whose process numbers are their own.
    machine = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
    return f".fastgan-{machine}-"


def _runs(process: int) -> bool:
    if os.name == "nt":  # where asking so would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
