"""Latent fields: latents with an open height and width, which make images of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastgan.errors import ArgumentError
from fastgan.host import arguments
from fastgan.model.signature import Input, Signature

Size = tuple[int, int]


def sized(signature: Signature, size: Any, image: Callable[[Size], Size]) -> tuple[Input, int]:
    """The latent input with the height and the width that make images of `size`, and its places.

    Args:
        size: height and width of the images wanted.
        image: height and width of the image that a latent of this height and width makes.

    Raises:
        ArgumentError: the model makes images of one size, or none of this size; the message says
            which sizes there are.
    """
    port = signature.latent
    if port is None or len(port.shape) != 4 or any(isinstance(s, int) for s in port.shape[2:]):
        raise ArgumentError("size", f"{size} for a model of one size", "size=None")
    size = arguments.size("size", size)
    one, two = image((1, 1)), image((2, 2))
    places = []
    for axis, wanted in enumerate(size):
        step = two[axis] - one[axis]
        extra = one[axis] - step
        count = (wanted - extra) / step if step > 0 else 0.0
        if count < 1 or count != int(count):
            near = max(1, round(count)) * step + extra
            rule = f"{step} pixels for each place of the latent{f', and {extra}' if extra else ''}"
            raise ArgumentError("size", f"{size}", f"such as {near} for that {wanted}: {rule}")
        places.append(int(count))
    return replace(port, shape=(*port.shape[:2], *places)), places[0] * places[1]
