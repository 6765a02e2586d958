"""What a backend is: Backend, the Session that it opens a model in, and the Executables of that.

A backend is a subclass of each of the three, in `engine/<name>/backend.py`, and a line in
`engine.TABLE`. What it has to say of itself, and all that is ever asked of it, stands here.
"""

from __future__ import annotations

import logging
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastgan.engine import cuda_settings
from fastgan.engine.prepared import Bound, Run, storing
from fastgan.engine.runs import Runs
from fastgan.errors import BackendError, LimitError, Refusal, UnsupportedError
from fastgan.host import forks
from fastgan.images.format import ImageFormat, as_asked
from fastgan.model.opened import Model
from fastgan.model.signature import Input, Shapes, Signature
from fastgan.plan import Plan
from fastgan.plan.batch import example

log = logging.getLogger("fastgan")

#: Executables kept, each with its weights packed: a folder of photos may come in any size.
_MOST_EXECUTABLES = 32

#: Precisions by the name that `load` takes. "tf32" is fp32 with tensor-core products (NVIDIA),
#: "fp8" is fp16 with the large layers' products in 8 bits (e4m3; NVIDIA).
PRECISIONS = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.float16,
}


#: What "fp8" runs on.
FP8_DEVICE = "an NVIDIA GPU of compute capability 8.9 or later (Ada, Hopper, Blackwell)"


def without_fp8(device: torch.device) -> str | None:
    """What was found, where a device has no products in 8 bits; else None."""
    if device.type != "cuda":
        return "fp8 on a CPU"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < (8, 9):
        return f"fp8 on a GPU of compute capability {major}.{minor}"
    return None


#: What "bf16" runs on, of NVIDIA's.
BF16_DEVICE = "a GPU of compute capability 8.0 or later (Ampere)"


