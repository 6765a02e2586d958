"""What makes the frames of a stream: a walk through latent space, or images that are fed in."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fastgan.engine.prepared import Prepared
from fastgan.errors import ArgumentError
from fastgan.host import forks
from fastgan.inputs.make import Inputs
from fastgan.latents.sampling import Sampling
from fastgan.realtime.stream.controls import Controls, Settings
from fastgan.realtime.stream.options import StreamOptions
from fastgan.realtime.walks.space import Space
from fastgan.realtime.walks.walks import Walk, walk_of

if TYPE_CHECKING:
    from fastgan.realtime.source import Source


class Renderer(Protocol):
    """Makes frames one after the other, on the producer's thread."""

    controls: Controls

    def example(self) -> Tensor:
        """A frame, for its size; made as all others will be, so that everything is prepared."""

    def ready(self) -> bool:
        """Whether there is something to do: not paused, and not waiting for an image."""

    def advance(self, index: int) -> tuple[float, bool, int] | None:
        """Set up frame `index`; None at the end.

        Returns:
            Its position, whether it is new, and when its image came in (`monotonic_ns`), or 0.
        """

    def render(self, out: Tensor) -> None:
        """Make the frame that was set up."""

    def mend(self) -> None:
        """The frame's work is done: make it again, exactly, where it holds a NaN or Inf."""

    def close(self) -> None:
        """Let go of whoever waits to feed it."""


#: `prepare(inputs, n, format, out)`: a run of the model on tensors that stay where they are.
Prepare = Callable[[dict[str, Any], int, str, "Tensor | None"], Prepared]


class LatentRenderer:
    """Frames from a walk.

    Args:
        generator: of a model with a latent.
        make: `make(given)`, every input of a frame: those given, the others from the seed.
        prepare: makes runs of it, one for each buffer that frames are written to.
        controls: where the walk, the truncation and the classes come from.
        options: the format, and when a latent is too much like the last one to be shown.
    """

    def __init__(
        self,
        generator: Source,
        make: Callable[[dict[str, Tensor]], dict[str, Any]],
        prepare: Prepare,
        controls: Controls,
        options: StreamOptions,
    ) -> None:
        signature, settings = generator.signature, controls.settings
        latent, label = signature.latent, signature.label
        assert latent is not None
        assert settings.space is not None
        self.controls = controls
        self._prepare, self._format = prepare, options.format
        self._similarity = options.similarity
        self._batch, self._latent = settings.batch, latent.name
        self._label = None if label is None else label.name
        self._z = torch.zeros((settings.batch, *settings.space.shape), device=generator.device)
        self._inputs = make({latent.name: self._z})
        self._shown: tuple[Tensor, Settings] | None = None
        self._version = -1
        self._runs: dict[int, Prepared] = {}  # by the address of their images
        self._last: Prepared | None = None

    def example(self) -> Tensor:
        """See `Renderer`."""
        settings = self.controls.settings
        self._set(self._at(settings, settings.position(settings.base[0])), settings)
        made = self._prepare(self._inputs, self._batch, self._format, None)
        return made(start=0)

    def ready(self) -> bool:
        """See `Renderer`."""
        settings = self.controls.settings
        return not settings.paused or settings.version != self._version

    def advance(self, index: int) -> tuple[float, bool, int] | None:
        """See `Renderer`."""
        settings, position = self.controls.advance(index)
        latents = self._at(settings, position)
        self._version = settings.version
        if self._similarity is not None and self._shown is not None:
            last, with_settings = self._shown
            if with_settings.label is settings.label and _cosine(latents, last) >= self._similarity:
                return position, False, 0
        if self._similarity is not None:
            self._shown = (latents, settings)
        self._set(latents, settings)
        return position, True, 0

    def render(self, out: Tensor) -> None:
        """See `Renderer`."""
        address = out.data_ptr()
        run = self._last = self._runs.get(address)
        if run is None:
            run = self._prepare(self._inputs, self._batch, self._format, out)
            self._last = self._runs[address] = run
        run(start=0)

    def mend(self) -> None:
        """See `Renderer`."""
        if self._last is not None:
            self._last.mend()

    def close(self) -> None:
        """See `Renderer`."""

    def _at(self, settings: Settings, position: float) -> Tensor:
        assert settings.walk is not None
        assert settings.space is not None
        return settings.walk.at(position, 1, settings.space)[0]

    def _set(self, latents: Tensor, settings: Settings) -> None:
        self._z.copy_(latents)
        if settings.label is not None and self._label is not None:
            self._inputs[self._label].copy_(settings.label)


class _Fed(NamedTuple):
    """A frame that was put in: which one, when, and what comes with it."""

    number: int
    arrived: int
    image: Tensor
    arguments: Mapping[str, Any]


