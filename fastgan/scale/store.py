"""Where shards go: a folder of this machine, or any that fsspec knows by a URL, such as a bucket.

What is there under its own name is whole. A folder gets it by renaming a hidden file; an object
store by an upload, which it shows when it has ended; any other file system by a rename of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from fastgan.errors import ArgumentError
from fastgan.host import files
from fastgan.images.formats import SUFFIXES

#: fsspec's names for what shows a file only once all of it has arrived.
_AT_ONCE = {"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"}


def open_store(place: str | os.PathLike[str], where: str = "out") -> Store:
    """The store at a path or a URL; nothing is made yet.

    Args:
        where: the argument or option that names it, for errors.

    Raises:
        ArgumentError: the path is no folder, or fsspec lacks what the URL takes.
    """
    text = os.fspath(place)
    protocol = fsspec.utils.get_protocol(text)
    if protocol in ("file", "local"):
        root = Path(text.removeprefix("file://"))
        if root.exists() and not root.is_dir():
            raise ArgumentError(where, f"{root}, a file", "a folder, there already or not")
        return Folder(text, root)
    try:
        system, root_name = fsspec.core.url_to_fs(text)
    except (ImportError, ValueError, OSError) as error:
        raise ArgumentError(
            where, f"{text}: {error}", "a folder, or a URL that fsspec opens"
        ) from None
    return Remote(text, system, root_name.rstrip("/"), protocol in _AT_ONCE)


class Store(ABC):
    """Files by name below one place; a name may have folders in it, with "/".

    Args:
        name: the path or URL, as it was given.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def names(self) -> set[str]:
        """Files and folders that stand at the top, but for hidden ones."""

    @abstractmethod
    def inside(self, folder: str) -> set[str]:
        """The same of a folder at the top."""

    @abstractmethod
    def pictures(self) -> list[str]:
        """Every picture, by its name, at the top and below it; in order."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A file to read.

        Raises:
            OSError: it is not there, or can't be read.
        """

    @contextmanager
    @abstractmethod
    def whole(self, name: str) -> Iterator[BinaryIO]:
        """A file to write, which appears once it is whole."""

    @contextmanager
    @abstractmethod
    def folder(self, name: str) -> Iterator[Path]:
        """A folder of this machine to fill with files, which appear as one."""

    def read(self, name: str) -> bytes | None:
        """What a file holds; None where there is none."""
        try:
            with self.open(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        with self.whole(name) as file:
            file.write(data)


class Folder(Store):
    """A folder of this machine."""

    def __init__(self, name: str, root: Path) -> None:
        super().__init__(name)
        self.root = root

    def names(self) -> set[str]:
        return _shown(os.listdir(self.root)) if self.root.is_dir() else set()

    def inside(self, folder: str) -> set[str]:
        return _shown(os.listdir(self.root / folder))

    def pictures(self) -> list[str]:
        return _pictures(str(path.relative_to(self.root)) for path in self.root.rglob("*"))

    def open(self, name: str) -> BinaryIO:
        return files.open_plain(self.root / name)

    @contextmanager
    def whole(self, name: str) -> Iterator[BinaryIO]:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(path) as file:
            yield file

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        path = self.root / name
        part = files.part_of(path)
        part.mkdir(parents=True)
        try:
            yield part
            shutil.rmtree(path, ignore_errors=True)  # of a run that ended before its record
            os.replace(part, path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def sweep(self) -> None:
        """Remove what killed processes of this machine left half-written."""
        if self.root.is_dir():
            files.sweep(self.root)


class Remote(Store):
    """A place that fsspec reaches.

    Args:
        at_once: whether a file appears there only when all of it has arrived.
    """

    def __init__(self, name: str, system: Any, root: str, at_once: bool) -> None:
        super().__init__(name)
        self._system, self._root, self._at_once = system, root, at_once

    def names(self) -> set[str]:
        return self._list(self._root)

    def inside(self, folder: str) -> set[str]:
        return self._list(f"{self._root}/{folder}")

    def _list(self, path: str) -> set[str]:
        self._system.invalidate_cache()
        try:
            found = self._system.ls(path, detail=False)
        except FileNotFoundError:
            return set()
        return _shown(entry.rstrip("/").rpartition("/")[2] for entry in found)

    def pictures(self) -> list[str]:
        self._system.invalidate_cache()
        below = len(self._system._strip_protocol(self._root).rstrip("/")) + 1
        return _pictures(path[below:] for path in self._system.find(self._root))

    def open(self, name: str) -> BinaryIO:
        file: BinaryIO = self._system.open(f"{self._root}/{name}", "rb")
        return file

    @contextmanager
    def whole(self, name: str) -> Iterator[BinaryIO]:
        # By way of a file here, so that what fails half-way is never seen there.
        with tempfile.TemporaryDirectory(prefix="fastgan-") as folder:
            path = Path(folder, "part")
            with open(path, "xb") as file:
                yield file
            self._put(path, name)

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="fastgan-") as folder:
            yield Path(folder)
            for path in sorted(Path(folder).iterdir()):
                self._put(path, f"{name}/{path.name}")

    def _put(self, path: Path, name: str) -> None:
        target = f"{self._root}/{name}"
        self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
        if self._at_once:
            self._system.put_file(str(path), target)
            return
        part = str(files.part_of(Path(target)))
        self._system.put_file(str(path), part)
        self._system.mv(part, target)


def _pictures(names: Iterable[str]) -> list[str]:
    hidden = re.compile(r"(^|/)\.")
    return sorted(
        name for name in names if Path(name).suffix.lower() in SUFFIXES and not hidden.search(name)
    )


def _shown(names: Any) -> set[str]:
    return {name for name in names if not name.startswith(".")}
