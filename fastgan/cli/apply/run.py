"""Pictures on their way through `fastgan apply`: read, computed and written side by side."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.apply.folders import Read, Writers, alike, read_ahead, together
from fastgan.cli import console
from fastgan.errors import ArgumentError, ModelFileError
from fastgan.images import files as image_files
from fastgan.images import made
from fastgan.images.files import Header
from fastgan.images.formats import WRITTEN
from fastgan.images.pixels import to_pil
from fastgan.model.origin import digest

if TYPE_CHECKING:
    from PIL.Image import Image

    from fastgan.apply.targets import Job
    from fastgan.generator import Generator
    from fastgan.images.files import Picture

log = logging.getLogger("fastgan")


@dataclass
class Run:
    """Pictures on their way, and what became of them.

    Attributes:
        arguments: of the generator, for every picture.
        outscale: final size by size of the picture; None for the model's own.
        quality: of jpg and webp.
        loaded: seconds that loading took.
        computing: seconds in the model.
        deep: how many pictures had more than 8 bits a channel.
        facts: how every result is made.
        metadata: whether results say it.
    """

    generator: Generator
    arguments: dict[str, Any]
    outscale: float | None
    quality: int
    loaded: float = 0.0
    computing: float = 0.0
    deep: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    metadata: bool = True
    failures: list[tuple[Job, Exception]] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    _opaque: bool = False

    def result(self, picture: Header) -> Header:
        """How large the result of a picture is, a square of its longest side, and whether it has
        transparency; as far as the model says.
        """
        signature, scale = self.generator.signature, self.generator.scale
        alpha = signature.made.shape[1:2] == (4,) or (
            picture.alpha
            and scale is not None
            and self.arguments["alpha"] != "ignore"
            and signature.image is not None
            and signature.image.shape[1] not in (2, 4)
        )
        by = self.outscale or (1.0 if scale is None else max(scale))
        # Rounded as _write does it, or up: a turned picture has its sides swapped, so it's a bound.
        longest = max(picture.size) * by
        side = round(longest) if self.outscale is not None else math.ceil(longest)
        return Header((side, side), alpha)

    def told(self, job: Job, source: str | None = None) -> dict[str, Any]:
        """How the result of a picture is made, for it to say.

        Args:
            source: the SHA-256 of the picture's file.
        """
        format = WRITTEN.get(image_files.format_of(job.target) or "")
        graded = format is not None and format.graded
        return {
            **self.facts,
            "source": source,
            "mask": None if job.mask is None else digest(str(job.mask)),
            **({"quality": self.quality} if graded else {}),
        }

    def is_made(self, job: Job) -> bool:
        """Whether a result that is there is of the picture as it is now, as far as it says.

        Raises:
            ArgumentError: it was made by another model, or with other options.
        """
        may_differ = ("fastgan", "model", "backend", "source")
        told = made.check(job.target, self.told(job), may_differ, "another --output").get("source")
        try:
            return told in (None, digest(str(job.source)))
        except ModelFileError:  # nothing else can be made of it
            return True

    def all(self, jobs: list[Job]) -> None:
        """Read, compute and write, each while the others go on."""
        with console.counting("images", len(jobs)) as told, Writers() as writers:
            for group in alike(read_ahead(jobs), self._most):

                def tell(done: int, total: int, group: list[Read] = group) -> None:
                    told(group[0].job.index + len(group) * done / total)

                self._group(group, writers, tell)
                told(group[-1].job.index + 1)
        self.failures += writers.errors

    def _group(self, group: list[Read], writers: Writers, tell: Callable[[int, int], None]) -> None:
        """Pictures of one size through the model, and on to be written."""
        first = group[0]
        if first.picture is None:
            self.failures.append((first.job, first.error or ValueError("nothing was read")))
            return
        each = self._bytes(first.picture)
        writers.reserve(each * len(group))
        try:
            images = self._compute(group, tell)
        except Exception as error:  # backends fail in ways of their own; all others still count
            writers.release(each * len(group))
            if len(group) == 1:
                self.failures.append((first.job, error))
                return
            for read in group:  # which of them was it?
                self._group([read], writers, tell)
            return
        for read, image in zip(group, images, strict=True):
            writers.submit(read.job, partial(self._write, read, image), each)

    def _compute(self, group: list[Read], tell: Callable[[int, int], None]) -> list[Image]:
        arguments = dict(self.arguments)
        masks = [read.mask.pixels for read in group if read.mask is not None]
        if masks:
            arguments["mask"] = masks
        began = time.perf_counter()
        pictures = [read.picture for read in group if read.picture is not None]
        # A result that is not in proportion has no canvas to be put together on: it is one run's.
        scaled = self.generator.scale is not None
        images = self.generator(
            [picture.pixels for picture in pictures],
            format="pil" if scaled else "uint8",
            start=group[0].job.index,
            progress=tell,
            **arguments,
        )
        self.computing += time.perf_counter() - began
        self.deep += sum(picture.bits > 8 for picture in pictures)
        if scaled:
            return images
        if arguments["alpha"] != "ignore" and pictures[0].pixels.alpha is not None:
            if not self._opaque:
                log.warning("results of this model are not in proportion: transparency is dropped")
            self._opaque = True
        return [to_pil(image[None])[0] for image in images]

    def _most(self, picture: Picture) -> int:
        """How many pictures like this one go through the model together."""
        return max(self.arguments["batch_size"] or 1, together(self._bytes(picture), most=64))

    def _bytes(self, picture: Picture) -> int:
        """What a result takes in Pillow, 4 bytes a pixel."""
        height, width = picture.pixels.size
        vertical, horizontal = self.generator.scale or (1.0, 1.0)
        made = max(1.0, vertical * horizontal)
        return int(4 * height * width * (made + (self.outscale or 0.0) ** 2))

    def _write(self, read: Read, image: Image) -> None:
        """On a thread: the result at its final size, in its format, at its place."""
        from PIL.Image import Resampling

        assert read.picture is not None
        target, size = read.job.target, read.picture.pixels.size
        if self.outscale is not None:
            final = (max(1, round(self.outscale * side)) for side in size[::-1])
            image = image.resize((next(final), next(final)), Resampling.LANCZOS)
        format = image_files.format_of(target)
        if image.mode in ("LA", "RGBA") and format is not None and not WRITTEN[format].alpha:
            if not read.job.fixed:  # `result` could not know
                needed = f"a format that holds it, which {target.name} has not"
                raise ArgumentError("result", "transparency", needed, "take --ext png")
            log.warning("%s: %s holds no transparency, so it is dropped", target, format)
            image = image.convert(image.mode[:-1])
        # What a profile says of three channels, it does not say of one.
        colours = len(image.mode.removesuffix("A"))
        alike = colours == read.picture.pixels.values.shape[1]
        target.parent.mkdir(parents=True, exist_ok=True)
        profile = read.picture.icc_profile if alike else None
        facts = self.told(read.job, read.source) if self.metadata else None
        image_files.write(target, image, self.quality, profile, facts)
        self.written.append(target)
