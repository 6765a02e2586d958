"""What callers give as images: tensors, arrays, Pillow images, paths, and lists of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.images import files as image_files
from fastgan.images.pixels import Pixels, from_array
from fastgan.model.signature import Input

log = logging.getLogger("fastgan")


@dataclass(frozen=True, slots=True)
class Given:
    """The images given for one input.

    Attributes:
        name: what to call them in an error.
        items: pixels: one item of n images, or a list of items of one image each.
        listed: whether they came as a list, and so may differ in size.
        single: whether there is one image that came without n.
    """

    name: str
    items: tuple[Pixels, ...]
    listed: bool
    single: bool

    @property
    def n(self) -> int:
        """How many images."""
        return sum(map(len, self.items))

    def select(self, indices: Sequence[int]) -> Pixels:
        """These images as one; a single one serves for all."""
        if not self.listed:
            return self.items[0]
        if len(self.items) == 1:
            return self.items[0]
        return Pixels.stack([self.items[i] for i in indices])

    def one(self, index: int) -> Pixels:
        """The item that image `index` is in."""
        return self.items[index if self.listed and len(self.items) > 1 else 0]


def read(name: str, value: Any, port: Input) -> Given:
    """Pixels of whatever a caller gives for an image input.

    Raises:
        ArgumentError: it is no image, can't be read, or has channels that the model can't take.
    """
    declared = port.shape[1] if len(port.shape) > 1 else None
    channels = declared if isinstance(declared, int) else None
    if isinstance(value, (list, tuple)) and value and all(map(_is_image, value)):
        items = tuple(_one(f"{name}[{i}]", item, channels) for i, item in enumerate(value))
        for i, item in enumerate(items):
            if len(item) != 1:
                raise ArgumentError(f"{name}[{i}]", f"{len(item)} images", "one image")
        return Given(name, items, listed=True, single=False)
    if isinstance(value, (list, tuple)) and not value:
        raise ArgumentError(name, "an empty list", "at least one image")
    picture = not isinstance(value, (Tensor, np.ndarray)) and _is_image(value)
    item = _one(name, value, channels)
    dims = getattr(value, "ndim", 4)
    return Given(name, (item,), listed=False, single=picture or dims < 4)


def _is_image(value: Any) -> bool:
    known = (Tensor, np.ndarray, Pixels)
    return isinstance(value, known) or image_files.is_path(value) or image_files.is_pil(value)


def _one(name: str, value: Any, channels: int | None) -> Pixels:
    if isinstance(value, Pixels):
        return value
    if image_files.is_path(value):
        picture = image_files.read(value)
        if picture.bits > 8 and picture.pixels.peak == 255:
            log.warning("%s: of %d bits a channel Pillow reads 8", value, picture.bits)
        return picture.pixels
    if image_files.is_pil(value):
        return image_files.decode(value, name).pixels
    return from_array(name, value, channels)
