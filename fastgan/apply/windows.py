"""Windows of images as a model takes them: floats of its range, with its channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastgan.apply.model import ImageModel, declared
from fastgan.images import pixels as image_formats
from fastgan.images import tiling
from fastgan.images.pixels import Pixels
from fastgan.model.signature import Input


@dataclass(eq=False)
class Windows:
    """The jobs of some images of one size: every window of the first, then of the second, ...

    Attributes:
        pixels: n images.
        guides: what the other image inputs get, by name, for one image or for all n.
        constants: the inputs that are no images, by name, n rows each.
    """

    model: ImageModel
    grid: tiling.Grid
    pixels: Pixels
    guides: Mapping[str, Pixels]
    constants: Mapping[str, Tensor]
    _styles: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tiles = tuple(self.grid)

    def __len__(self) -> int:
        return len(self.pixels) * len(self.tiles)

    def inputs(self, first: int, count: int) -> dict[str, Tensor]:
        """All inputs of the model for these jobs, on its device."""
        jobs = range(first, first + count)
        port, pixels = self.model.port, self.pixels
        alpha = pixels.alpha if declared(port, 1) in (2, 4) else None
        image = self._floats(pixels.values, pixels.peak, jobs, port)
        opacity = None if alpha is None else self._floats(alpha, pixels.peak, jobs, port)
        inputs = {port.name: _fitted(image, opacity, port, pixels.peak)}
        for guide in self.model.guides:
            inputs[guide.name] = self._guide(guide, self.guides[guide.name], jobs)
        for name, rows in self.constants.items():
            inputs[name] = self._rows(rows, jobs) if self.model.has_rows(name) else rows
        return inputs

    def hole(self, inputs: Mapping[str, Tensor], fill: str | None) -> Tensor | None:
        """Where the model is to fill in, boolean [count, 1, H, W]; None for a model of no mask.

        Args:
            fill: which part that is; None for what the file says, or else white.
        """
        port = self.model.mask
        if port is None:
            return None
        white = inputs[port.name][:, :1] > sum(image_formats.picture_range(port)) / 2
        return white if (fill or port.fill or "white") == "white" else ~white

    def _guide(self, port: Input, pixels: Pixels, jobs: range) -> Tensor:
        if self.model.follows(port) and pixels.size == self.pixels.size:
            floats = self._floats(pixels.values, pixels.peak, jobs, port)
            return _fitted(floats, None, port, pixels.peak)
        if port.name not in self._styles:
            self._styles[port.name] = self._style(port, pixels)
        return self._rows(self._styles[port.name], jobs)

    def _style(self, port: Input, pixels: Pixels) -> Tensor:
        """A guide of a size of its own: the same, whole, for every window of an image."""
        height, width = pixels.size
        if self.model.follows(port):
            height, width = self.grid.window
        size = declared(port, 2) or height, declared(port, 3) or width
        values = image_formats.resize(pixels.values, size)
        fit = self.model.fit
        whole = tiling.grid(size, None, 0, fit.multiple, fit.minimum, remainder=fit.remainder)
        values = tiling.take(values, (0, 0), whole.window)
        values = values.to(self.model.target.device)
        floats = image_formats.to_floats(values, pixels.peak, image_formats.picture_range(port))
        return _fitted(floats, None, port, pixels.peak)

    def _floats(self, values: Tensor, peak: int | None, jobs: range, port: Input) -> Tensor:
        """The windows of these jobs."""
        window = self.grid.window
        if len(self.tiles) == 1:
            tile = self.tiles[0]
            part = tiling.take(
                self._rows(values, jobs), (tile.rows.start, tile.columns.start), window
            )
        else:
            parts = []
            for job in jobs:
                image, index = divmod(job, len(self.tiles))
                tile = self.tiles[index]
                one = values[image : image + 1] if len(values) > 1 else values
                parts.append(tiling.take(one, (tile.rows.start, tile.columns.start), window))
            part = torch.cat(parts)
        part = part.to(self.model.target.device)
        if port.kind == "mask" and peak is not None:
            part, peak = part > peak // 2, 1  # a mask is one or the other, however it was stored
        return image_formats.to_floats(part, peak, image_formats.picture_range(port))

    def _rows(self, rows: Tensor, jobs: range) -> Tensor:
        """The row of each job's image."""
        if len(rows) == 1:
            return rows.expand(len(jobs), *rows.shape[1:])
        if len(self.tiles) == 1:
            return rows[jobs.start : jobs.stop]
        images = [job // len(self.tiles) for job in jobs]
        return rows[torch.tensor(images, device=rows.device)]


def _fitted(values: Tensor, alpha: Tensor | None, port: Input, peak: int | None) -> Tensor:
    """With the port's channels and type.

    Args:
        peak: as in `Pixels`; floats without one have their channels' constants in them.
    """
    channels = declared(port, 1) or len(port.mean) or None
    if channels is not None:
        span = image_formats.picture_range(port)
        values = image_formats.with_channels(values, alpha, channels, span)
    if peak is not None:
        values = image_formats.normalise(values, port)
    return values.round().to(torch.uint8) if port.dtype == "uint8" else values
