"""Groups of images through a model: windows in, results together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastgan.apply import inputs as image_inputs
from fastgan.apply.canvas import Canvas, PillowCanvas, TensorCanvas, composite
from fastgan.apply.inputs import Given
from fastgan.apply.model import ImageModel, declared
from fastgan.apply.windows import Windows
from fastgan.engine.batches import split
from fastgan.engine.runs import counting
from fastgan.errors import ArgumentError, UnsupportedError
from fastgan.host import arguments
from fastgan.images import pixels as image_formats
from fastgan.images import tiling
from fastgan.images.pixels import Pixels

#: Inputs, their number, the batch size, and the format -> the image output.
Run = Callable[[dict[str, Tensor], int, int, str], Tensor]

ALPHAS = ("keep", "ignore", "model")
FILLS = ("white", "black")
#: Whole images are turned into floats for several batches at a time, up to so many bytes.
_FLOATS_AT_ONCE = 256 << 20
#: Inpainted images that were resized are put together in pieces of so many pixels a side.
_COMPOSITED_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Options:
    """How images go through; see `Generator.__call__`."""

    format: str = "float32"
    tile: int | None = None
    tile_pad: int | None = None
    alpha: str = "keep"
    fill: str | None = None
    batch_size: int | None = None
    out: Tensor | None = None
    progress: bool | Callable[[int, int], None] = False

    def __post_init__(self) -> None:
        image_formats.check_format(self.format, "pil")
        fills = (*FILLS, None)
        for name, value, known in (("alpha", self.alpha, ALPHAS), ("fill", self.fill, fills)):
            if value not in known:
                raise ArgumentError(name, repr(value), " or ".join(map(repr, known)))
        for name, number, least in (
            ("tile", self.tile, 0),
            ("tile_pad", self.tile_pad, 0),
            ("batch_size", self.batch_size, 1),
        ):
            if number is not None:
                object.__setattr__(self, name, arguments.whole(name, number, least))

    @property
    def tensors(self) -> str:
        """The format that the model's results are asked for in."""
        return "uint8" if self.format == "pil" else self.format


def apply(
    model: ImageModel,
    run: Run,
    images: Any,
    guides: Mapping[str, Any],
    rows: Callable[[int], dict[str, Tensor]],
    options: Options,
) -> Any:
    """Images through a model: see `Generator.__call__`.

    Args:
        run: runs the model.
        guides: what was given for the other image inputs, by name.
        rows: every other input for n images.

    Raises:
        ArgumentError: the images do not fit the model, or each other.
    """
    given = image_inputs.read("images", images, model.port)
    others = {p.name: image_inputs.read(p.name, guides[p.name], p) for p in model.guides}
    _check(model, given, others)
    if options.out is not None and (given.listed or options.format == "pil"):
        raise ArgumentError("out", "images in a list, or format='pil'", "one tensor of images")
    read = [p for each in (given, *others.values()) for p in each.items]
    image_formats.check_out(options.out, *(t for p in read for t in (p.values, p.alpha)))
    constants = rows(given.n)
    groups = [
        _Group(model, run, options, given, others, constants, indices)
        for indices in _alike(given, others)
    ]
    results: list[Any] = [None] * given.n
    with torch.inference_mode(), counting(sum(map(len, groups)), options.progress) as advance:
        for group in groups:
            made = group.results(advance)
            if not given.listed and options.format != "pil":
                return made
            for index, result in zip(group.indices, made, strict=True):
                results[index] = result
    return results[0] if given.single else results


