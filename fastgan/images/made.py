"""How a picture was made, kept in the picture as JSON: in a text chunk of a PNG, and in the comment
of others' EXIF.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

#: The chunk's keyword.
KEY = "fastgan"

#: EXIF's own group, in it what a user has to say, and how that begins.
_EXIF, _COMMENT, _ASCII = 0x8769, 0x9286, b"ASCII\0\0\0"
#: EXIF has 16 bits for its size; what does not fit is left out.
_LONGEST = 60_000


def chunk(facts: dict[str, Any]) -> PngInfo:
    """What Pillow takes as `pnginfo`."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(KEY, json.dumps(facts))
    return info


def options(format: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What Pillow is to be told to keep facts in a picture.

    Args:
        format: as Pillow calls it.
    """
    if format == "PNG":
        return {"pnginfo": chunk(facts)}
    from PIL.Image import Exif

    text = json.dumps({KEY: facts}).encode()
    exif = Exif()
    exif[_EXIF] = {_COMMENT: _ASCII + text}
    return {"exif": exif} if len(text) <= _LONGEST else {}


def read(path: Path) -> dict[str, Any]:
    """What a picture was written with.

    Raises:
        ArgumentError: the file is no picture, or says nothing of how it was made.
    """
    from PIL import Image, UnidentifiedImageError

    needed = "a picture that 'fastgan generate' wrote"
    try:
        with Image.open(path) as image:
            facts = _told(image)
    except UnidentifiedImageError:
        raise ArgumentError(str(path), "no picture", needed) from None
    except (ValueError, SyntaxError, TypeError, LookupError, EOFError, struct.error):
        facts = None  # of what somebody else wrote
    except Image.DecompressionBombError:
        facts = None  # what Pillow finds too large it does not open
    if not isinstance(facts, dict):
        raise ArgumentError(str(path), "a picture that does not say how it was made", needed)
    return facts


def _told(image: Image) -> Any:
    if KEY in image.info or image.format == "PNG":
        return json.loads(image.info.get(KEY, "null"))
    comment = image.getexif().get_ifd(_EXIF).get(_COMMENT, b"")
    comment = comment if isinstance(comment, bytes) else str(comment).encode()
    held = json.loads(comment.removeprefix(_ASCII).decode() or "null")
    return held.get(KEY) if isinstance(held, dict) else None


def check(
    path: Path, wanted: Mapping[str, Any], of_engine: Collection[str], instead: str
) -> dict[str, Any]:
    """That a picture which says how it was made was made so; one that does not say is taken as is.

    Args:
        wanted: what it should say.
        of_engine: of these, what may differ.
        instead: what to do where something does.

    Returns:
        What it says; nothing where it does not.

    Raises:
        ArgumentError: it was made otherwise.
    """
    try:
        told = read(path)
    except ArgumentError:
        return {}
    for name, value in json.loads(json.dumps(wanted)).items():
        if name not in of_engine and name in told and told[name] != value:
            found = f"a picture of {name} {told[name]}"
            raise ArgumentError(str(path), found, f"one of {name} {value}", instead)
    return told
