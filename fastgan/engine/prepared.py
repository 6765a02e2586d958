"""A run made ready once: the same samples' worth of images again and again, at the least cost.

`generate` plans what it does at each call: arguments, inputs, batches, memory. Here all of that was
settled before, so that a call says which samples come next, launches, and returns.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan import latents
from fastgan.host import arguments, forks, results
from fastgan.host.threads import limited
from fastgan.images.format import ImageFormat
from fastgan.inputs.draws import Draw, Samples
from fastgan.ops.random import Noise, default_noise, using_noise

#: Runs on tensors that are known, into memory that is; whether that holds a NaN or Inf.
Bound = Callable[[], "Tensor | bool | None"]


class Run:
    """One run of an executable, whose inputs and result have their places.

    Args:
        inputs: by name; tensors are read where they lie, at each run, and `Draw`s are drawn for it.
        bind: makes what runs on such tensors.
        device: where they are.

    Attributes:
        tensors: the inputs that lie in memory, those that it draws itself included.
        draws: the inputs that a run makes of a seed by itself.
    """

    def __init__(
        self,
        inputs: Mapping[str, Any],
        bind: Callable[[Mapping[str, Tensor]], Bound],
        device: torch.device,
    ) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._drawing: list[tuple[Callable[..., None], Samples]] = []
        drawn = []
        for name, value in inputs.items():
            if not isinstance(value, Draw):
                self.tensors[name] = value.to(device)
                continue
            place = torch.empty(value.shape, dtype=torch.float32, device=device)
            self.tensors[name] = place
            if value.samples is not None:
                drawn.append(name)
                rows = place.view(place.shape[0], -1)
                self._drawing.append((latents.filling(value.samples.kind, rows), value.samples))
        self.draws = frozenset(drawn)
        self._run = bind(self.tensors)
        self._nonfinite: Tensor | bool | None = None
        self._on_cpu = device.type == "cpu"

    def __call__(self, seed: int, start: int, behind: Callable[[], None] | None = None) -> None:
        """Make the images of these samples; on a GPU they are there when its work is done.

        Args:
            behind: what is to be done with them before another run can be.
        """
        for fill, samples in self._drawing:
            fill(seed, start, samples.stream, samples.parameters)
        self._nonfinite = self._run()
        if behind is not None:
            behind()

    def raised(self) -> bool:
        """Whether images hold a NaN or Inf, of runs that are done and since `lower`."""
        return bool(self._nonfinite)

    def lower(self) -> None:
        """Forget what was `raised`."""
        self._nonfinite = None

    def make_ready(self) -> None:
        """Do now what the first run would."""
        return  # on most there is no such step

    @property
    def repeats(self) -> bool:
        """Whether a run here and now costs less than `Executable.images`."""
        return self._on_cpu

    def turn(self) -> contextlib.AbstractContextManager[Any]:
        """Within, its tensors may be written, and its images read, in the order of its runs."""
        return torch.inference_mode()

    def settle(self) -> None:
        """Wait until it is known what is `raised`."""
        return  # most find out by running


class Prepared:
    """`n` images of a model, made again at each call; by `Generator.prepare`.

        frame = g.prepare(1, format="uint8")
        frame(seed=7)                    # images of sample 0 of seed 7, in frame.images
        frame()                          # sample 1
        frame(start=90)                  # sample 90

    Nothing is planned, allocated or asked of the device in a call, and on a GPU it does not wait:
    the images are there when the work of the current stream is done. Whoever has waited for that,
    and computes in 16 or 8 bits, calls `mend`. Calls from several threads take turns, and
    all write to the same memory.

    Attributes:
        images: where they are written: [n, C, H, W] or [n, H, W, C], as `generate` returns them.
    """

    def __init__(
        self,
        run: Run,
        images: Tensor,
        make: Callable[[int, int], Mapping[str, Any]],
        again: Callable[[Mapping[str, Any], Noise], None],
        changing: frozenset[str] = frozenset(),
        noise: Callable[[int, int], Noise] | None = None,
        threads: int | None = None,
    ) -> None:
        """For `Generator.prepare`.

        Args:
            run: what a call runs.
            images: where it writes.
            make: every input, of samples `start`, start + 1, ... of a seed.
            again: makes the images once more, exactly, of such inputs and noise.
            changing: the inputs that differ from call to call, and that a run does not draw.
            noise: what the graph itself draws of such samples, if it draws any.
            threads: how many CPU threads a call computes with; None for as many as PyTorch has.
        """
        self.images = images
        self._array = images.detach().numpy() if images.device.type == "cpu" else None
        self._run, self._make, self._again, self._noise = run, make, again, noise
        self._changing = changing - run.draws
        self._threads = threads
        self._plain = not self._changing and noise is None and threads is None
        self._rows = images.shape[0]
        self._last = (1 << 64) - self._rows
        self._seed = self._start = self._next = 0
        self._lock = forks.renewed(threading.RLock())

    def __call__(self, seed: int | None = None, start: int | None = None) -> Tensor:
        """Make the images of samples start, start + 1, ... of a seed.

        Args:
            seed: 0 to 2**64 - 1; None is that of the last call, at first 0.
            start: None is where the last call ended, and the beginning of another seed.

        Returns:
            `images`, which the next call overwrites.

        Raises:
            ArgumentError: a seed or start is out of range, or the samples of the seed are used up.
            BackendError: the GPU has failed.
        """
        with self._lock:
            if seed is None:
                seed = self._seed
                start = self._next if start is None else start
            elif start is None:
                start = 0
            if (
                type(seed) is not int
                or type(start) is not int
                or not (0 <= seed <= arguments.LARGEST_SEED and 0 <= start <= self._last)
            ):
                seed = arguments.whole("seed", seed, 0, arguments.LARGEST_SEED)
                start = arguments.whole("start", start, 0, self._last)
            self._make_of(seed, start)
            return self.images

    def _make_of(self, seed: int, start: int, behind: Callable[[], None] | None = None) -> None:
        """Make the images of samples that there are; `behind` is `Run`'s."""
        if self._plain:
            self._run(seed, start, behind)
        else:
            self._run_changed(seed, start, behind)
        self._seed, self._start, self._next = seed, start, start + self._rows

    def make_ready(self) -> None:
        """Do now what the first call would: compile kernels, capture a graph."""
        with self._lock, limited(self._threads):
            self._run.make_ready()

    def _run_changed(self, seed: int, start: int, behind: Callable[[], None] | None) -> None:
        """A run for which more is to be done than to say which samples it is of."""
        with limited(self._threads), self._run.turn():
            if self._changing:
                every = self._make(seed, start)
                for name in self._changing:
                    value, place = every[name], self._run.tensors[name]
                    value.into(place) if isinstance(value, Draw) else place.copy_(value)
            if self._noise is None:
                self._run(seed, start, behind)
                return
            with using_noise(self._noise(seed, start)):
                self._run(seed, start, behind)

    def mend(self) -> bool:
        """Make the last call's images again in fp32, with a warning, if they hold a NaN or Inf.

        To be called when the GPU's work on them is done: it reads a word of the host's memory, to
        which the kernels write, and does not wait by itself. In fp32 and tf32 nothing is ever made
        again.

        Returns:
            Whether it did.
        """
        with self._lock:
            if not self._run.raised():
                return False
            self._run.lower()
            seed, start = self._seed, self._start
            noise = default_noise if self._noise is None else self._noise(seed, start)
            with limited(self._threads):
                self._again(self._make(seed, start), noise)
            return True

    def copied(self, seed: int, start: int, out: Tensor | None) -> Tensor | None:
        """A call's images, mended, in memory of whoever asks; what `generate` returns.

        Args:
            out: where they go; None for a new tensor.

        Returns:
            None where another way is to be taken: another thread is in a call, or `out` does not
            fit.
        """
        images, run = self.images, self._run
        if out is not None and not (
            isinstance(out, Tensor)
            and (out.shape, out.dtype, out.device) == (images.shape, images.dtype, images.device)
            and out.is_contiguous()
        ):
            return None
        if not run.repeats or not self._lock.acquire(blocking=False):
            return None
        try:
            copies = [] if out is None else [out]

            def copy() -> None:
                if not copies:
                    with torch.inference_mode():  # as all ways to make images do
                        copies.append(results.empty(images.shape, images.dtype, images.device))
                self._copy(copies[0])

            self._make_of(seed, start, copy)
            run.settle()
            if self.mend():
                with run.turn():
                    self._copy(copies[0])
            return copies[0]
        finally:
            self._lock.release()

    def _copy(self, to: Tensor) -> None:
        """The images into a tensor of their shape and type.

        On a CPU without torch's threads: they spin for a millisecond after a copy of many elements,
        on the cores that the next run needs.
        """
        if self._array is None:
            with torch.inference_mode():
                to.copy_(self.images)
        else:
            np.copyto(to.detach().numpy() if to.requires_grad else to.numpy(), self._array)

    def __repr__(self) -> str:
        return f"Prepared({tuple(self.images.shape)}, seed={self._seed}, start={self._next})"


def drawn(inputs: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """The inputs, with those that are to be drawn in memory."""
    return {n: v.tensor(device) if isinstance(v, Draw) else v for n, v in inputs.items()}


def storing(
    run: Callable[[ImageFormat, Tensor | None], tuple[Tensor, Tensor | bool | None]],
    image: ImageFormat,
    out: Tensor,
) -> Bound:
    """What runs, and puts the images into their place if they are not there by then.

    Args:
        run: `Executable.images` on inputs that are known.
        image, out: the images that are wanted, and where.
    """
    from fastgan.images import pixels

    at_once = out if image.asked is image else None

    def bound() -> Tensor | bool | None:
        with torch.inference_mode():
            made, nonfinite = run(image.asked, at_once)
            if made is not out:
                pixels.store(made, image, out)
            return nonfinite

    return bound