def straight(model: ImageModel, images: Tensor, options: Options) -> int | None:
    """How many images to a run where they go in as they are, and come out so; else None.

    What `apply` does is then to run the model on them.

    Args:
        images: which have gone through `apply`.
    """
    port = model.port
    channels = declared(port, 1) or len(port.mean) or images.shape[1]
    as_they_are = images.dtype == torch.float32 and images.device == model.target.device
    if images.dim() != 4 or not as_they_are or channels != images.shape[1]:
        return None
    alone = len(model.signature.inputs) == 1 and port.dtype == "float32"
    small = 4 * images.numel() <= _FLOATS_AT_ONCE
    if not alone or not small or options.format == "pil" or model.fit.scale is None:
        return None
    size = images.shape[2], images.shape[3]
    grid = model.grid(size, options.tile, options.tile_pad)
    if grid is None or not grid.whole:
        return None
    return model.batch(grid.window, options.batch_size, tiled=False)


def _check(model: ImageModel, given: Given, others: Mapping[str, Given]) -> None:
    for guide in others.values():
        if guide.n not in (1, given.n) or (guide.n > 1 and guide.listed != given.listed):
            found = f"{guide.n} of them for {given.n} images"
            raise ArgumentError(guide.name, found, "one, or one for each image")
    if model.mask is None:
        return
    mask = others[model.mask.name]
    for index, item in enumerate(given.items):
        size = mask.one(index).size
        if size != item.size:
            needed = f"the image's {item.size[1]} x {item.size[0]}"
            raise ArgumentError(mask.name, f"{size[1]} x {size[0]} pixels", needed)


