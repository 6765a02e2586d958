"""How a session makes n samples: its batches, the memory for them, and those made again."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan.engine.batches import Batches, automatic_batch, filled
from fastgan.engine.nonfinite import holds_nonfinite
from fastgan.engine.prepared import Bound, Run, drawn
from fastgan.errors import ArgumentError
from fastgan.host import memory, results
from fastgan.images import pixels as image_formats
from fastgan.images.format import ImageFormat, as_asked
from fastgan.inputs.draws import Draw
from fastgan.model.opened import Model
from fastgan.model.signature import Shapes
from fastgan.ops.random import Noise, default_noise, using_noise

if TYPE_CHECKING:
    from fastgan.engine.base import Executable, Target
    from fastgan.plan import Plan

log = logging.getLogger("fastgan")

#: Precisions whose results are checked for NaN and Inf, and redone in fp32 where there are any.
_GUARDED = ("fp16", "bf16", "fp8")


class Runs(ABC):
    """What a session does with its executables, which see one batch at a time.

    Attributes:
        model, target: what runs, and where.
        signature: what each input and output is, with the batch that this session runs at.
        draws: whether samples may be drawn where they are needed, rather than beforehand.
    """

    def __init__(self, model: Model, target: Target, draws: bool) -> None:
        self.model, self.target, self.signature = model, target, model.signature
        self._frozen = self.signature.frozen_batch
        self.draws = draws and self._frozen is None
        self._made = model.output
        #: The inputs that a batch takes its rows of; the others go into each batch whole.
        self._rows = {p.name for p in self.signature.inputs if self.signature.has_rows(p)}
        self._largest_batch: int | None = None  # once memory did not suffice for a larger one

    @abstractmethod
    def executable(self, shapes: Shapes, target: Target | None = None) -> Executable:
        """The executable for these input shapes, made on first use."""

    @abstractmethod
    def forget(self, shapes: Shapes) -> None:
        """Drop what was made for these input shapes."""

    @property
    def _exact(self) -> Target:
        """Where a batch is made again that holds a NaN or Inf."""
        return replace(self.target, precision="fp32")

    def plan(self, batch: int = 1) -> Plan | None:
        """The plan for a batch of this size; None where a runtime plans for itself."""
        return self.executable(self.model.shapes(batch)).plan

    @cached_property
    def automatic_batch(self) -> int:
        """The batch that suits the device's caches, or that its kernels were measured best at."""
        measured = self.executable(self.model.shapes(1)).best_batch
        return measured or automatic_batch(self.plan(1), self.target)

    def require(self, n: int, format: str, size: Sequence[int] | None, out: object) -> None:
        """Refuse more images than memory holds, before one is made.

        Args:
            size: height and width, where they are not the model's.
            out: where they go instead of new memory; None for that.

        Raises:
            ArgumentError: they and their latents are more than there is.
        """
        sizes = self._made.shape[1:]
        if size is not None and len(sizes) == 3:
            sizes = (sizes[0], *size)
        values = math.prod(side for side in sizes if isinstance(side, int))  # at the least
        image = 0 if out is not None else values * (1 if format == "uint8" else 4)
        drawn = () if self.draws else self.signature.inputs
        latents = sum(4 * math.prod(p.sample_shape) for p in drawn if p.kind in ("latent", "noise"))
        instead = "make them in parts, with start=, or write them to files: fastgan generate"
        memory.require("n", n * (image + latents), f"{n} images", self.target.device, instead)

    def _ready(self, shapes: Shapes) -> Executable:
        """The executable for these shapes, where there is memory for what it holds in a run.

        A GPU's is left to the driver, since a batch that it refuses is made again in halves.

        Raises:
            ArgumentError: there is less.
        """
        executable = self.executable(shapes)
        if self.target.device.type == "cpu" and executable.plan is not None:
            if executable.holds is None:
                scale = self.target.dtype.itemsize / 4  # buffers are planned in fp32
                executable.holds = int(executable.plan.memory_bytes * scale)
            if executable.holds <= memory.UNASKED:
                return executable
            images = shapes[next(iter(self._rows), "")][:1] if self._rows else ()
            memory.require(
                "batch_size", executable.holds, f"a run of {images[0] if images else 1}",
                self.target.device, "take a smaller batch_size, or smaller images or tiles",
            )  # fmt: skip
        return executable

    def images(
        self,
        inputs: Mapping[str, Any],
        n: int,
        batch_size: int | None,
        format: str,
        out: Tensor | None,
        progress: bool,
        noise: Callable[[int, int], Noise] = lambda first, rows: default_noise,
    ) -> Tensor:
        """Run all n samples in batches, and collect the image output in the format asked for.

        noise: of the samples from `first` on, `rows` of them, where the graph itself draws some.
        """
        image_formats.check_out(out, *inputs.values())
        frozen, output = self._frozen, self._made
        if frozen is not None and not output.apart:
            self._check_whole(n, "n")
        if frozen is None and batch_size is None:
            batch_size = self.automatic_batch if output.apart else n
        if batch_size is not None and self._largest_batch is not None and output.apart:
            batch_size = min(batch_size, self._largest_batch)
        image = image_formats.of(output, format)
        result: Tensor | None = None
        place: Tensor | None = None
        doubtful: list[tuple[int, int, dict[str, Any], Tensor]] = []
        # Each size is a plan and a graph on a GPU: there the rest of a batch is filled up to one.
        fills = self.draws and self.target.device.type == "cuda" and output.apart
        fills = fills and all(map(_goes_on, inputs.values()))
        batches = Batches(
            n, batch_size, frozen or (None if output.apart else batch_size), whole=fills
        )
        with torch.inference_mode(), counting(n, progress) as told:
            for first, count in batches:
                batch = dict(inputs)
                if count < n:
                    batch |= {key: batch[key][first : first + count] for key in self._rows}
                rows = frozen or (filled(count, batch_size) if fills else count)
                if count < rows:
                    # The model runs at no other size: fill up with copies, drop their images.
                    batch |= {key: filled_up(batch[key], rows) for key in self._rows}
                if result is None and out is None:
                    result = self._planned_result(n, rows, batch, format)
                if result is not None:
                    place = result if count == n else result[first : first + count]
                else:
                    # `allocate` will say whether it fits; where it doesn't, it is left alone.
                    place = out if count == n and isinstance(out, Tensor) else None
                # What is still to be converted is not written to its place at once.
                at_once = place if image.asked is image else None
                with using_noise(noise(first, rows)):
                    made = self._attempt(batches, first, count, batch, image.asked, at_once)
                if made is None:
                    continue
                images, nonfinite = made
                self._check_rows(images.shape, rows)
                if result is None:
                    alone = self.draws and out is None and rows == n
                    if alone and _is_final(images, image):
                        result = place = images
                    else:
                        result = image_formats.allocate(n, images, format, out, self.target.device)
                if images is not place:
                    image_formats.store(images[:count], image, result[first : first + count])
                if nonfinite is not None:
                    doubtful.append((first, count, batch, nonfinite))
                told(count)
            assert result is not None
            flags = [flag for *_, flag in doubtful]
            if flags and bool(flags[0] if len(flags) == 1 else torch.stack(flags).any()):
                self._redo(doubtful, image, result, noise)
        return result

    def prepare(
        self, inputs: Mapping[str, Any], n: int, format: str, out: Tensor | None
    ) -> tuple[Run, Tensor]:
        """A run of n samples that is made ready once, and where its images go.

        Args:
            inputs: of n samples; tensors are read where they lie, at each run.
            out: where the images go; None for new memory.

        Raises:
            ArgumentError: `out` does not fit.
        """
        image_formats.check_out(out, *inputs.values())
        image, device = image_formats.of(self._made, format), self.target.device
        if self._frozen not in (None, n):
            made = self.images(drawn(inputs, device), n, n, format, out, False)
            place = torch.empty_like(made) if out is None else made

            def bind(tensors: Mapping[str, Tensor]) -> Bound:
                return lambda: void(self.images(tensors, n, n, format, place, False))

            return Run(inputs, bind, device), place
        executable = self._ready(_shapes_of(inputs))
        if executable.plan is None:
            like, _ = executable.images(drawn(inputs, device), image.asked)
        else:
            buffer = executable.plan.buffers[self._made.name]
            like = as_asked(torch.empty(buffer.shape, dtype=buffer.dtype, device="meta"), image)
        self._check_rows(like.shape, n)
        place = image_formats.allocate(n, like, format, out, device)
        return executable.prepare(inputs, image, place), place

    def mend(
        self, inputs: Mapping[str, Any], n: int, format: str, out: Tensor, noise: Noise
    ) -> None:
        """Make n images again that hold a NaN or Inf, in fp32, with a warning."""
        image = image_formats.of(self._made, format)
        doubtful = [(0, n, dict(inputs), torch.tensor(True))]
        with torch.inference_mode():
            self._redo(doubtful, image, out, lambda first, rows: noise)

    def _planned_result(
        self, n: int, rows: int, batch: Mapping[str, Any], format: str
    ) -> Tensor | None:
        """Room for n images, which an executable may write them to; None where it has its own."""
        plan = None if self.draws else self.executable(_shapes_of(batch)).plan
        if plan is None:
            return None
        shape = plan.buffers[self._made.name].shape
        self._check_rows(shape, rows)
        sizes = shape[1:]
        if format == "float32":
            return results.empty((n, *sizes), torch.float32, self.target.device)
        if len(sizes) == 3:
            sizes = (*sizes[1:], sizes[0])
        return results.empty((n, *sizes), torch.uint8, self.target.device)

    def _check_rows(self, shape: Sequence[int], rows: int) -> None:
        """Raises ArgumentError where what was made of `rows` samples is not a row for each."""
        if tuple(shape[:1]) != (rows,):
            raise ArgumentError(
                f"output {self._made.name!r}",
                f"shape {tuple(shape)} for {rows} samples",
                "a row for each sample",
                "take it from `run`, which returns every output as it is",
            )

    def _check_whole(self, rows: int, where: str) -> None:
        """Raises ArgumentError where rows would have to be made up for others to meet."""
        frozen = self._frozen or 1
        if rows % frozen:
            raise ArgumentError(
                where,
                f"{rows} samples for {self.model.name}, which runs {frozen} at a time"
                " and may make each of all of them",
                f"a multiple of {frozen}",
            )

    def _attempt(
        self,
        batches: Batches,
        first: int,
        count: int,
        batch: Mapping[str, Any],
        image: ImageFormat,
        place: Tensor | None,
    ) -> tuple[Tensor, Tensor | None] | None:
        """One batch; or None where memory did not suffice: its halves are then still to come."""
        shapes = _shapes_of(batch)
        try:
            return self._ready(shapes).images(batch, image, place)
        except torch.cuda.OutOfMemoryError:
            most = batches.halve(first, count)
            if most is None:
                raise
        # Outside of the handler, so that the exception holds nothing any more.
        self.forget(shapes)
        torch.cuda.empty_cache()
        log.log(
            logging.WARNING if self._largest_batch is None else logging.INFO,
            "%s: not enough memory on %s for %d images at once: going on with %d",
            self.model.name,
            self.target.device,
            count,
            most,
        )
        self._largest_batch = most
        return None

    def _redo(
        self,
        doubtful: list[tuple[int, int, dict[str, Any], Tensor]],
        image: ImageFormat,
        result: Tensor,
        noise: Callable[[int, int], Noise],
    ) -> None:
        """Make the batches that hold a NaN or Inf again in fp32, with one warning."""
        redone = 0
        for first, count, batch, nonfinite in doubtful:
            if not bool(nonfinite):
                continue
            if not redone:
                node = self.executable(_shapes_of(batch)).first_nonfinite(batch)
                log.warning(
                    "%s: NaN or Inf in %s, first at %s: what it touched is made again in fp32",
                    self.model.name,
                    self.target.precision,
                    node or "a node that could not be named",
                )
            exact = self.executable(_shapes_of(batch), self._exact)
            rows = next((batch[key].shape[0] for key in self._rows), count)
            with using_noise(noise(first, rows)):
                images, _ = exact.images(batch, image.asked)
            image_formats.store(images[:count], image, result[first : first + count])
            redone += 1

    def outputs(self, inputs: dict[str, Tensor], rows: int | None) -> dict[str, Tensor]:
        """All outputs for so many rows; where the batch is frozen, one run after another."""
        frozen, rows = self._frozen, rows or 1
        if frozen in (None, rows):
            return self._guarded(inputs)
        apart = all(output.apart for output in self.signature.outputs)
        if not apart:
            self._check_whole(rows, "inputs")
        ports = (i for i in self.signature.inputs if i.shape[:1] == (frozen,))
        batched = {port.name for port in ports if port.name in self._rows}
        made: list[dict[str, Tensor]] = []
        for first, count in Batches(rows, None, frozen):
            part = {
                name: filled_up(t[first : first + count], frozen) if name in batched else t
                for name, t in inputs.items()
            }
            results = self._guarded(part)
            for name, t in results.items():
                if t.shape[:1] != (frozen,):
                    raise ArgumentError(
                        "inputs",
                        f"{rows} samples, and an output {name!r} of shape {tuple(t.shape)}",
                        f"{frozen}, the batch of the file: it has no row for each sample",
                    )
            made.append({name: t[:count] for name, t in results.items()})
        return {name: torch.cat([part[name] for part in made]) for name in made[0]}

    def straight(
        self, inputs: dict[str, Tensor], rows: int | None
    ) -> Callable[[dict[str, Tensor]], dict[str, Tensor]] | None:
        """What makes all that `outputs` does of such inputs, on a CPU; None where that is more."""
        if rows != self._frozen or self.target.device.type != "cpu":
            return None
        executable = self._ready(_shapes_of(inputs))
        asked = executable.holds is None or executable.holds > memory.UNASKED  # at each call
        if executable.records or asked:
            return None
        if self.target.precision not in _GUARDED:
            return executable

        def guarded(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            results = executable(inputs)
            for made in results.values():
                if holds_nonfinite(made):
                    return self._guarded(inputs)
            return results

        return guarded

    def _guarded(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """All outputs; where a reduced precision gave a NaN or Inf, those of fp32."""
        executable = self._ready(_shapes_of(inputs))
        if not executable.records and self.target.precision not in _GUARDED:
            return executable(inputs)
        with torch.inference_mode():
            results = executable(inputs)
            guarded = self.target.precision in _GUARDED
            if not guarded or not any(map(holds_nonfinite, results.values())):
                return results
            log.warning(
                "%s: NaN or Inf in %s, first at %s: run again in fp32",
                self.model.name,
                self.target.precision,
                executable.first_nonfinite(inputs) or "a node that could not be named",
            )
            return self.executable(_shapes_of(inputs), self._exact)(inputs)


def void(_: object) -> None:
    """Drop a result."""


def _shapes_of(tensors: Mapping[str, Any]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _is_final(images: Tensor, image: ImageFormat) -> bool:
    """Whether these images are already what `generate` returns."""
    wanted = torch.uint8 if image.format == "uint8" else torch.float32
    return images.dtype == wanted and images.is_contiguous()


def _goes_on(value: Any) -> bool:
    """Whether more rows can follow: the samples of a seed end somewhere."""
    samples = value.samples if isinstance(value, Draw) else None
    return samples is None or samples.start + 2 * value.shape[0] < 1 << 64


def filled_up(tensor: Any, rows: int) -> Any:
    """With so many rows: copies of the last one, or what else would be drawn."""
    if tensor.shape[0] == rows:
        return tensor
    if isinstance(tensor, Draw):
        return replace(tensor, shape=(rows, *tensor.shape[1:]))
    return torch.cat([tensor, tensor[-1:].expand(rows - tensor.shape[0], *tensor.shape[1:])])


@contextmanager
def counting(
    total: int, progress: bool | Callable[[int, int], None]
) -> Iterator[Callable[[int], object]]:
    """A function to call with each number of images done, of so many in all.

    progress: called with how many are done and the total; or True for a bar that shows it.
    """
    if progress is True:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = ("images", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as bar:
            task = bar.add_task("images", total=total)
            yield lambda count: bar.advance(task, count)
        return
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if callable(progress):
            progress(done, total)

    yield tell
