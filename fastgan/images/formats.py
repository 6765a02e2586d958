"""The one table of picture formats: what is read, what is written, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Format:
    """A format that pictures are written in.

    Attributes:
        pillow: what Pillow calls it.
        longest: the longest side that it can hold.
        suffixes: of its files beside `.` and its own name.
        alpha: whether it holds transparency.
        graded: whether it is written at a quality, 1 to 100, losing some.
        options: Pillow's, for a file to be kept.
        quick: Pillow's, for a picture that somebody waits for.
    """

    pillow: str
    longest: int
    suffixes: tuple[str, ...] = ()
    alpha: bool = True
    graded: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mime(self) -> str:
        """What a browser calls it, behind `image/`."""
        return self.pillow.lower()

    def how(self, quality: int, *, quick: bool = False) -> dict[str, Any]:
        """Pillow's options, at this quality if it has one."""
        return {**(self.quick if quick else self.options)} | (
            {"quality": quality} if self.graded else {}
        )


#: By the name that options have for it.
WRITTEN: Mapping[str, Format] = {
    "png": Format(
        "PNG",
        2**31 - 1,
        graded=False,
        # Pillow's own level, 6, takes three times as long for a file 4% smaller.
        options={"compress_level": 4},
        quick={"compress_level": 1},
    ),
    "jpg": Format("JPEG", 65500, (".jpeg",), alpha=False),
    "webp": Format("WEBP", 16383),
}

#: For help texts: "png, jpg, webp", and of these what has a quality.
NAMES = ", ".join(WRITTEN)
GRADED = " and ".join(name for name, written in WRITTEN.items() if written.graded)

#: The key of `WRITTEN` that a suffix stands for.
NAMED: Mapping[str, str] = {
    suffix: name for name, written in WRITTEN.items() for suffix in (f".{name}", *written.suffixes)
}

#: What Pillow calls those that are only read, each with its suffixes. It opens more, some through
#: other programs (Ghostscript): none of it is a photo.
_READ = {
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}

#: Suffixes that a folder is searched for.
SUFFIXES = (*NAMED, *(suffix for suffixes in _READ.values() for suffix in suffixes))
#: What Pillow calls the formats that are read.
OPENED = (*(written.pillow for written in WRITTEN.values()), *_READ)