def _alike(given: Given, others: Mapping[str, Given]) -> Iterator[tuple[int, ...]]:
    """Indices of images that can be stacked, as many as may well be held twice."""
    if not given.listed:
        yield tuple(range(given.n))
        return
    kinds: dict[Any, list[int]] = {}
    for index, item in enumerate(given.items):
        key = (item.kind, *(guide.one(index).kind for guide in others.values()))
        kinds.setdefault(key, []).append(index)
    for indices in kinds.values():
        most = max(1, _FLOATS_AT_ONCE // (4 * given.items[indices[0]].values.numel()))
        for first in range(0, len(indices), most):
            yield tuple(indices[first : first + most])


class _Group:
    """Images of one size and kind on their way through a model.

    Attributes:
        indices: which of the images given they are.
    """

    def __init__(
        self,
        model: ImageModel,
        run: Run,
        options: Options,
        given: Given,
        others: Mapping[str, Given],
        constants: Mapping[str, Tensor],
        indices: tuple[int, ...],
    ) -> None:
        self.indices = indices
        self._model, self._run, self._options = model, run, options
        self._pixels = given.select(indices)
        self._guides = {name: guide.select(indices) for name, guide in others.items()}
        some = len(indices) < given.n
        self._constants = {
            name: rows[list(indices)] if some and model.has_rows(name) else rows
            for name, rows in constants.items()
        }
        # None: resized to the model's size instead.
        self._grid = model.grid(self._pixels.size, options.tile, options.tile_pad)
        self._adds_alpha = (
            self._pixels.alpha is not None
            and options.alpha != "ignore"
            and model.fit.scale is not None
            and declared(model.port, 1) not in (2, 4)
        )

    def __len__(self) -> int:
        """How many windows there are to run."""
        twice = self._adds_alpha and self._options.alpha == "model"
        return len(self._pixels) * (len(self._grid) if self._grid else 1) * (1 + twice)

    def results(self, advance: Callable[[int], object]) -> Any:
        """The results: a tensor, or a list of Pillow images."""
        if self._model.fit.scale is None:
            return self._unscaled(advance)
        canvas: Canvas | None = None
        for first, rows, columns, pieces in self._pieces(self._pixels, advance, True):
            canvas = canvas or self._canvas(pieces.shape[1])
            canvas.put(first, rows, columns, pieces)
        assert canvas is not None
        if self._adds_alpha:
            canvas.put_alpha(self._alpha(advance))
        return canvas.results()

    @property
    def _size(self) -> tuple[int, int]:
        """(H, W) of the results."""
        return self._model.fit.scaled(self._pixels.size)

    def _canvas(self, channels: int) -> Canvas:
        n, options = len(self._pixels), self._options
        if options.format == "pil":
            return PillowCanvas(n, channels, self._size)
        device = self._model.target.device
        channels += self._adds_alpha
        return TensorCanvas(n, channels, self._size, options.format, options.out, device)

    # Running ------------------------------------------------------------------------------------

    def _pieces(
        self, pixels: Pixels, advance: Callable[[int], object], compositing: bool
    ) -> Iterator[tuple[int, slice, slice, Tensor]]:
        """(index of the first image, rows, columns, [count, C, h, w]) of every part of a result."""
        # Known pixels are kept of an image that stays as large as it was.
        masked = self._model.mask is not None and self._size == self._pixels.size
        compositing = compositing and masked
        windows = self._windows(pixels)
        for first, inputs, pieces in self._run_windows(windows):
            needed = self._model.fit.scaled(windows.grid.window)
            if tuple(pieces.shape[2:]) != needed:
                found = f"a result of {tuple(pieces.shape[2:])} for {windows.grid.window}"
                raise UnsupportedError(self._model.name, found, f"{needed}, as at other sizes")
            if self._grid is None:
                yield from self._resized_back(first, pixels, pieces, compositing)
            else:
                if compositing:
                    pieces = self._composite(windows, inputs, pieces)
                yield from self._placed(first, windows, pieces)
            advance(len(pieces))

    def _windows(self, pixels: Pixels) -> Windows:
        """The windows of images; where the model asks for one size, of the images resized."""
        model, guides, grid = self._model, self._guides, self._grid
        if grid is None:
            fixed = model.fixed(pixels.size)
            size = fixed[0] or pixels.size[0], fixed[1] or pixels.size[1]
            guides = {
                port.name: _resized(guides[port.name], size, smooth=port.kind != "mask")
                if model.follows(port)
                else guides[port.name]
                for port in model.guides
            }
            pixels, grid = _resized(pixels, size), tiling.grid(size)
        return Windows(model, grid, pixels, guides, self._constants)

    def _run_windows(self, windows: Windows) -> Iterator[tuple[int, dict[str, Tensor], Tensor]]:
        """(first job, inputs, results [count, C, h, w]) of so many windows at a time."""
        options, window = self._options, windows.grid.window
        batch = chunk = self._model.batch(window, options.batch_size, tiled=len(windows.tiles) > 1)
        if len(windows.tiles) == 1 and options.progress is False:
            bytes_each = 4 * windows.pixels.values[0].numel()
            chunk *= max(1, _FLOATS_AT_ONCE // (batch * bytes_each))
        for first, count in split(len(windows), chunk, chunk):
            inputs = windows.inputs(first, count)
            images = self._run(inputs, count, batch, options.tensors)
            channels_last = options.tensors == "uint8" and images.dim() == 4
            yield first, inputs, images.permute(0, 3, 1, 2) if channels_last else images

    def _placed(
        self, first: int, windows: Windows, pieces: Tensor
    ) -> Iterator[tuple[int, slice, slice, Tensor]]:
        """The kept part of each result, and where it goes."""
        scale, size = self._model.fit.scale, self._model.fit.scaled(windows.grid.size)
        assert scale is not None
        alone = len(windows.tiles) == 1
        for job, part in [(first, pieces)] if alone else enumerate(pieces.split(1), first):
            image, index = divmod(job, len(windows.tiles))
            tile = windows.tiles[index]
            rows, to_rows = tiling.kept(tile.rows, scale[0], size[0])
            columns, to_columns = tiling.kept(tile.columns, scale[1], size[1])
            yield image, to_rows, to_columns, part[:, :, rows, columns]

    def _resized_back(
        self, first: int, pixels: Pixels, pieces: Tensor, compositing: bool
    ) -> Iterator[tuple[int, slice, slice, Tensor]]:
        """Results at the model's size, resized to match the images."""
        for image, piece in enumerate(pieces.split(1), first):
            whole = image_formats.resize(piece, self._size)
            if not compositing:
                yield image, slice(0, self._size[0]), slice(0, self._size[1]), whole
                continue
            one = Pixels(pixels.values[image : image + 1], pixels.peak, pixels.alpha)
            guides = {
                name: Pixels(g.values[image : image + 1] if len(g) > 1 else g.values, g.peak)
                for name, g in self._guides.items()
            }
            grid = tiling.grid(one.size, _COMPOSITED_AT_ONCE)
            parts = Windows(self._model, grid, one, guides, {})
            for job, tile in enumerate(parts.tiles):
                start = tile.rows.start, tile.columns.start
                part = tiling.take(whole, start, grid.window)
                part = self._composite(parts, parts.inputs(job, 1), part)
                for _, rows, columns, kept in self._placed(job, parts, part):
                    yield image, rows, columns, kept

    # Masks and alpha ----------------------------------------------------------------------------

    def _composite(self, windows: Windows, inputs: dict[str, Tensor], pieces: Tensor) -> Tensor:
        source = inputs[self._model.port.name]
        hole = windows.hole(inputs, self._options.fill)
        if hole is None or source.shape != pieces.shape:  # such as RGBA in, RGB out
            return pieces
        return composite(pieces, source, self._model.port, hole, self._model.output)

    def _alpha(self, advance: Callable[[int], object]) -> Tensor:
        """The opacity of the results [n, 1, H, W]: resized, or through the model as grey images."""
        pixels, device = self._pixels, self._model.target.device
        assert pixels.alpha is not None
        if self._options.alpha == "model":
            canvas = TensorCanvas(
                len(pixels), 1, self._size, self._options.tensors, None, pixels.values.device
            )
            opacity = Pixels(pixels.alpha, pixels.peak)
            for first, rows, columns, pieces in self._pieces(opacity, advance, False):
                grey = pieces.float().mean(1, keepdim=True)
                grey = grey.round() if pieces.dtype == torch.uint8 else grey
                canvas.put(first, rows, columns, grey.to(pieces.dtype))
            made = canvas.results()
            return made.permute(0, 3, 1, 2) if self._options.tensors == "uint8" else made
        alpha = image_formats.resize(pixels.alpha, self._size)
        if self._options.tensors == "uint8":
            if pixels.peak != 255:
                alpha = (alpha.float() * (255 / (pixels.peak or 1))).round().to(torch.uint8)
            return alpha.to(device)
        return image_formats.to_floats(alpha, pixels.peak, self._model.output.range).to(device)

    # Other results ------------------------------------------------------------------------------

    def _unscaled(self, advance: Callable[[int], object]) -> Tensor:
        """Results whose size says nothing of the image's, as the model gives them."""
        options = self._options
        if options.format == "pil":
            found = "a model whose result is not the image at some scale"
            raise ArgumentError(
                "format='pil'", found, "one that is", "in Python take 'float32' or 'uint8'"
            )
        windows = self._windows(self._pixels)
        batch = self._model.batch(windows.grid.window, options.batch_size, tiled=False)
        inputs = windows.inputs(0, len(windows))
        images = self._run(inputs, len(windows), batch, options.format)
        length = self._model.fit.lengths(self._pixels.size)
        if windows.grid.window != self._pixels.size and length is not None:
            axis = 1 if options.format == "uint8" else 2
            images = images.narrow(axis, 0, length[0]).narrow(axis + 1, 0, length[1])
        advance(len(windows))
        if options.out is None:
            return images
        if options.out.shape != images.shape or options.out.dtype != images.dtype:
            found = f"{options.out.dtype} {tuple(options.out.shape)}"
            raise ArgumentError("out", found, f"{images.dtype} {tuple(images.shape)}")
        return options.out.copy_(images)


def _resized(pixels: Pixels, size: tuple[int, int], smooth: bool = True) -> Pixels:
    alpha = pixels.alpha
    return Pixels(
        image_formats.resize(pixels.values, size, smooth),
        pixels.peak,
        None if alpha is None else image_formats.resize(alpha, size, smooth),
    )
