"""Where a generator came from, so that a pickle can be opened again, of the same bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastgan.errors import ModelFileError, Refusal
from fastgan.host import files
from fastgan.model.file import ModelFile
from fastgan.model.signature import Signature

#: A file as it was: path, bytes, and when it was written, in nanoseconds.
Stamp = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Origin:
    """What `load` was given, and the files that it read.

    Attributes:
        source: bytes, the name of a shipped model, or an absolute path.
        options: those of `load` that are not the generator's own to tell.
        files: the model's, and those that its weights lie in; none where the source was bytes.
        reopen: makes a generator of a pickle's `State`; a function of a module.
    """

    source: str | bytes
    options: Mapping[str, Any]
    files: tuple[Stamp, ...]
    reopen: Callable[[State], Any]

    @staticmethod
    def of(
        source: Any,
        resolved: Any,
        options: Mapping[str, Any],
        reopen: Callable[[State], Any],
    ) -> Origin:
        """Of a model that is about to be read.

        Args:
            source: as `load` was given it.
            resolved: bytes, or the path of the file.
            options, reopen: as the attributes.
        """
        if not isinstance(resolved, (str, os.PathLike)):
            return Origin(bytes(resolved), options, (), reopen)
        path = os.path.abspath(resolved)
        shipped = os.fspath(source) != os.fspath(resolved)
        return Origin(source if shipped else path, options, (_stamp(path),), reopen)

    def beside(self, model: ModelFile) -> Origin:
        """The same, with the files that the weights of the model lie in."""
        files = {
            file.path: (file.path, file.size, file.written) for file in model.external.values()
        }
        return replace(self, files=(*self.files, *(files[path] for path in sorted(files))))

    def digests(self) -> tuple[tuple[str, str], ...]:
        """(path, SHA-256) of each file.

        Raises:
            ModelFileError: one is not what it was when the model was loaded.
        """
        for stamp in self.files:
            if _stamp(stamp[0]) != stamp:
                found = "a file that was changed since it was loaded"
                raise ModelFileError(stamp[0], found, "the same", "load it again")
        return tuple((path, digest(path)) for path, *_ in self.files)

    def fingerprint(self) -> str:
        """The SHA-256 of what was read: of the file or bytes; where the weights lie in more files,
        of their digests, one after another.

        Raises:
            ModelFileError: as `digests`.
        """
        if isinstance(self.source, bytes):
            return hashlib.sha256(self.source).hexdigest()
        found = [known for _, known in self.digests()]
        return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class State:
    """A generator as a pickle holds it: what it was made from, and what it is."""

    origin: Origin
    digests: tuple[tuple[str, str], ...]
    device: str
    precision: str
    backend: str
    signature: Signature
    refusals: tuple[Refusal, ...]


def digest(path: str) -> str:
    """The SHA-256 of a file.

    Raises:
        ModelFileError: it can't be read.
    """
    try:
        with files.open_plain(path) as file:
            made = hashlib.sha256()
            while part := file.read(1 << 20):
                made.update(part)
            return made.hexdigest()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelFileError(path, reason.lower(), "the file that it was") from None


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a name that no file can have
        return path, -1, -1
    return path, status.st_size, status.st_mtime_ns
