"""Generator: a loaded model that makes images."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan import image_to_image
from fastgan import images as image_formats
from fastgan.backends import Backend, Executable, Target
from fastgan.backends.base import ImageFormat
from fastgan.batching import Batches, automatic_batch
from fastgan.errors import ArgumentError, Refusal
from fastgan.fields import sized
from fastgan.image_to_image import ImageModel
from fastgan.inputs import Inputs, Shapes, input_shapes
from fastgan.model_file import ModelFile
from fastgan.ops.random import Noise, default_noise, seeded_noise, using_noise
from fastgan.signature import Signature

if TYPE_CHECKING:
    from fastgan.plan import Plan
    from fastgan.realtime import Stream

log = logging.getLogger("fastgan")

#: Precisions whose results are checked for NaN and Inf, and redone in fp32 where there are any.
_GUARDED = ("fp16", "bf16")

#: Executables kept, each with its weights packed: a folder of photos may come in any size.
_MOST_EXECUTABLES = 32


class Generator:
    """A model on a device. Made by `fastgan.load`.

    Calls from several threads are safe. Results are `torch.Tensor`s on `device`.
    """

    def __init__(
        self,
        model: ModelFile,
        signature: Signature,
        backend: Backend,
        target: Target,
        refusals: Sequence[Refusal],
    ) -> None:
        self._model, self._signature = model, signature
        self._backend, self._target = backend, target
        self._refusals = tuple(refusals)
        self._inputs = Inputs(signature, target.device)
        self._executables: dict[tuple[str, tuple[tuple[str, tuple[int, ...]], ...]], Executable]
        self._executables = {}
        self._lock = threading.Lock()
        self._images: ImageModel | None = None
        # Whether samples may be drawn where the backend needs them, rather than beforehand.
        self._draws = getattr(backend, "draws", False) and signature.frozen_batch is None
        self._largest_batch: int | None = None  # once memory did not suffice for a larger one
        self._image_output = signature.made

    # What it is ---------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the model runs and results lie."""
        return self._target.device

    @property
    def backend(self) -> str:
        """What runs it: "triton", "torch" or "ort"."""
        return self._backend.name

    @property
    def precision(self) -> str:
        """What it computes in: "fp32", "tf32", "fp16" or "bf16"."""
        return self._target.precision

    @property
    def signature(self) -> Signature:
        """What each input and output is."""
        return self._signature

    @property
    def path(self) -> Path | None:
        """The file that it was loaded from; None where that was bytes."""
        return self._model.path

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Why the backends before this one did not take the model."""
        return self._refusals

    @property
    def scale(self) -> tuple[float, float] | None:
        """Of an image-to-image model: height and width of the result by those of the image.

        None where the two are not in proportion.

        Raises:
            ArgumentError: the model takes no image.
        """
        scale = self._image_model().fit.scale
        return None if scale is None else (float(scale[0]), float(scale[1]))

    def plan(self, batch: int = 1) -> Plan | None:
        """The plan for a batch of this size; None where a runtime plans for itself."""
        return self._executable(self._shapes(batch)).plan

    def __repr__(self) -> str:
        return (
            f"Generator({self._model.name!r}, backend={self.backend!r}, "
            f"device={str(self.device)!r}, precision={self.precision!r})"
        )

    # Making images ------------------------------------------------------------------------------

    def generate(
        self,
        n: int,
        *,
        seed: int | Sequence[int] = 0,
        start: int = 0,
        labels: int | str | Sequence[int | str] | Tensor | None = None,
        truncation: float | None = None,
        size: tuple[int, int] | None = None,
        batch_size: int | None = None,
        rng: str = "philox",
        format: str = "float32",
        out: Tensor | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Make `n` images from nothing but a seed.

        Image i comes from sample `start + i` of `seed`, whatever n, the batch size and the device:
        `generate(100)[42]` is `generate(1, start=42)[0]`, within the published tolerance.

        Args:
            n: how many, at least 1.
            seed: 0 to 2**64 - 1; or one seed per image, for sample `start` of each.
            start: index of the first sample.
            labels: for class-conditional models: one class for all, or one per image, by index or
                by name; None or "random" draws them from the seed.
            truncation: keep each latent within +-truncation (normal latents only).
            size: height and width, for models whose latent is a field with both open (textures);
                None is a field of one place.
            batch_size: images per run; None takes one that suits the device's caches.
            rng: "philox", or "numpy" for the latents that StyleGAN's tools give for a seed.
            format: "float32" for [n, C, H, W] in the model's own range, or "uint8" for
                [n, H, W, C] in 0..255.
            out: a tensor of that shape, type and device to write into.
            progress: show a progress bar.

        Raises:
            ArgumentError: an argument is out of range, or the model needs an image.
        """
        image_formats.check_format(format)
        n = _count("n", n)
        if batch_size is not None:
            batch_size = _count("batch_size", batch_size)
        given: dict[str, Tensor] | None = None
        if size is not None:
            port, places = sized(self._signature, size, self._image_of_field)
            given = {port.name: self._inputs.sample(port, n, 0, seed, start, truncation, rng)}
            if batch_size is None:  # what suits the caches is known for a field of one place
                batch_size = max(1, self._automatic_batch // places)
        inputs = self._inputs.make(
            n, seed, start, labels, truncation, rng, given, lazily=self._draws
        )

        def noise(first: int, rows: int) -> Noise:
            if isinstance(seed, int):
                return seeded_noise(seed, start + first, rows)
            own = list(seed[first : first + rows])
            return seeded_noise(own + own[-1:] * (rows - len(own)), start, rows)

        return self._produce(inputs, n, batch_size, format, out, progress, noise)

    def warm_up(
        self,
        sizes: Sequence[int] = (),
        *,
        formats: Sequence[str] = ("float32",),
        tune: bool = False,
        seconds: float = math.inf,
    ) -> None:
        """Prepare for batches of these sizes, largest first: compile kernels, capture graphs.

        Without this the first batch of a size does it. On backends without such a step, nothing
        happens.

        Args:
            sizes: of batches; by default the one that `generate` takes for large n.
            formats: those of `generate` to be ready for.
            tune: measure which way is fastest for each step, once for this GPU; that takes minutes.
            seconds: how long measuring may take in all.
        """
        output, deadline = self._image_output, time.monotonic() + seconds
        wanted = sizes or (self._signature.frozen_batch or self._automatic_batch,)
        for size in sorted({_count("sizes", size) for size in wanted}, reverse=True):
            executable: Any = self._executable(self._shapes(size))
            for format in formats:
                image_formats.check_format(format)
                image = ImageFormat(output.name, format, output.range)
                if tune and hasattr(executable, "tune"):
                    executable.tune(image, seconds=deadline - time.monotonic())
                if hasattr(executable, "warm_up"):
                    executable.warm_up(image)

    def latents(
        self,
        n: int,
        *,
        seed: int | Sequence[int] = 0,
        start: int = 0,
        truncation: float | None = None,
        rng: str = "philox",
    ) -> Tensor:
        """The latents that `generate` uses: float32 [n, *shape of the latent input].

        Raises:
            ArgumentError: an argument is out of range, or the model has no latent input.
        """
        latent = self._signature.latent
        if latent is None:
            raise ArgumentError("latents", "a model without a latent input", "one that has it")
        return self._inputs.sample(latent, _count("n", n), 0, seed, start, truncation, rng)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Run the model on the inputs given: arrays or tensors by name in, tensors out.

        A model whose exporter fixed the batch runs as often as their rows need. Axes are in the
        file's own order: images of one that is channels last are [n, H, W, C].

        Raises:
            ArgumentError: an input is missing, unknown, or of a shape that the model can't take.
        """
        tensors = self._inputs.check(inputs)
        rows = self._inputs.rows(tensors)
        frozen = self._signature.frozen_batch
        results = self._guarded(tensors) if rows == frozen else self._in_turns(tensors, rows or 1)
        last = {output.name for output in self._signature.outputs if output.channels_last}
        return {
            name: (t.float() if t.is_floating_point() else t)
            .permute((0, 2, 3, 1) if name in last else tuple(range(t.dim())))
            .contiguous()
            for name, t in results.items()
        }

    def __call__(
        self,
        images: Any,
        *,
        mask: Any = None,
        style: Any = None,
        format: str = "float32",
        tile: int | None = None,
        tile_pad: int | None = None,
        alpha: str = "keep",
        fill: str | None = None,
        batch_size: int | None = None,
        seed: int | Sequence[int] = 0,
        start: int = 0,
        labels: int | str | Sequence[int | str] | Tensor | None = None,
        truncation: float | None = None,
        rng: str = "philox",
        out: Tensor | None = None,
        progress: bool | Callable[[int, int], None] = False,
        **inputs: Any,
    ) -> Any:
        """Run an image-to-image model on images of any size: restore, upscale, stylise, inpaint.

        Images are brought to a size and to channels that the model takes, and the result is made
        to match: as large as the image times the model's scale. docs/apply.md says how.

        Args:
            images: a float tensor or array [n, C, H, W] in the model's input range, or a uint8 or
                uint16 one [n, H, W, C]; a Pillow image or a path; or a list of any of these, each
                one image, of different sizes. n may be absent.
            mask: for models that take one, as large as the image, one or one for each image.
            style: the second image of a model that takes two.
            format: "float32" for [n, C, H, W] in the model's own range, "uint8" for [n, H, W, C]
                in 0..255, or "pil" for Pillow images.
            tile: run in tiles of about this many pixels a side; 0 for never; None for where the
                whole image would take more than 1 GiB, which is logged.
            tile_pad: how far a tile looks beyond its border, in pixels; 32 if None.
            alpha: what becomes of the transparency of an image if the model takes none: "keep"
                resizes it apart, "ignore" drops it, "model" runs it as a grey image.
            fill: which part of the mask the model fills in, "white" or "black"; None for what the
                file says, or else white. All other pixels of the result are the image's own.
            batch_size: images, or tiles, per run; None takes one that suits the device's caches.
            seed, start, labels, truncation, rng: as in `generate`, for models that take a latent
                or a label beside the image.
            out: a tensor of the result's shape, type and device to write into.
            progress: show a progress bar; or a function to call with (done, total) windows.
            inputs: any other input by its name.

        Returns:
            A tensor on `device` with n first, or a list of tensors without it if a list was given;
            with format="pil" one Pillow image, or a list.

        Raises:
            ArgumentError: the model takes no image, these images do not fit it, or one of them
                can't be read.
        """
        model = self._image_model()
        options = image_to_image.Options(
            format, tile, tile_pad, alpha, fill, batch_size, out, progress
        )
        guides, given = model.arguments({"mask": mask, "style": style, **inputs})

        def rows(n: int) -> dict[str, Tensor]:
            known = dict.fromkeys((model.port.name, *guides), torch.empty(0))
            known |= {name: model.rows(name, value, n) for name, value in given.items()}
            every = self._inputs.make(n, seed, start, labels, truncation, rng, known)
            return {name: every[name] for name in every.keys() - {model.port.name, *guides}}

        def run(batch: dict[str, Tensor], n: int, batch_size: int, format: str) -> Tensor:
            return self._produce(batch, n, batch_size, format, None, False)

        return image_to_image.apply(model, run, images, guides, rows, options)

    def stream(
        self,
        *,
        fps: float | None = None,
        batch: int = 1,
        latents: Any = None,
        labels: Any = None,
        format: str = "uint8",
        buffers: int = 3,
        similarity: float | None = None,
        budget_ms: float | None = None,
        policy: str = "newest",
        truncation: float | None = None,
        seed: int = 0,
        speed: float = 1.0,
        start: int = 0,
        frames: int | None = None,
        source: Iterable[Any] | None = None,
        size: tuple[int, int] | None = None,
        **arguments: Any,
    ) -> Stream:
        """Frames on time, rendered ahead by a thread of their own (docs/realtime.md).

            with g.stream(fps=60, latents=SeedPath((0, 1, 2))) as stream:
                for frame in stream:
                    show(frame.images)                 # uint8 [batch, H, W, C]

        Everything is prepared before this returns. Each frame is delivered when its time has
        come; one that was not ready by then is delivered late and counted in `stream.stats`.

        Args:
            fps: frames per second, on a fixed schedule; None for as fast as they are taken.
            batch: images in a frame.
            latents: a walk of `fastgan.realtime`, a list of seeds, or an array [frames, *shape];
                None drifts from `seed`.
            labels: a class, one for each image, or weights by class; None takes one of the seed's.
            format: as in `generate`.
            buffers: frames in memory; with "every" all but one may be rendered ahead, with
                "newest" a frame is rendered in the period before its time.
            similarity: a frame whose latent's cosine with the last one shown is at least this, such
                as 0.999, is not rendered (StreamDiffusion's filter), and counted.
            budget_ms: an error at once, which says what would fit, if a frame takes longer.
            policy: "newest" never waits for who takes the frames, and drops the ones that they
                are too late for; "every" waits, and drops none.
            truncation: bend normal latents into +-truncation.
            seed: of the drift, and of inputs other than the latent.
            speed: frames of the walk per frame shown.
            start: the first frame's number; so a walk is resumed.
            frames: how many; None for no end.
            source: for image-to-image models: their frames, uint8 [H, W, C], pulled by a thread.
            size: (height, width) of frames that will be fed.
            arguments: of `Generator.__call__`, for image-to-image models.

        Raises:
            ArgumentError: an argument is out of range or does not fit the model.
            BudgetError: a frame takes longer than `budget_ms`.
        """
        from fastgan.realtime.opening import open_stream

        def run(inputs: Mapping[str, Any], n: int, format: str, out: Tensor | None) -> Tensor:
            return self._produce(inputs, n, n, format, out, False)

        return open_stream(
            self, self._inputs.make, run,
            fps=fps, batch=batch, latents=latents, labels=labels, format=format, buffers=buffers,
            similarity=similarity, budget_ms=budget_ms, policy=policy, truncation=truncation,
            seed=seed, speed=speed, start=start, frames=frames, source=source, size=size,
            arguments=arguments,
        )  # fmt: skip

    # Running ------------------------------------------------------------------------------------

    def _produce(
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
        frozen = self._signature.frozen_batch
        if frozen is None and batch_size is None:
            batch_size = self._automatic_batch
        if batch_size is not None and self._largest_batch is not None:
            batch_size = min(batch_size, self._largest_batch)
        output = self._image_output
        image = ImageFormat(output.name, format, output.range)
        result: Tensor | None = None
        place: Tensor | None = None
        doubtful: list[tuple[int, int, dict[str, Any], Tensor]] = []
        batches = Batches(n, batch_size, frozen)
        with torch.inference_mode():
            for first, count in _bar(batches, n, progress):
                batch = {key: tensor[first : first + count] for key, tensor in inputs.items()}
                if frozen is not None and count < frozen:
                    # The model runs at no other size: fill up with copies, drop their images.
                    batch = {key: _fill(tensor, frozen) for key, tensor in batch.items()}
                if result is not None:
                    place = result[first : first + count]
                else:
                    # `allocate` will say whether it fits; where it doesn't, it is left alone.
                    place = out if count == n and isinstance(out, Tensor) else None
                with using_noise(noise(first, frozen or count)):
                    made = self._attempt(batches, first, count, batch, image, place)
                if made is None:
                    continue
                images, nonfinite = made
                if result is None:
                    if self._draws and out is None and count == n and _is_final(images, image):
                        result = place = images
                    else:
                        result = image_formats.allocate(n, images, format, out, self.device)
                if images is not place:
                    image_formats.store(images[:count], image, result[first : first + count])
                if nonfinite is not None:
                    doubtful.append((first, count, batch, nonfinite))
            assert result is not None
            flags = [flag for *_, flag in doubtful]
            if flags and bool(flags[0] if len(flags) == 1 else torch.stack(flags).any()):
                self._redo(doubtful, image, result, noise)
        return result

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
            return self._executable(shapes).images(batch, image, place)
        except torch.cuda.OutOfMemoryError:
            most = batches.halve(first, count)
            if most is None:
                raise
        # Outside of the handler, so that the exception holds nothing any more.
        with self._lock:
            self._executables = {
                key: made
                for key, made in self._executables.items()
                if key[1] != tuple(sorted(shapes.items()))
            }
        torch.cuda.empty_cache()
        log.log(
            logging.WARNING if self._largest_batch is None else logging.INFO,
            "%s: not enough memory on %s for %d images at once: going on with %d",
            self._model.name,
            self.device,
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
                node = self._executable(_shapes_of(batch)).first_nonfinite(batch)
                log.warning(
                    "%s: NaN or Inf in %s, first at %s: what it touched is made again in fp32",
                    self._model.name,
                    self.precision,
                    node or "a node that could not be named",
                )
            exact = self._executable(_shapes_of(batch), Target(self.device, "fp32"))
            with using_noise(noise(first, self._signature.frozen_batch or count)):
                images, _ = exact.images(batch, image)
            image_formats.store(images[:count], image, result[first : first + count])
            redone += 1

    def _in_turns(self, inputs: dict[str, Tensor], rows: int) -> dict[str, Tensor]:
        """All outputs of so many rows; at a frozen batch, one run after another."""
        frozen = self._signature.frozen_batch
        if frozen is None:
            return self._guarded(inputs)
        batched = {i.name for i in self._signature.inputs if i.shape[:1] == (frozen,)}
        made: list[dict[str, Tensor]] = []
        for first, count in Batches(rows, None, frozen):
            part = {
                name: _fill(t[first : first + count], frozen) if name in batched else t
                for name, t in inputs.items()
            }
            results = self._guarded(part)
            made.append({name: t[:count] for name, t in results.items()})
        return {name: torch.cat([part[name] for part in made]) for name in made[0]}

    def _guarded(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """All outputs; where a reduced precision gave a NaN or Inf, those of fp32."""
        executable = self._executable(_shapes_of(inputs))
        with torch.inference_mode():
            results = executable(inputs)
            floats = [t for t in results.values() if t.is_floating_point()]
            if self.precision not in _GUARDED or all(bool(t.isfinite().all()) for t in floats):
                return results
            log.warning(
                "%s: NaN or Inf in %s, first at %s: run again in fp32",
                self._model.name,
                self.precision,
                executable.first_nonfinite(inputs) or "a node that could not be named",
            )
            return self._executable(_shapes_of(inputs), Target(self.device, "fp32"))(inputs)

    @cached_property
    def _automatic_batch(self) -> int:
        measured: int | None = getattr(self._executable(self._shapes(1)), "best_batch", None)
        return measured or automatic_batch(self.plan(1), self._target)

    def _image_of_field(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the image that a latent of this height and width makes."""
        latent = self._signature.latent
        assert latent is not None
        port = replace(latent, shape=(*latent.shape[:2], *size))
        given = {port.name: self._inputs.sample(port, 1, 0, 0, 0, None, "philox")}
        made = self.run(self._inputs.make(1, 0, 0, None, None, "philox", given))
        height, width = made[self._image_output.name].shape[-2:]
        return height, width

    def _image_model(self) -> ImageModel:
        """What this model asks of images, made on first use.

        Raises:
            ArgumentError: it takes none.
        """
        with self._lock:
            if self._images is None:
                self._images = ImageModel(
                    self._model,
                    self._signature,
                    self._image_output,
                    self._backend,
                    self._target,
                    shapes=lambda: self._shapes(1),
                    plan=self.plan,
                )
            return self._images

    def _executable(self, shapes: Shapes, target: Target | None = None) -> Executable:
        """The executable for these input shapes, made on first use."""
        target = target or self._target
        key = (target.precision, tuple(sorted(shapes.items())))
        with self._lock:
            executable = self._executables.pop(key, None)
            if executable is None:
                executable = self._backend.compile(self._model, target, shapes)
            self._executables[key] = executable  # the last used is the last to go
            while len(self._executables) > _MOST_EXECUTABLES:
                self._executables.pop(next(iter(self._executables)))
            return executable

    def _shapes(self, batch: int) -> Shapes:
        return input_shapes(self._signature, batch)


def _shapes_of(tensors: Mapping[str, Any]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _is_final(images: Tensor, image: ImageFormat) -> bool:
    """Whether these images are already what `generate` returns."""
    wanted = torch.uint8 if image.format == "uint8" else torch.float32
    return images.dtype == wanted and images.is_contiguous()


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(name, repr(value), "a whole number of at least 1")
    return value


def _fill(tensor: Tensor, rows: int) -> Tensor:
    return torch.cat([tensor, tensor[-1:].expand(rows - tensor.shape[0], *tensor.shape[1:])])


def _bar(batches: Iterable[tuple[int, int]], n: int, show: bool) -> Iterator[tuple[int, int]]:
    """The batches, with a progress bar that counts images if asked for."""
    if not show:
        yield from batches
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("images", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("images", total=n)
        for first, count in batches:
            yield first, count
            bar.update(task, completed=first + count)
