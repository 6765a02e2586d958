"""Pictures of one folder or bucket through an image-to-image model, into another."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from fastgan.errors import ArgumentError, FastganError
from fastgan.images import files as image_files
from fastgan.images.formats import WRITTEN
from fastgan.images.pixels import to_pil
from fastgan.scale import manifest as manifests
from fastgan.scale.store import open_store

if TYPE_CHECKING:
    from PIL.Image import Image


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
        if self.ext not in WRITTEN:
            raise ArgumentError("--ext", repr(self.ext), ", ".join(WRITTEN))
        if self.source.rstrip("/") == self.out.rstrip("/"):
            raise ArgumentError("output", f"{self.out}, which is read", "another place")
        pictures = open_store(self.source, "--input").pictures()
        if not pictures:
            raise ArgumentError("--input", f"{self.source}: no pictures", "a folder that has some")
        taken: dict[str, str] = {}
        for picture in pictures:
            target = str(PurePosixPath(picture).with_suffix(f".{self.ext}"))
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
        done, size, failures = 0, 0, []
        for index, picture, target in group:
            try:
                size += self._one(index, picture, target)
                done += 1
            except (FastganError, OSError, RuntimeError, MemoryError) as error:
                failures.append((picture, " ".join(str(error).split()) or type(error).__name__))
        return done, size, failures

    def _one(self, index: int, picture: str, target: str) -> int:
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
        self._out.write(target, file.getvalue())
        return file.tell()
