"""What a model asks of images: their size, their number at a time, and when to cut them up."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping
from typing import Any

import torch

from fastgan.apply import binding, fitting, legal, strides
from fastgan.engine import Session
from fastgan.engine.batches import planned
from fastgan.errors import ArgumentError, LimitError, UnsupportedError
from fastgan.host import forks
from fastgan.images import tiling
from fastgan.model.signature import Input, Output, Shapes, Signature, range_text
from fastgan.plan.specialise import MisfitError

log = logging.getLogger("fastgan")

#: Whole images whose activations would take more than this are run in tiles.
TILE_ABOVE_BYTES = 1 << 30
#: Tile sizes to choose from, and how far each looks beyond its border unless told otherwise.
TILES = (1024, 512, 256, 128)
TILE_PAD = 32

#: What a batch of windows may take: a CPU's outer caches, or a part of a GPU's memory.
_BATCH_BYTES = {"cpu": 8 << 20, "cuda": 1 << 30}
_LARGEST_BATCH = {"cpu": 64, "cuda": 256}
#: Activations of one input pixel where no plan tells: two buffers of 64 channels, at full scale.
_GUESSED_BYTES = 2 * 64 * 4
#: Ops that look at the whole image, so that a tile sees other statistics than the image.
_GLOBAL_OPS = frozenset(
    {
        *("InstanceNormalization", "GroupNormalization", "LayerNormalization", "Softmax"),
        *("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"),
    }
)


class ImageModel:
    """A model with an image input; made by `Generator`.

    Attributes:
        name: what the log calls it.
        port: the image input that decides on sizes: the first.

    Raises:
        ArgumentError: it takes no image.
    """

    def __init__(self, session: Session) -> None:
        self.name, self.signature = session.model.name, session.signature
        port = self.signature.image
        if port is None:
            raise ArgumentError(
                "images", "a model that takes no image", "generate(n), or a model that takes one"
            )
        self.port, self.output, self.target = port, session.model.output, session.target
        self._session = session
        self._fit: fitting.Fit | None = None
        self._bytes_per_pixel: float | None = None
        self._lock = forks.renewed(threading.RLock())
        _tell_guesses(self.name, self.signature)

    @property
    def guides(self) -> tuple[Input, ...]:
        """The other image and mask inputs."""
        ports = self.signature.inputs
        return tuple(p for p in ports if p.kind in ("image", "mask") and p is not self.port)

    @property
    def mask(self) -> Input | None:
        """The mask input, where there is one."""
        return next((port for port in self.guides if port.kind == "mask"), None)

    def has_rows(self, name: str) -> bool:
        """Whether an input has a row for each image; else it is the same for every window."""
        ports = self.signature.inputs
        return any(self.signature.has_rows(port) for port in ports if port.name == name)

    def follows(self, guide: Input) -> bool:
        """Whether a guide lies pixel by pixel on the image: a mask, or a port of the same size."""
        return guide.kind == "mask" or guide.shape[2:] == self.port.shape[2:]

    # Arguments ----------------------------------------------------------------------------------

    def arguments(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What was given for the other image inputs, and for inputs that are no images, by name.

        Args:
            given: by input name; also "mask" for the mask input and "style" for the second image,
                whatever they are called. None counts as not given.

        Raises:
            ArgumentError: a name that no input has, or an image input without a value.
        """
        images = [port.name for port in self.guides if port.kind == "image"]
        aliases = {"mask": self.mask.name if self.mask else None, "style": (*images, None)[0]}
        names = {port.name for port in self.signature.inputs if port is not self.port}
        found = {}
        for name, value in given.items():
            if value is None:
                continue
            target = name if name in names else aliases.get(name)
            if target is None:
                known = ", ".join(sorted(names)) or "none beside the image"
                raise ArgumentError(name, "no such input", f"an input of this model: {known}")
            found[target] = value
        for port in self.guides:
            if port.name not in found:
                raise ArgumentError(
                    port.name, f"no value for this {port.kind}", f"g(images, {port.name}=...)"
                )
        guides = {port.name: found.pop(port.name) for port in self.guides}
        return guides, found

    # Sizes --------------------------------------------------------------------------------------

    @property
    def fit(self) -> fitting.Fit:
        """Which sizes it takes, and how large its results are; found on first use."""
        with self._lock:
            if self._fit is None:
                sizes = declared(self.port, 2), declared(self.port, 3)
                if self._session.sizes:
                    sizes = self._session.sizes[0]
                ports = (self.port, *self.guides)
                graph = self._session.model.file.model
                steps = strides.steps(graph, [port.name for port in ports])[1]
                bases = legal.multiple_of(steps), self.port.example
                self._fit = fitting.find(sizes, self._probe, steps, bases)
                log.info("%s: %s", self.name, self._fit)
            return self._fit

    def fixed(self, size: tuple[int, int]) -> tuple[int | None, int | None]:
        """The height and width at which it runs an image of this size; None where any will do."""
        return size if size in self._session.sizes else self.fit.fixed

    def _probe(self, height: int, width: int) -> tuple[int, int] | None:
        """The size of the result for an image of this size; None where it does not run."""
        shapes = self._session.model.shapes(1)
        for port in (self.port, *filter(self.follows, self.guides)):
            sizes = (declared(port, 2) or height, declared(port, 3) or width)
            shapes[port.name] = (*shapes[port.name][:2], *sizes)
        try:
            shape = self._output_shape(shapes)
        except LimitError:
            raise
        except Exception:  # backends fail in ways of their own; whichever it is, it fails
            return None
        alike = len(shape) == 4 and shape[0] == shapes[self.port.name][0]
        return (shape[2], shape[3]) if alike else None

    def _output_shape(self, shapes: Shapes) -> tuple[int, ...]:
        """The shape of the result: bound where the graph can be, or else of a run."""
        try:
            return binding.result_shape(self._session.model.file.model, shapes, self.output.name)
        except MisfitError:
            raise
        except UnsupportedError:
            if self._session.plans:  # by the same binding
                raise
        zeros = {
            port.name: torch.zeros(
                shapes[port.name], dtype=getattr(torch, port.dtype), device=self.target.device
            )
            for port in self.signature.inputs
        }
        results = self._session.executable(shapes)(zeros)
        return tuple(results[self.output.name].shape)

    @property
    def bytes_per_pixel(self) -> float:
        """What activations take for a pixel of the image: of the plan, or guessed without one."""
        with self._lock:
            if self._bytes_per_pixel is None:
                self._bytes_per_pixel = self._measure()
            return self._bytes_per_pixel

    def _measure(self) -> float:
        plan = self._session.plan(1)
        if plan is not None and self.port.name in plan.buffers:
            batch, _, height, width = plan.buffers[self.port.name].shape
            # Buffers are planned in the model's own dtype, fp32.
            scale = self.target.dtype.itemsize / 4
            return max(1.0, plan.memory_bytes * scale / (batch * height * width))
        vertical, horizontal = self.fit.scale or (1, 1)
        return _GUESSED_BYTES * max(1.0, float(vertical * horizontal))

    def batch(self, window: tuple[int, int], wanted: int | None, tiled: bool) -> int:
        """How many windows of this size to run at a time.

        Images that may meet in the model run all together, unless they are cut into tiles.
        """
        device = self.target.device.type
        if self.signature.frozen_batch or wanted:
            return self.signature.frozen_batch or wanted or 1
        if not self.signature.made.apart:
            return 1 if tiled else sys.maxsize
        fits = _BATCH_BYTES[device] // (self.bytes_per_pixel * window[0] * window[1])
        return min(_LARGEST_BATCH[device], planned(fits))

    def grid(
        self, size: tuple[int, int], tile: int | None = None, pad: int | None = None
    ) -> tiling.Grid | None:
        """The windows to cut an image into; None where it is to be resized to a fixed size.

        Args:
            size: (H, W) of the image.
            tile: how many pixels a side each tile makes; 0 for the whole image; None to decide by
                the memory that the whole image would take.
            pad: how far each looks beyond; `TILE_PAD` if None.

        Raises:
            ArgumentError: the model would take images of this size, a bundle of it does not.
        """
        fit, fixed, pad = self.fit, self.fixed(size), TILE_PAD if pad is None else pad
        if self._session.sizes and size not in self._session.sizes:
            self._tell_sizes(size, tile)
            tile = 1
        if fixed != (None, None):
            # An upscaler that got a smaller copy of the image could only win back what that lost.
            grows = fit.scale is not None and max(fit.scale) > 1
            if fit.scale is None or not (grows if tile is None else tile > 0):
                return None
        elif fit.scale is None:
            tile = 0
        elif tile is None:
            tile = self._automatic_tile(size, pad)
        if fit.floors and not tile:
            return tiling.grid(size, minimum=fit.minimum, fixed=fixed)
        return tiling.grid(size, tile or None, pad, fit.multiple, fit.minimum, fixed, fit.remainder)

    def _tell_sizes(self, size: tuple[int, int], tile: int | None) -> None:
        """Of an image of another size than a bundle runs at."""
        sizes = [f"{width} x {height}" for height, width in self._session.sizes]
        if self.fit.scale is None or tile == 0:
            found = f"{size[1]} x {size[0]} pixels whole, and a bundle for {', '.join(sizes)}"
            instead = f"make a bundle with --size {size[1]}x{size[0]}"
            raise ArgumentError("images", found, f"{' or '.join(sizes)}, which it runs at", instead)
        text = "%s: a bundle for %s: images of %d x %d are run in tiles of that size"
        log.info(text, self.name, sizes[0], size[1], size[0])

    def _automatic_tile(self, size: tuple[int, int], pad: int) -> int | None:
        per_pixel = self.bytes_per_pixel
        needed = per_pixel * size[0] * size[1]
        if needed <= TILE_ABOVE_BYTES:
            return None
        fits = (t for t in TILES if per_pixel * (t + 2 * pad) ** 2 <= TILE_ABOVE_BYTES)
        tile = next(fits, TILES[-1])
        ops = {node.op_type for node in self._session.model.file.model.graph.all_nodes()}
        seen = sorted(ops & _GLOBAL_OPS)
        note = "; tiles may differ in tone, since it has " + ", ".join(seen) if seen else ""
        log.log(
            logging.WARNING if seen else logging.INFO,
            "%s: %d x %d pixels would take %.1f GiB whole, so they are run in tiles of %d%s",
            self.name,
            size[1],
            size[0],
            needed / 2**30,
            tile,
            note,
        )
        return tile


def declared(port: Input, axis: int) -> int | None:
    """The size that an input states for an axis; None where it is open."""
    size = port.shape[axis] if axis < len(port.shape) else None
    return size if isinstance(size, int) else None


def _tell_guesses(name: str, signature: Signature) -> None:
    """Log the ranges of images that nothing states: a warning where the evidence is thin."""
    ports: list[tuple[str, Input | Output]] = [
        *(("in", port) for port in signature.inputs if port.kind == "image"),
        *(("out", port) for port in (signature.made,) if port.kind == "image"),
    ]
    told = [(way, port, port.basis) for way, port in ports if port.basis is not None]
    if not told:
        return
    thin = any(basis.confidence == "thin" for *_, basis in told)
    texts = "; ".join(f"{way} {range_text(port)} ({basis})" for way, port, basis in told)
    level = logging.WARNING if thin else logging.INFO
    text = "%s: images go %s. Where that is wrong, state it: --range and --out-range, or signature="
    log.log(level, text, name, texts)
