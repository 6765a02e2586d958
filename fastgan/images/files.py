"""Pictures in files, read and written through Pillow."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastgan.errors import ArgumentError
from fastgan.host import files
from fastgan.images import made
from fastgan.images.formats import NAMED, OPENED, WRITTEN
from fastgan.images.pixels import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("fastgan")

_EXIF_ORIENTATION = 0x0112
_DEPTHS = "8 or 16 bits a channel: of others it is not known what is white"
_GREY16 = ("I;16", "I;16L", "I;16B", "I;16N", "I")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it was read: upright, one frame.

    Attributes:
        pixels: one image, n = 1, on the CPU.
        icc_profile: what its colours mean, where the file says so.
        bits: of each channel in the file; `pixels` have 8 of them where Pillow reads no more.
    """

    pixels: Pixels
    icc_profile: bytes | None = None
    bits: int = 8


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its picture before any pixel.

    Attributes:
        size: (H, W), as it is stored.
        alpha: whether it has transparency.
    """

    size: tuple[int, int]
    alpha: bool


def is_path(value: Any) -> bool:
    """Whether `value` names a file."""
    return isinstance(value, (str, os.PathLike))


def is_pil(value: Any) -> bool:
    """Whether `value` is a Pillow image; Pillow is not imported to find out."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def read(
    source: str | os.PathLike[str] | bytes, name: str = "", most_pixels: int | None = None
) -> Picture:
    """Read a picture: the first frame, turned upright as its EXIF orientation says.

    Args:
        source: a path, or what a file holds.
        name: what to call it in an error; the path unless given.
        most_pixels: more are refused, before they are decoded; None for Pillow's own limit.

    Raises:
        ArgumentError: there is no such file, it may not be read, it is no picture, a damaged or
            a too large one.
    """
    name = name or ("picture" if isinstance(source, bytes) else os.fspath(source))
    with _opened(source, name) as image:
        if most_pixels is not None and image.width * image.height > most_pixels:
            found = f"{image.width} x {image.height} pixels"
            raise ArgumentError(name, found, f"at most {most_pixels / 1e6:.3g} million")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # MPO: a photo with its preview behind it
            log.warning("%s: the first of %d frames", name, frames)
        bits = _bits(image)
        return replace(decode(image, name), bits=bits)


def look(source: str | os.PathLike[str]) -> Header:
    """What a file says of its picture. Raises as `read`, but for damage behind the header."""
    with _opened(source, os.fspath(source)) as image:
        return Header((image.height, image.width), _mode(image).endswith("A"))


@contextmanager
def _opened(source: str | os.PathLike[str] | bytes, name: str) -> Iterator[Image]:
    """A picture of which the header was read."""
    from PIL import Image

    Image.init()
    formats = [format for format in OPENED if format in Image.OPEN]  # AVIF is optional
    with _named(name):
        file = io.BytesIO(source) if isinstance(source, bytes) else files.open_plain(source)
        with file, Image.open(file, formats=formats) as image:
            yield image


def _bits(image: Image) -> int:
    """How many bits a channel has in the file, as far as Pillow knows before it decodes them."""
    if image.format == "TIFF":
        return max(getattr(image, "tag_v2").get(258, (8,)))  # noqa: B009  BitsPerSample
    for tile in getattr(image, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if image.format == "PPM" and any(isinstance(a, int) and a > 255 for a in arguments):
            return 16  # the value of white
        if any(isinstance(a, str) and ";16" in a for a in arguments):
            return 16
    return 8


def decode(image: Image, name: str = "images") -> Picture:
    """A Pillow image as pixels.

    Grey stays grey, with 16 bits where it has them; palettes, CMYK and the other colour spaces
    become RGB; transparency becomes alpha.

    Args:
        name: what to call it in an error.

    Raises:
        ArgumentError: it is damaged, or its pixels are floats or have 32 bits, whose white is
            unknown.
    """
    with _named(name):
        if image.mode == "I" and _bits(image) > 16:
            raise ArgumentError(name, f"pixels of {_bits(image)} bits", _DEPTHS)
        image.load()  # before the orientation is asked for: formats keep their EXIF at the end
        if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
            from PIL import ImageOps

            image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            raise ArgumentError(name, "floating-point pixels", _DEPTHS)
        profile = image.info.get("icc_profile")
        if image.mode in _GREY16:
            deep = np.asarray(image).astype(np.int32)
            if deep.size and (deep.min() < 0 or deep.max() > 65535):
                found = f"pixels from {deep.min()} to {deep.max()}"
                raise ArgumentError(name, found, _DEPTHS)
            return Picture(Pixels(torch.from_numpy(deep)[None, None], 65535), profile)
        mode = _mode(image)
        if mode != image.mode:
            # A profile of CMYK or Lab says nothing of RGB.
            profile = profile if image.mode in ("P", "PA", "RGBX", "RGBa", "La", "1") else None
            image = image.convert(mode)
        array = np.array(image)
    channels = array[:, :, None] if array.ndim == 2 else array
    values = torch.from_numpy(channels).permute(2, 0, 1)[None]
    if mode in ("LA", "RGBA"):
        return Picture(Pixels(values[:, :-1], 255, values[:, -1:]), profile)
    return Picture(Pixels(values, 255), profile)


def _mode(image: Image) -> str:
    """The one of L, LA, RGB and RGBA that holds all of an image."""
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("P", "PA") and image.palette is not None:
        grey = False
    return ("L" if grey else "RGB") + ("A" if transparent else "")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What Pillow raises for a file, as one error that names it."""
    from PIL import Image, UnidentifiedImageError

    needed = "a picture"
    try:
        yield
    except UnidentifiedImageError:
        kinds = ", ".join(OPENED)
        raise ArgumentError(name, "no picture that can be read", f"one of {kinds}") from None
    except Image.DecompressionBombError as error:
        instead = "in Python, PIL.Image.MAX_IMAGE_PIXELS allows larger ones"
        raise ArgumentError(name, str(error), needed, instead) from None
    except OSError as error:  # no such file, no permission; also truncated data
        raise ArgumentError(name, error.strerror or str(error), needed) from None
    except (SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError) as error:
        if isinstance(error, ArgumentError):
            raise
        # Pillow's readers raise any of these on damaged headers.
        raise ArgumentError(name, f"a damaged file ({error})", needed) from None


def format_of(path: str | os.PathLike[str]) -> str | None:
    """The key of `WRITTEN` that a suffix stands for; None for any other."""
    return NAMED.get(Path(path).suffix.lower())


def write(
    path: Path,
    image: Image,
    quality: int = 95,
    icc_profile: bytes | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Write a picture, whole or not at all; a file that is there already is replaced.

    Args:
        path: its suffix is the format; see `format_of`.
        quality: 1 to 100, of jpg and webp.
        icc_profile: what its colours mean.
        facts: how it was made, for it to say (`images.made`).

    Raises:
        ArgumentError: the format can't hold so large a picture.
        OSError: it can't be written.
    """
    format = WRITTEN[NAMED[path.suffix.lower()]]
    if max(image.size) > format.longest:
        found = f"{image.width} x {image.height} pixels"
        needed = f"at most {format.longest} a side in {format.pillow}"
        raise ArgumentError(str(path), found, needed, "take png")
    options = format.how(quality)
    if icc_profile is not None:
        options["icc_profile"] = icc_profile
    if facts is not None:
        options |= made.options(format.pillow, facts)
    with files.whole(path) as file:
        image.save(file, format.pillow, **options)
