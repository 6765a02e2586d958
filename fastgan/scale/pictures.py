"""Pictures of one folder or bucket through an image-to-image model, into another.

Beside them are their checksums, in files as `sha256sum` writes them: one for each piece of work,
called by its own digest, and written last. So a picture that has a checksum is whole.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from fastgan.errors import ArgumentError, FastganError, ModelFileError, one_line
from fastgan.images import files as image_files
from fastgan.images.formats import WRITTEN
from fastgan.images.pixels import to_pil
from fastgan.scale import manifest as manifests
from fastgan.scale.sinks import read_sums, sum_line
from fastgan.scale.store import Store, open_store

if TYPE_CHECKING:
    from PIL.Image import Image

#: The folder of checksums.
SUMS = "checksums"


@dataclass(frozen=True)
class Folders:
    """Pictures to make of others: what every worker is told.

    Attributes:
        model, out: as `shards.Job`.
        source: a folder or a URL.
        ext: what results are written as, a key of `WRITTEN`.
        quality: 1 to 100, of jpg and webp.
        options: of `fastgan.load`.
        arguments: of `Generator.__call__`.
        threads: that one worker computes with.
    """

    model: str
    source: str
    out: str
    ext: str = "png"
    quality: int = 95
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1

    def jobs(self) -> list[tuple[str, str]]:
        """(picture, result) by their names; the tree is kept.

        Raises:
            ArgumentError: there are none, two would become one, or results would lie among them.
        """
        if self.source.rstrip("/") == self.out.rstrip("/"):
            raise ArgumentError("output", f"{self.out}, which is read", "another place")
        return targets(self.source, self.ext)


def targets(source: str, ext: str) -> list[tuple[str, str]]:
    """(picture, result) for every picture of a place.

    Raises:
        ArgumentError: there are none, or two would become one.
    """
    if ext not in WRITTEN:
        raise ArgumentError("--ext", repr(ext), ", ".join(WRITTEN))
    pictures = open_store(source, "--input").pictures()
    if not pictures:
        raise ArgumentError("--input", f"{source}: no pictures", "a folder that has some")
    taken: dict[str, str] = {}
    for picture in pictures:
        target = str(PurePosixPath(picture).with_suffix(f".{ext}"))
        if target in taken:
            found = f"{taken[target]} and {picture}, which would both become {target}"
            raise ArgumentError("output", found, "a name for each", "rename one of them")
        taken[target] = picture
    return [(picture, target) for target, picture in taken.items()]


class Improver:
    """Makes results with one loaded model.

    Attributes:
        manifest: what decides their bytes.

    Raises:
        ArgumentError: the model takes no picture.
    """

    def __init__(self, folders: Folders) -> None:
        import fastgan

        self._generator = fastgan.load(folders.model, threads=folders.threads, **folders.options)
        self._scale = self._generator.scale  # raises where the model takes no picture
        self._folders = folders
        self._source, self._out = open_store(folders.source), open_store(folders.out)
        made = manifests.made_with(self._generator, folders.arguments)
        stated = {"source": folders.source, "ext": folders.ext, "quality": folders.quality}
        self.manifest = {**stated, **made}

    def run(self, group: Sequence[tuple[int, str, str]]) -> tuple[int, int, list[tuple[str, str]]]:
        """Make some results.

        Args:
            group: (number, picture, result); the number is the sample of a model that draws.

        Returns:
            How many were made, their bytes, and (picture, reason) of those that were not.
        """
        done, size, failures, lines = 0, 0, [], b""
        for index, picture, target in group:
            try:
                data = self._one(index, picture)
                self._out.write(target, data)
                lines += sum_line(data, target)
                size += len(data)
                done += 1
            except (FastganError, OSError, RuntimeError, MemoryError) as error:
                failures.append((picture, one_line(error)))
        if lines:
            self._out.write(f"{SUMS}/{hashlib.sha256(lines).hexdigest()[:32]}.sha256", lines)
        return done, size, failures

    def _one(self, index: int, picture: str) -> bytes:
        data = self._source.read(picture)
        if data is None:
            raise ArgumentError(picture, "no such file any more", "a picture")
        read = image_files.read(data, picture)
        scaled = self._scale is not None
        made = self._generator(
            [read.pixels],
            format="pil" if scaled else "uint8",
            start=index,
            **self._folders.arguments,
        )
        image: Image = made[0] if scaled else to_pil(made[0][None])[0]
        format = WRITTEN[self._folders.ext]
        if image.mode.endswith("A") and not format.alpha:
            image = image.convert(image.mode[:-1])
        file = io.BytesIO()
        image.save(file, format.pillow, **format.how(self._folders.quality))
        return file.getvalue()


def sums(store: Store) -> dict[str, str]:
    """SHA-256 of every result by its name, as the files beside them say.

    Raises:
        ModelFileError: one of them is damaged.
    """
    found: dict[str, str] = {}
    if SUMS not in store.names():
        return found
    for name in sorted(store.inside(SUMS)):
        if not name.endswith(".sha256"):
            continue
        try:
            found.update(read_sums(store.read(f"{SUMS}/{name}") or b""))
        except ValueError as error:
            needed = "lines as sha256sum prints them"
            raise ModelFileError(f"{store}/{SUMS}/{name}", str(error), needed) from None
    return found
