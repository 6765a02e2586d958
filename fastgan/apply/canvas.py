"""Where the results of windows come together: a tensor, or Pillow images."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.images import pixels as image_formats
from fastgan.model.signature import Input, Output


class Canvas(Protocol):
    """n results of one size, filled piece by piece."""

    def put(self, first: int, rows: slice, columns: slice, pieces: Tensor) -> None:
        """Put pieces [count, C, h, w] into results first, first + 1, ..."""

    def put_alpha(self, alpha: Tensor) -> None:
        """Add the opacity [n, 1, H, W] of each result."""

    def results(self) -> Any:
        """The results: one tensor, or a list of Pillow images."""


class TensorCanvas:
    """Results as one tensor: float32 [n, C, H, W], or uint8 [n, H, W, C].

    Args:
        channels: of the results, alpha included.
        out: see `Generator.__call__`.

    Raises:
        ArgumentError: `out` does not fit.
    """

    def __init__(
        self,
        n: int,
        channels: int,
        size: tuple[int, int],
        format: str,
        out: Tensor | None,
        device: torch.device,
    ) -> None:
        like = torch.empty((1, channels, *size), device="meta")
        self._values = image_formats.allocate(n, like, format, out, device)
        self._planes = self._values.permute(0, 3, 1, 2) if format == "uint8" else self._values

    def put(self, first: int, rows: slice, columns: slice, pieces: Tensor) -> None:
        """See `Canvas`."""
        count, channels = pieces.shape[:2]
        self._planes[first : first + count, :channels, rows, columns] = pieces

    def put_alpha(self, alpha: Tensor) -> None:
        """See `Canvas`."""
        self._planes[:, -1:] = alpha

    def results(self) -> Tensor:
        """See `Canvas`."""
        return self._values


_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class PillowCanvas:
    """Results as Pillow images, made where they are: a large one is never held twice.

    Raises:
        ArgumentError: Pillow has no images of so many channels.
    """

    def __init__(self, n: int, channels: int, size: tuple[int, int]) -> None:
        from PIL import Image

        if channels not in _MODES:
            found = f"a model whose result has {channels} channels"
            raise ArgumentError("format='pil'", found, "1, 3 or 4", "in Python take 'uint8'")
        height, width = size
        self._images = [Image.new(_MODES[channels], (width, height)) for _ in range(n)]

    def put(self, first: int, rows: slice, columns: slice, pieces: Tensor) -> None:
        """See `Canvas`."""
        pixels = pieces.permute(0, 2, 3, 1).contiguous().cpu()
        for offset, piece in enumerate(image_formats.to_pil(pixels)):
            self._images[first + offset].paste(piece, (columns.start, rows.start))

    def put_alpha(self, alpha: Tensor) -> None:
        """See `Canvas`."""
        for image, plane in zip(self._images, alpha, strict=True):
            image.putalpha(image_formats.to_pil(plane[..., None])[0])  # L becomes LA

    def results(self) -> list[Any]:
        """See `Canvas`."""
        return self._images


def composite(pieces: Tensor, source: Tensor, port: Input, hole: Tensor, output: Output) -> Tensor:
    """The pieces where there is a hole, and the source, bit for bit, where it is known.

    Args:
        pieces: results of the model, uint8 or float32 [n, C, H, W].
        source: what went into it by `port`, float32 of the same shape.
        hole: boolean [n, 1, H, W].
    """
    if pieces.dtype == torch.uint8:
        known = image_formats.port_to_uint8(source, port).to(torch.uint8)
    else:
        known = _converted(source, port, output)
    return torch.where(hole, pieces, known)


def _converted(source: Tensor, port: Input, output: Output) -> Tensor:
    """Values of an input's range, or of its channels' constants, as those of an output's."""
    if (port.range, port.mean, port.std) == (output.range, output.mean, output.std):
        return source
    if port.mean:
        mean, std = (source.new_tensor(row)[:, None, None] for row in (port.mean, port.std))
        source = source * std + mean
    low, high = image_formats.picture_range(port)
    lowest, highest = image_formats.picture_range(output)
    if (low, high) != (lowest, highest):
        source = (source - low) * ((highest - lowest) / (high - low)) + lowest
    return image_formats.normalise(source, output)