def without_bf16(device: torch.device) -> str | None:
    """What was found, where a GPU would only emulate bf16; else None."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0):
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return f"bf16 on a GPU of compute capability {major}.{minor}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how a model is to run.

    Attributes:
        device: a CPU or CUDA device.
        precision: a key of `PRECISIONS`.
        threads: of the CPU, for each call; None for as many as PyTorch has.
        providers: ONNX Runtime's own, as `load` takes them; for the device's if empty.
    """

    device: torch.device
    precision: str
    threads: int | None = None
    providers: tuple[Any, ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of activations."""
        return PRECISIONS[self.precision]

    def settings(self, benchmark: bool | None = None) -> AbstractContextManager[None]:
        """torch's settings while library ops run: on a GPU tf32 only where it was asked for.

        Args:
            benchmark: whether cuDNN is to measure its algorithms; None leaves that alone.
        """
        if self.device.type == "cuda":
            return cuda_settings.library(self.precision, benchmark)
        return nullcontext()

    def __str__(self) -> str:
        return f"{self.device} in {self.precision}"


class Executable(ABC):
    """A model ready to run for one set of input shapes.

    Attributes:
        plan: what it runs, where fastgan planned it itself.
        holds: bytes that a run of it holds, once it has been asked.
        records: whether operators of torch's compute, which would keep what a gradient needs.
    """

    plan: Plan | None = None
    holds: int | None = None
    records: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, on the target's device, in any floating-point type and layout."""

    def images(
        self, inputs: Mapping[str, Any], image: ImageFormat, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """One output as images, and whether it holds a NaN or Inf.

        Args:
            inputs: tensors by name; where the session says that it `draws`, also `Draw`s.
            image: which output, in which format.
            out: where the images will be put next: it may be written, and is then returned.

        Returns:
            The images: uint8 NHWC if that was asked for and a kernel wrote it, or the model's own
            output is uint8 (`as_asked`); else NCHW in any type and layout. And a boolean on the
            device, or None where the computing precision is the model's own and needs no guard: so
            it is here.
        """
        return as_asked(self(inputs)[image.name], image), None

    def prepare(self, inputs: Mapping[str, Any], image: ImageFormat, out: Tensor) -> Run:
        """A run that is made ready once, for images that go to the same place each time.

        Args:
            inputs: as in `images`; tensors are read where they lie, at each run.
            image: which output, in which format.
            out: as `generate` returns images, of any strides.
        """
        return Run(inputs, lambda tensors: self.bound(tensors, image, out), out.device)

    def bound(self, inputs: Mapping[str, Tensor], image: ImageFormat, out: Tensor) -> Bound:
        """What runs on these tensors and writes these images."""
        return storing(lambda asked, place: self.images(inputs, asked, place), image, out)

    @abstractmethod
    def first_nonfinite(self, inputs: Mapping[str, Tensor]) -> str | None:
        """The name of the first node that makes a NaN or Inf of these inputs, or None."""

    @property
    def best_batch(self) -> int | None:
        """The batch size that was measured to take the least time per image, if any was."""
        return None

    def warm_up(self, image: ImageFormat | None, inputs: Mapping[str, Any] | None = None) -> None:
        """Do now what the first run to these images would; inputs such as there will be."""
        return  # on most there is no such step

    def tune(self, image: ImageFormat | None, *, seconds: float = math.inf) -> int:
        """Measure which way is fastest for each step; how many were measured."""
        return 0


class Session(Runs):
    """A model opened on a backend and a target: one executable for each set of input shapes.

    They are made on first use and kept; `images` and `outputs` run them (`runs`). Calls from
    several threads are safe.

    Args:
        backend, model, target: what opened what, for where; the three are kept.
        shared: what all sessions on a model share, from the first of them; None makes it.

    Attributes:
        plans: whether fastgan plans what it runs; else a runtime of its own does.
        owns_batch: whether it holds the file to the batch that this declares.
        takes_draws: whether its executables take `Draw`s; their images are then tensors of their
            own.
        sizes: (height, width) of the images that it was made for, the first in use, of a model
            that takes others too; none where it is not made for some alone.
        passed_over: why backends that are made for the device did not take the model before it.
    """

    plans: ClassVar[bool] = True
    owns_batch: ClassVar[bool] = False
    takes_draws: ClassVar[bool] = False
    sizes: tuple[tuple[int, int], ...] = ()

    def __init__(self, backend: Backend, model: Model, target: Target, shared: Any = None) -> None:
        super().__init__(model, target, self.takes_draws)
        self.backend = backend
        self.shared = self.share() if shared is None else shared
        self.passed_over: tuple[Refusal, ...] = ()
        self._executables: dict[tuple[str, tuple[tuple[str, tuple[int, ...]], ...]], Executable]
        self._executables = {}
        self._last: tuple[Shapes, Executable | None] = ({}, None)
        self._lock = forks.renewed(threading.Lock())

    # What a backend says ------------------------------------------------------------------------

    @abstractmethod
    def compile(self, shapes: Shapes, target: Target) -> Executable:
        """Make the model ready for these input shapes; for this target, or exact in fp32 there.

        Raises:
            UnsupportedError, BackendError: the backend can't run the model so.
        """

    def share(self) -> Any:
        """What sessions on one model can have in common: memory, packed weights, a runtime."""
        return None

    @property
    def owns_noise(self) -> bool:
        """Whether the noise inside the graph is drawn by the runtime, not from the seed."""
        return False

    @property
    def fallbacks(self) -> tuple[Refusal, ...]:
        """What does not run as it was meant to for this device, and why."""
        return self.passed_over

    def insist(self) -> None:
        """Raise, from now on, what would otherwise be one of `fallbacks`."""
        return  # most have none but those of opening

    def __str__(self) -> str:
        """What runs it, for people."""
        return self.backend.name

    # What all of them do ------------------------------------------------------------------------

    def again(self, signature: Signature) -> Session:
        """Another session on the same model, with a signature of its own; each plans for itself."""
        model = replace(self.model, signature=signature)
        made = type(self)(self.backend, model, self.target, self.shared)
        made.passed_over = self.passed_over
        return made

    def executable(self, shapes: Shapes, target: Target | None = None) -> Executable:
        """The executable for these input shapes, made on first use."""
        forks.check(self.target.device)
        last_shapes, last = self._last
        if target is None and last is not None and shapes == last_shapes:
            return last
        own = target is None or target == self.target
        target = target or self.target
        key = (target.precision, tuple(sorted(shapes.items())))
        with self._lock:
            executable = self._executables.pop(key, None)
            if executable is None:
                executable = self.compile(shapes, target)
            self._executables[key] = executable  # the last used is the last to go
            while len(self._executables) > _MOST_EXECUTABLES:
                self._executables.pop(next(iter(self._executables)))
            if own:
                self._last = (dict(shapes), executable)
            return executable

    def field(self, size: tuple[int, int]) -> Input | None:
        """The latent that makes images of one of `sizes`, of a model that has such; else None."""
        return None

    def forget(self, shapes: Shapes) -> None:
        """Drop what was made for these input shapes."""
        shape = tuple(sorted(shapes.items()))
        with self._lock:
            kept = {key: made for key, made in self._executables.items() if key[1] != shape}
            self._executables, self._last = kept, ({}, None)

    def known_plan(self, shapes: Shapes) -> Plan | None:
        """The plan for these shapes, if there is one by now."""
        key = (self.target.precision, tuple(sorted(shapes.items())))
        executable = self._executables.get(key)
        return None if executable is None else executable.plan

    def warm_up(self, batch: int, image: ImageFormat, inputs: Mapping[str, Any] | None) -> None:
        """Prepare for batches of this size: compile kernels, capture graphs."""
        self.executable(self.model.shapes(batch)).warm_up(image, inputs)

    def tune(self, batch: int, image: ImageFormat, seconds: float) -> None:
        """Measure which way is fastest for each step at this batch size."""
        self.executable(self.model.shapes(batch)).tune(image, seconds=seconds)


class Backend(ABC):
    """A row of the table: opens a model in a session, or says why not.

    Attributes:
        name: what `load(backend=...)` calls it.
        devices: the types of device that it is made for, "cpu" and "cuda".
        precisions: keys of `PRECISIONS`, of which a device may have some alone (`lacks`).
        session: the class of its sessions.
    """

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]]
    precisions: ClassVar[tuple[str, ...]]
    session: ClassVar[type[Session]]

    @abstractmethod
    def lacks(self, target: Target) -> Refusal | None:
        """Why this backend runs no model at all on this target, or None."""

    def open(self, model: Model, target: Target, shared: Any = None) -> Session | Refusal:
        """The model in a session, which has an executable for one batch already; or why not.

        A batch that the exporter froze is open there, if a plan for another one can be made.

        Args:
            model, target: what is to run, and where.
            shared: what another session of this backend on the model and device shares.
        """
        refusal = self.lacks(target)
        if refusal is not None:
            return refusal
        emulated = without_bf16(target.device) if target.precision == "bf16" else None
        if emulated is not None:
            return Refusal(self.name, "precision", emulated, BF16_DEVICE)
        opened, frozen = model.opened(), model.signature.frozen_batch or 1
        if opened is not None and not self.session.owns_batch:
            session = self.session(self, opened, target, shared)
            try:
                session.executable(opened.shapes(frozen + 1))
            except (UnsupportedError, LimitError) as error:
                log.info("%s: runs at its batch of %d alone, because %s", model.name, frozen, error)
            else:
                return session
        session = self.session(self, model, target, shared)
        batch = 1 if self.session.owns_batch else example(model.file.model, model.signature)
        try:
            session.executable(model.shapes(batch))
        except (UnsupportedError, BackendError) as error:
            return Refusal(self.name, error.where, error.found, error.needed)
        return session