class ImageRenderer:
    """Frames from frames: a bounded queue in, the model's results out.

    Args:
        run: `run(image, arguments, out)`, the model on one frame.
        shape: height, width and channels of the frames.
        options: how many may wait in the queue; whether that, when full, lets go of its oldest, or
            makes whoever feeds it wait; and when a frame is too much like the last one to be run.
    """

    def __init__(
        self,
        run: Callable[[Any, Mapping[str, Any], Tensor | None], Tensor],
        controls: Controls,
        shape: tuple[int, int, int],
        options: StreamOptions,
    ) -> None:
        self.controls = controls
        self._run, self._shape = run, shape
        self._waiting, self._newest = options.buffers, options.newest
        self._similarity = options.similarity
        self._queue: deque[_Fed] = deque()
        self._room = threading.Condition(forks.renewed(threading.RLock()))
        self._ended = self._closed = False
        self._fed = _Fed(0, 0, torch.zeros(self._shape, dtype=torch.uint8), {})
        self._shown: _Fed | None = None
        self.error: BaseException | None = None
        self.fed = self.unused = 0

    def feed(
        self, image: Any, timeout: float | None, arguments: Mapping[str, Any] | None = None
    ) -> bool:
        """Put a frame into the queue; false if there was no room within `timeout` seconds."""
        tensor = image if isinstance(image, Tensor) else torch.as_tensor(image)
        if tensor.dtype != torch.uint8 or tuple(tensor.shape) != self._shape:
            found = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ArgumentError("frame", found, f"torch.uint8 {self._shape}, as the stream began")
        tensor = tensor.clone()  # a camera writes its next frame into the same memory
        with self._room:
            if not self._newest and not self._room.wait_for(
                lambda: len(self._queue) < self._waiting or self._closed or self._ended, timeout
            ):
                return False
            if self._closed or self._ended:
                needed = "a stream that is open"
                raise ArgumentError("feed", "a stream that was closed or ended", needed)
            if len(self._queue) >= self._waiting:
                self._queue.popleft()
                self.unused += 1
            self._queue.append(_Fed(self.fed, monotonic_ns(), tensor, arguments or {}))
            self.fed += 1
        self.controls.wake()
        return True

    def end(self, error: BaseException | None = None) -> None:
        """No more frames will be fed."""
        with self._room:
            self._ended, self.error = True, error
            self._room.notify_all()
        self.controls.wake()

    def pull(self, source: Iterable[Any]) -> None:
        """Feed all frames of a source, on a thread of its own."""
        try:
            for image in source:
                if self._closed:
                    return
                self.feed(image, None)
        except BaseException as error:
            if not self._closed:
                self.end(error)
        else:
            self.end()

    def example(self) -> Tensor:
        """See `Renderer`."""
        return self._run(self._fed.image, self._fed.arguments, None)

    def ready(self) -> bool:
        """See `Renderer`."""
        return self._ended or (bool(self._queue) and not self.controls.settings.paused)

    def advance(self, index: int) -> tuple[float, bool, int] | None:
        """See `Renderer`."""
        with self._room:
            if not self._queue:
                if self.error is not None:
                    raise self.error
                return None
            fed = self._fed = self._queue.popleft()
            self._room.notify_all()
        if self._similarity is not None:
            if self._shown is not None and self._alike(fed, self._shown, self._similarity):
                return float(fed.number), False, fed.arrived
            self._shown = fed
        return float(fed.number), True, fed.arrived

    def _alike(self, a: _Fed, b: _Fed, least: float) -> bool:
        same = a.arguments.keys() == b.arguments.keys() and all(
            value is b.arguments[name] for name, value in a.arguments.items()
        )
        return same and _cosine(a.image, b.image) >= least

    def render(self, out: Tensor) -> None:
        """See `Renderer`."""
        self._run(self._fed.image, self._fed.arguments, out)

    def mend(self) -> None:
        """See `Renderer`: the call that made it has."""

    def close(self) -> None:
        """See `Renderer`."""
        with self._room:
            self._closed = True
            self._room.notify_all()


def latent_renderer(
    generator: Source, make: Callable[..., dict[str, Any]], prepare: Prepare, options: StreamOptions
) -> LatentRenderer:
    """The renderer of a walk, everything checked.

    Args:
        make: as `Inputs.make`.
    """
    signature, batch, labels = generator.signature, options.batch, options.labels
    assert signature.latent is not None
    sampling = Sampling(options.seed, truncation=options.truncation)
    inputs = Inputs(signature, generator.device)
    given, sampling = inputs.named(options.inputs, batch, sampling, labels)
    space = Space.of(signature.latent, batch, sampling.truncation)
    walk: Walk = walk_of(options.latents, options.seed)
    walk.at(0, 1, space)
    base = (options.start, options.start * options.speed)
    controls = Controls(Settings(walk, space, batch, speed=options.speed, base=base), signature)
    if labels is not None and labels != "random":
        given[signature.label.name if signature.label else ""] = controls.label(labels)

    def everything(latent: dict[str, Tensor]) -> dict[str, Any]:
        every = make(batch, sampling.whole, known={**latent, **given})
        return {
            name: tensor.to(generator.device).clone() if name not in latent else tensor
            for name, tensor in every.items()
        }

    return LatentRenderer(generator, everything, prepare, controls, options)


def _cosine(a: Tensor, b: Tensor) -> float:
    x, y = a.flatten().double(), b.flatten().double()
    length = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / length if length else 1.0
