"""How a picture was made, kept in the picture: a text chunk of a PNG that holds JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

#: The chunk's keyword.
KEY = "fastgan"


def chunk(facts: dict[str, Any]) -> PngInfo:
    """What Pillow takes as `pnginfo`."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(KEY, json.dumps(facts))
    return info


def read(path: Path) -> dict[str, Any]:
    """What `chunk` was given for a picture.

    Raises:
        ArgumentError: the file is no picture, or says nothing of how it was made.
    """
    from PIL import Image, UnidentifiedImageError

    needed = "a PNG that 'fastgan generate' wrote"
    try:
        with Image.open(path) as image:
            facts = json.loads(image.info.get(KEY, "null"))
    except UnidentifiedImageError:
        raise ArgumentError(str(path), "no picture", needed) from None
    except ValueError:  # of a chunk that somebody else wrote, or that is too large for Pillow
        facts = None
    if not isinstance(facts, dict):
        raise ArgumentError(str(path), "a picture that does not say how it was made", needed)
    return facts
