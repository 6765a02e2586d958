"""Generator: a loaded model that makes images."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

import torch
from torch import Tensor

from fastgan import apply as image_to_image
from fastgan.apply import ImageModel
from fastgan.engine import Session
from fastgan.engine.batches import filled
from fastgan.engine.prepared import Prepared
from fastgan.errors import ArgumentError, FastganError, Refusal
from fastgan.host import arguments, forks, threads
from fastgan.host.tensors import kind_of
from fastgan.images import pixels as image_formats
from fastgan.inputs.draws import Draw
from fastgan.inputs.fields import sized
from fastgan.inputs.make import Inputs
from fastgan.latents.sampling import Sampling
from fastgan.model.origin import Origin, State
from fastgan.model.signature import Input, Signature
from fastgan.ops.random import Noise, draws_noise, no_noise, seeded_noise

if TYPE_CHECKING:
    from PIL.Image import Image

    from fastgan.plan import Plan
    from fastgan.realtime import Stream
    from fastgan.realtime.stream.options import StreamOptions

log = logging.getLogger("fastgan")

#: `generate` keeps so many runs ready, of up to so many bytes of images each: beyond that, its own
#: time does not show beside the model's.
_MOST_RUNS, _MOST_BYTES_OF_A_RUN = 8, 4 << 20

#: Kinds of calls with images that are remembered: a folder of photos may come in any sizes.
_MOST_KINDS = 64

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _on_its_threads(method: _Method) -> _Method:
    """A method that computes with the threads which `load` was given."""

    @wraps(method)
    def call(self: Generator, *positional: Any, **named: Any) -> Any:
        if self._threads is None:
            return method(self, *positional, **named)
        with threads.limited(self._threads):
            return method(self, *positional, **named)

    return cast(_Method, call)


class Generator:
    """A model on a device. Made by `fastgan.load`.

    Calls from several threads are safe. Results are `torch.Tensor`s on `device`.
    """

    def __init__(
        self, session: Session, refusals: Sequence[Refusal] = (), origin: Origin | None = None
    ) -> None:
        self._session, self._refusals, self._origin = session, tuple(refusals), origin
        self._signature, self._threads = session.signature, session.target.threads
        self._inputs = Inputs(session.signature, session.target.device)
        self._lock = forks.renewed(threading.Lock())
        self._images: ImageModel | None = None
        self._outputs_last = [o.name for o in session.signature.outputs if o.channels_last]
        self._runs: dict[tuple[int, str], Prepared | None] = {}  # of `generate`, made ready
        #: The kind of inputs that `run` had last, and what runs those with nothing beside.
        self._last_run: tuple[Any, Any] = (None, None)
        #: Kinds of images that go through as they are, and how many of them to a run.
        self._straight: dict[tuple[Any, ...], int] = {}

    # What it is ---------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the model runs and results lie."""
        return self._session.target.device

    @property
    def backend(self) -> str:
        """What runs it: "triton", "torch" or "ort"."""
        return self._session.backend.name

    @property
    def precision(self) -> str:
        """What it computes in: "fp32", "tf32", "fp16", "bf16" or "fp8"."""
        return self._session.target.precision

    @property
    def threads(self) -> int | None:
        """How many CPU threads a call computes with; None for as many as PyTorch has."""
        return self._threads

    @property
    def signature(self) -> Signature:
        """What each input and output is."""
        return self._signature

    @property
    def path(self) -> Path | None:
        """The file that it was loaded from; None where that was bytes."""
        return self._session.model.file.path

    @property
    def files(self) -> tuple[Path, ...]:
        """The file that it was loaded from, and those that its weights lie in."""
        return () if self._origin is None else tuple(Path(path) for path, *_ in self._origin.files)

    @property
    def digest(self) -> str:
        """The SHA-256 of the model: of its file, and where that names others, of all of them.

        Raises:
            ModelFileError: the file is not what it was when it was loaded.
            ArgumentError: it was not made by `fastgan.load`.
        """
        if self._origin is None:
            raise ArgumentError("digest", "a generator of fastgan's own", "one of fastgan.load")
        return self._origin.fingerprint()

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Why the backends before this one did not take the model."""
        return self._refusals

    @property
    def fallbacks(self) -> tuple[Refusal, ...]:
        """What does not run as it was meant to on this device, so far: where, and why.

        Backends that were passed over, and steps (`where`) whose kernels failed or were found to
        be wrong on this GPU (`found`) and which torch's operators compute instead.
        """
        return self._session.fallbacks

    @property
    def scale(self) -> tuple[float, float] | None:
        """Of an image-to-image model: height and width of the result by those of the image.

        None where the two are not in proportion.

        Raises:
            ArgumentError: the model takes no image.
        """
        scale = self._image_model().fit.scale
        return None if scale is None else (float(scale[0]), float(scale[1]))

    @_on_its_threads
    def plan(self, batch: int = 1) -> Plan | None:
        """The plan for a batch of this size; None where a runtime plans for itself."""
        return self._session.plan(arguments.whole("batch", batch))

    @_on_its_threads
    def at(self, precision: str) -> Generator | None:
        """The same model on the same backend in another precision, None where that has none here.

        Args:
            precision: as in `load`.
        """
        session = self._session
        target = replace(session.target, precision=precision)
        opened = session.backend.open(session.model, target, session.shared)
        return None if isinstance(opened, Refusal) else Generator(opened, self._refusals)

    # Copies -------------------------------------------------------------------------------------

    def __copy__(self) -> Generator:
        """Another one on the same model, which no call changes; each plans for itself."""
        return Generator(self._session.again(self._signature), self._refusals, self._origin)

    def __deepcopy__(self, memo: dict[int, Any]) -> Generator:
        """As `copy.copy`."""
        return self.__copy__()

    def restored(self, signature: Signature, refusals: Sequence[Refusal]) -> Generator:
        """This one under a signature and with refusals that are known from before."""
        same = signature == self._signature
        session = self._session if same else self._session.again(signature)
        return Generator(session, refusals, self._origin)

    def __reduce__(self) -> tuple[Callable[[State], Any], tuple[State]]:
        """A pickle holds the bytes, or the path with the file's digest, and how it was loaded.

        Raises:
            ModelFileError: the file is not what it was when it was loaded.
            ArgumentError: it was not made by `fastgan.load`.
        """
        if self._origin is None:
            raise ArgumentError("pickle", "a generator of fastgan's own", "one of fastgan.load")
        state = State(
            self._origin, self._origin.digests(), str(self.device), self.precision, self.backend,
            self._signature, self._refusals,
        )  # fmt: skip
        return self._origin.reopen, (state,)

    def __repr__(self) -> str:
        return (
            f"Generator({self._session.model.file.name!r}, backend={self.backend!r}, "
            f"device={str(self.device)!r}, precision={self.precision!r})"
        )

    # Making images ------------------------------------------------------------------------------

    @overload
    def generate(self, n: int, *, format: Literal["pil"], **options: Any) -> list[Image]: ...

    @overload
    def generate(
        self,
        n: int,
        *,
        seed: int | Sequence[int] = 0,
        start: int | Sequence[int] = 0,
        labels: Any = None,
        truncation: float | None = None,
        size: tuple[int, int] | None = None,
        batch_size: int | None = None,
        rng: str = "philox",
        format: str = "float32",
        out: Tensor | None = None,
        noise: bool = True,
        progress: bool = False,
        latents: Any = None,
        **inputs: Any,
    ) -> Tensor: ...

    @_on_its_threads
    def generate(
        self,
        n: int,
        *,
        seed: int | Sequence[int] = 0,
        start: int | Sequence[int] = 0,
        labels: Any = None,
        truncation: float | None = None,
        size: tuple[int, int] | None = None,
        batch_size: int | None = None,
        rng: str = "philox",
        format: str = "float32",
        out: Tensor | None = None,
        noise: bool = True,
        progress: bool = False,
        latents: Any = None,
        **inputs: Any,
    ) -> Any:
        """Make `n` images from nothing but a seed, or from latents.

        Image i comes from sample `start + i` of `seed`, whatever n, the batch size and the device:
        `generate(100)[42]` is `generate(1, start=42)[0]`, within the published tolerance.

        Args:
            n: how many, at least 1.
            seed: 0 to 2**64 - 1; or one seed per image, for sample `start` of each.
            start: index of the first sample; or one per image: `seed=[7, 7, 9], start=[0, 5, 2]`
                are samples 0 and 5 of seed 7 and sample 2 of seed 9, as each alone.
            labels: for class-conditional models: one class for all, or one per image, by index or
                by name; None or "random" draws them from the seed.
            truncation: keep each latent within +-truncation (normal latents only); where the model
                has a truncation of its own, an input called psi or truncation, it is that instead,
                which else is 1.
            size: height and width, for models whose latent is a field with both open (textures);
                None is a field of one place.
            noise: False for none: noise inputs, and what the graph itself draws, are zero then.
            batch_size: images per run; None takes one that suits the device's caches, or all n
                where samples may meet in the model (`Output.apart`).
            rng: "philox", or "numpy" for the latents that StyleGAN's tools give for a seed.
            format: "float32" for [n, C, H, W] in the model's own range, "uint8" for [n, H, W, C]
                in 0..255, or "pil" for a list of n Pillow images.
            out: a tensor of that shape, type and device to write into.
            progress: show a progress bar.
            latents: those of the images instead of a seed's: an array or a tensor [n, *shape of
                the latent input], such as `latents` returns.
            inputs: any other input by its name, such as a strength: a number, or an array or a
                tensor, of one row for all or of one for each image.

        Raises:
            ArgumentError: an argument is out of range, an input that no seed makes has no value,
                or the model needs an image.
        """
        pictures = format == "pil"
        if pictures:
            image_formats.check_pictures(self._signature.made, out)
            format = "uint8"
        as_ever = labels is None and truncation is None and size is None and batch_size is None
        unasked = as_ever and latents is None
        if unasked and rng == "philox" and noise is True and not progress and not inputs:
            made = self._repeated(n, seed, start, format, out)
            if made is not None:
                return image_formats.to_pil(made) if pictures else made
        image_formats.check_format(format, "pil")
        n = arguments.whole("n", n)
        sampling = Sampling.of(seed, start, truncation, rng)
        if batch_size is not None:
            batch_size = arguments.whole("batch_size", batch_size)
        sides = None if size is None else arguments.size("size", size)
        self._session.require(n, format, sides, out)
        if latents is not None:
            inputs = self._with_latents(inputs, latents, sampling, size)
        named, sampling = self._inputs.named(inputs, n, sampling, labels)
        if latents is not None and sampling.truncation is not None:
            raise ArgumentError("truncation", "latents beside it", "one of the two")
        given = named if noise else self._silenced(named, n)
        if size is not None:
            port, places = self._field(size, named)
            given[port.name] = self._inputs.sample(port, n, 0, sampling)
            if batch_size is None and self._session.model.output.apart:
                # What suits the caches is known for a field of one place.
                batch_size = max(1, self._session.automatic_batch // places)
        every = self._inputs.make(n, sampling, labels, given, lazily=self._session.draws)
        drawn = Sampling(sampling.seed, sampling.start)

        def noise_of(first: int, rows: int) -> Noise:
            return self._noise(drawn.rows(first, rows), rows) if noise else no_noise

        images = self._session.images(every, n, batch_size, format, out, progress, noise_of)
        return image_formats.to_pil(images) if pictures else images

    @_on_its_threads
    def prepare(
        self,
        n: int,
        *,
        labels: Any = None,
        truncation: float | None = None,
        rng: str = "philox",
        format: str = "float32",
        out: Tensor | None = None,
        noise: bool = True,
        **inputs: Any,
    ) -> Prepared:
        """What `generate(n)` does, made ready once, for whoever makes images frame by frame.

            frame = g.prepare(1, format="uint8")
            frame(seed=7, start=3)          # as g.generate(1, seed=7, start=3, format="uint8")
            frame()                         # sample 4, into the same frame.images

        A call plans nothing, allocates nothing and, on a GPU, does not wait (`Prepared`). All n
        images are one run.

        Args:
            n: images of each call.
            out: where they go each time: a tensor as `generate` takes it; None for a new one.
            labels, truncation, rng, format, noise, inputs: as in `generate`.

        Raises:
            ArgumentError: as `generate`; or the model does not run at this batch.
        """
        made = self._prepare(n, labels, truncation, rng, format, out, noise, inputs)
        made.make_ready()
        return made

    def _prepare(
        self, n: int, labels: Any, truncation: float | None, rng: str, format: str,
        out: Tensor | None, noise: bool, inputs: Mapping[str, Any],
    ) -> Prepared:  # fmt: skip
        image_formats.check_format(format)
        # What is made knows the parts of this, and not this, which keeps some: it is to be gone as
        # soon as nobody has it, memory and open file with it.
        n, session, maker = arguments.whole("n", n), self._session, self._inputs
        shared_draws = self._signature.shared_draws
        sampling = Sampling.of(0, 0, truncation, rng)
        session.require(n, format, None, out)
        named, sampling = maker.named(inputs, n, sampling, labels)
        given = named if noise else self._silenced(named, n)

        def make(seed: int, start: int) -> dict[str, Any]:
            samples = replace(sampling, seed=seed, start=start)
            return maker.make(n, samples, labels, given, lazily=True)

        def noise_of(seed: int, start: int) -> Noise:
            return seeded_noise(Sampling(seed, start), n, shared_draws) if noise else no_noise

        every = make(0, 0)
        changing = {name for name, value in every.items() if isinstance(value, Draw)}
        label = self._signature.label
        if label is not None and label.name not in given and labels in (None, "random"):
            changing.add(label.name)
        drawn = noise_of if draws_noise(session.model.file.model) else None
        run, images = session.prepare(every, n, format, out)

        def again(inputs: Mapping[str, Any], noise: Noise) -> None:
            session.mend(inputs, n, format, images, noise)

        return Prepared(run, images, make, again, frozenset(changing), drawn, self.threads)

    def _noise(self, drawn: Sampling, rows: int) -> Noise:
        """What the graph itself draws for these samples."""
        return seeded_noise(drawn, rows, self._signature.shared_draws)

    def _repeated(
        self, n: Any, seed: Any, start: Any, format: str, out: Tensor | None
    ) -> Tensor | None:
        """A few images of a seed, by a run that the first call made ready; None: another way.

        What an argument lacks, the other way says.
        """
        if type(n) is not int or type(seed) is not int or type(start) is not int:
            return None
        if not (0 <= seed <= arguments.LARGEST_SEED and 0 <= start <= arguments.LARGEST_SEED - n):
            return None
        run = self._run_of(n, format)
        if run is None:
            return None
        try:
            return run.copied(seed, start, out)
        except torch.cuda.OutOfMemoryError:
            self._runs[n, format] = None  # the other way splits what does not fit
            return None

    def _run_of(self, n: int, format: str) -> Prepared | None:
        """The run of n images of a seed; None where another way is to be taken."""
        key = (n, format)
        if key not in self._runs:
            made = self._new_run(n, format)
            with self._lock:
                while len(self._runs) >= _MOST_RUNS:
                    self._runs.pop(next(iter(self._runs)))
                self._runs[key] = made
        return self._runs.get(key)

    def _new_run(self, n: int, format: str) -> Prepared | None:
        """A run of n images that are not worth splitting; None where they are, or can't be made."""
        session = self._session
        try:
            most = session.automatic_batch
            if not 1 <= n <= most or session.signature.frozen_batch is not None:
                return None
            if self.device.type == "cuda" and filled(n, most) != n:
                return None  # several sizes share one plan and graph there
            made = self._prepare(n, None, None, "philox", format, None, True, {})
        except (FastganError, torch.cuda.OutOfMemoryError):
            return None
        size = made.images.numel() * made.images.element_size()
        return made if size <= _MOST_BYTES_OF_A_RUN else None

    def batches(
        self,
        n: int,
        *,
        batch_size: int | None = None,
        seed: int | Sequence[int] = 0,
        start: int | Sequence[int] = 0,
        labels: Any = None,
        **options: Any,
    ) -> Iterator[Tensor]:
        """What `generate(n)` makes, piece by piece: for more images than memory holds.

            for images in g.batches(10_000_000, seed=7, format="uint8"):
                write(images)

        Args:
            batch_size: images in each piece but the last, which may have fewer; None takes what
                suits the device's caches, or all n where samples may meet in the model.
            n, seed, start, labels: as in `generate`.
            options: further arguments of `generate`, the same for every piece.

        Raises:
            ArgumentError: as `generate`, with the first piece.
        """
        n = arguments.whole("n", n)
        if batch_size is None:
            session = self._session
            batch_size = session.automatic_batch if session.model.output.apart else n
        size = arguments.whole("batch_size", batch_size)
        each = {"seed": seed, "start": start, "labels": labels}
        several = {name: v for name, v in each.items() if arguments.is_several(v)}
        for name, values in several.items():
            if len(values) != n:
                raise ArgumentError(name, f"{len(values)} of them", f"one for each of {n} images")
        follow = not several.keys() & {"seed", "start"}
        sample = arguments.whole("start", start, 0) if follow else 0

        def pieces() -> Iterator[Tensor]:
            for first in range(0, n, size):
                rows = min(size, n - first)
                own = {name: values[first : first + rows] for name, values in several.items()}
                if follow:
                    own["start"] = sample + first
                yield self.generate(rows, batch_size=size, **{**each, **own}, **options)

        return pieces()

    def _silenced(self, named: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
        """The inputs that are named, and zeros for those that are noise."""
        if self._session.owns_noise:
            found = f"a graph that draws noise, on {self.backend}"
            raise ArgumentError("noise", found, "noise=True, or another backend")
        return {**self._inputs.silence(n), **named}

    @property
    def _latent(self) -> Input:
        if self._signature.latent is None:
            raise ArgumentError("latents", "a model without a latent input", "one that has it")
        return self._signature.latent

    def _with_latents(
        self, inputs: Mapping[str, Any], latents: Any, sampling: Sampling, size: Any
    ) -> dict[str, Any]:
        """The inputs by name, with the latents that were given instead of a seed."""
        latent = self._latent
        beside = {
            "seed": sampling.seed != 0,
            "start": sampling.start != 0,
            "size": size is not None,
            latent.name: inputs.get(latent.name) is not None,
        }
        for name, there in beside.items():
            if there:
                raise ArgumentError(name, "latents beside it", "one of the two")
        return {**inputs, latent.name: latents}

    @_on_its_threads
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
        session, deadline = self._session, time.monotonic() + seconds
        listed = arguments.several("sizes", sizes, "a list of batch sizes")
        wanted = listed or [self._signature.frozen_batch or session.automatic_batch]
        for size in sorted({arguments.whole("sizes", size) for size in wanted}, reverse=True):
            for format in formats:
                image_formats.check_format(format)
                image = image_formats.of(session.model.output, format).asked
                if tune:
                    session.tune(size, image, deadline - time.monotonic())
                session.warm_up(size, image, self._generated(size))
                run = self._run_of(size, format)
                if run is not None:
                    run.make_ready()

    def _generated(self, n: int) -> dict[str, Any] | None:
        """Inputs as `generate` makes them; None for a model that needs an image."""
        if not self._session.draws or self._signature.needed:
            return None
        return self._inputs.make(n, lazily=True)

    @_on_its_threads
    def latents(
        self,
        n: int,
        *,
        seed: int | Sequence[int] = 0,
        start: int | Sequence[int] = 0,
        truncation: float | None = None,
        rng: str = "philox",
    ) -> Tensor:
        """The latents that `generate` uses: float32 [n, *shape of the latent input].

        Raises:
            ArgumentError: an argument is out of range, or the model has no latent input.
        """
        latent, n = self._latent, arguments.whole("n", n)
        _, sampling = self._inputs.named({}, n, Sampling.of(seed, start, truncation, rng))
        return self._inputs.sample(latent, n, 0, sampling)

    @_on_its_threads
    def run(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Run the model on the inputs given: arrays or tensors by name in, tensors out.

        A model whose exporter fixed the batch runs as often as their rows need. Axes are in the
        file's own order: images of one that is channels last are [n, H, W, C].

        Raises:
            ArgumentError: an input is missing, unknown, or of a shape that the model can't take.
        """
        kind = self._inputs.kind(inputs)
        last, executable = self._last_run
        if kind is not None and kind == last:
            results = executable(inputs)
        else:
            tensors, rows = self._inputs.given(inputs)
            results = self._session.outputs(tensors, rows)
            if self._inputs.passes(kind):
                straight = self._session.straight(tensors, rows)
                if straight is not None:
                    self._last_run = kind, straight
        for name, t in results.items():
            if t.dtype is not torch.float32 and t.is_floating_point():
                results[name] = t.float()
        for output in self._outputs_last:
            results[output] = results[output].permute(0, 2, 3, 1)
        for name, t in results.items():
            if not t.is_contiguous():
                results[name] = t.contiguous()
        return results

    @_on_its_threads
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
        start: int | Sequence[int] = 0,
        labels: Any = None,
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
        asked = (mask, style, tile, tile_pad, fill, batch_size, labels, truncation, out)
        unasked = all(value is None for value in asked) and alpha == "keep" and not inputs
        unasked = unasked and type(seed) is type(start) is int and seed == start == 0
        unasked = unasked and rng == "philox" and progress is False
        kind = self._kind_of(images, format) if unasked else None
        together = None if kind is None else self._straight.get(kind)
        model = self._image_model()
        if together is not None:
            batch = {model.port.name: images}
            return self._session.images(batch, len(images), together, format, None, False)
        options = image_to_image.Options(
            format, tile, tile_pad, alpha, fill, batch_size, out, progress
        )
        guides, given = model.arguments({"mask": mask, "style": style, **inputs})
        sampling = Sampling.of(seed, start, truncation, rng)

        def rows(n: int) -> dict[str, Tensor]:
            named, left = self._inputs.named(given, n, sampling, labels)
            known = dict.fromkeys((model.port.name, *guides), torch.empty(0)) | named
            every = self._inputs.make(n, left, labels, known)
            return {name: every[name] for name in every.keys() - {model.port.name, *guides}}

        def run(batch: dict[str, Tensor], n: int, batch_size: int, format: str) -> Tensor:
            return self._session.images(batch, n, batch_size, format, None, False)

        made = image_to_image.apply(model, run, images, guides, rows, options)
        if kind is not None:
            together = image_to_image.straight(model, images, options)
            if together is not None:
                with self._lock:
                    while len(self._straight) >= _MOST_KINDS:
                        self._straight.pop(next(iter(self._straight)))
                    self._straight[kind] = together
        return made

    @staticmethod
    def _kind_of(images: Any, format: Any) -> tuple[Any, ...] | None:
        """All that decides on how plain images go through; None where they are none."""
        kind = kind_of(images)
        return None if kind is None or type(format) is not str else (*kind, format)

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
        size: tuple[int, ...] | None = None,
        **inputs: Any,
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
            size: (height, width) of frames that will be fed, or (height, width, channels) where
                these are not the model's; or of those to be made, as in `generate`, by a model
                whose latent is a field.
            inputs: any other input by its name, as in `generate`; for image-to-image models any
                argument of `Generator.__call__`.

        Raises:
            ArgumentError: an argument is out of range or does not fit the model.
            BudgetError: a frame takes longer than `budget_ms`.
        """
        from fastgan.realtime.stream.options import StreamOptions

        return self._stream(
            StreamOptions(
                fps=fps, batch=batch, latents=latents, labels=labels, format=format,
                buffers=buffers, similarity=similarity, budget_ms=budget_ms, policy=policy,
                truncation=truncation, seed=seed, speed=speed, start=start, frames=frames,
                source=source, size=size, inputs=inputs,
            )
        )  # fmt: skip

    @_on_its_threads
    def _stream(self, options: StreamOptions) -> Stream:
        from fastgan.realtime.stream.opening import open_stream

        if options.size is not None and self._signature.image is None:
            named, _ = self._inputs.named(options.inputs, options.batch, Sampling())
            return self._of_size(options.size, named)._stream(replace(options, size=None))

        def make(*positional: Any, **named: Any) -> dict[str, Any]:
            with threads.limited(self.threads):
                return self._inputs.make(*positional, **named)

        def prepare(inputs: dict[str, Tensor], n: int, format: str, out: Tensor | None) -> Prepared:
            run, images = self._session.prepare(inputs, n, format, out)

            def again(inputs: Mapping[str, Any], noise: Noise) -> None:
                self._session.mend(inputs, n, format, images, noise)

            return Prepared(run, images, lambda seed, start: inputs, again, threads=self.threads)

        return open_stream(self, make, prepare, options)

    def _of_size(self, size: tuple[int, ...], named: Mapping[str, Tensor]) -> Generator:
        """The same, with a latent field of the one size that makes images of this one."""
        port, _ = self._field(size, named)
        inputs = tuple(port if i.name == port.name else i for i in self._signature.inputs)
        fixed = replace(self._signature, inputs=inputs)
        return self.restored(fixed, self._refusals)

    def _field(self, size: Any, named: Mapping[str, Tensor]) -> tuple[Input, int]:
        """The latent that makes images of this size, and its places: see `sized`."""
        if self._session.sizes:  # which its latents are of
            port = self._session.field(arguments.size("size", size))
            if port is None:
                needed = " or ".join(str(each) for each in self._session.sizes)
                raise ArgumentError("size", f"{size}", needed, "a bundle is ready for these alone")
            return port, math.prod(port.sample_shape[1:])
        return sized(self._signature, size, self._image_of_field(named))

    def _image_of_field(
        self, named: Mapping[str, Tensor]
    ) -> Callable[[tuple[int, int]], tuple[int, int]]:
        """Height and width of the image that a latent of a height and width makes.

        Args:
            named: inputs that were given, of any number of samples.
        """
        latent = self._signature.latent
        rows = {port.name for port in self._signature.inputs if self._signature.has_rows(port)}
        first = {name: t[:1] if name in rows else t for name, t in named.items()}

        def image(size: tuple[int, int]) -> tuple[int, int]:
            assert latent is not None
            port = replace(latent, shape=(*latent.shape[:2], *size))
            given = {**first, port.name: self._inputs.sample(port, 1, 0, Sampling())}
            made = self.run(self._inputs.make(1, known=given))
            height, width = made[self._session.model.output.name].shape[-2:]
            return height, width

        return image

    def _image_model(self) -> ImageModel:
        """What this model asks of images, made on first use.

        Raises:
            ArgumentError: it takes none.
        """
        with self._lock:
            if self._images is None:
                self._images = ImageModel(self._session)
            return self._images
