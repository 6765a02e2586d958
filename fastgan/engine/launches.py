"""Names on the steps of a plan while they run: for profilers, for FASTGAN_DEBUG, for measuring.

Where nobody looks, a run asks once whether somebody does, and goes on as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch.autograd import profiler

from fastgan.host import debug
from fastgan.plan import Plan, text

T = TypeVar("T")

#: Told of each step by its index, as a context manager around it.
Observer = Callable[[int], contextlib.AbstractContextManager[object]]

_observer: ContextVar[Observer | None] = ContextVar("fastgan observer of steps", default=None)

#: Stand for an index where something runs that is no step: what is done to the inputs, and a whole
#: plan in one call.
INPUTS, WHOLE = -1, -2


@contextlib.contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Within, this thread's runs go step by step, each inside `observer(its index)`."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


class Launches:
    """The names of a plan's steps, put on them where somebody looks.

    A step is a range of `torch.profiler`, and on a GPU one of NVTX; FASTGAN_DEBUG=launch prints it.

    Args:
        plan: whose steps they are.
        device: where it runs.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self._plan, self._on_gpu = plan, device.type == "cuda"
        self._told = debug.wants("launch")

    def __bool__(self) -> bool:
        """Whether anybody looks."""
        return profiler._is_profiler_enabled or self.apart

    @property
    def apart(self) -> bool:
        """Whether they look at each step, so that a CUDA graph of them all will not do."""
        return self._told or _observer.get() is not None

    def name(self, index: int) -> str:
        """Such as "3 ConvTranspose + bias + relu: /4/ConvTranspose /5/Relu"."""
        steps = self._plan.steps
        if index == WHOLE:
            return f"all {len(steps)} steps"
        if not 0 <= index < len(steps):
            return "inputs" if index == INPUTS else "images"
        step = steps[index]
        parts = (step.op.removeprefix("fastgan."), str(step.epilogue))
        return f"{index + 1} {' + '.join(filter(None, parts))}: {' '.join(step.origin)}"

    @contextlib.contextmanager
    def step(self, index: int) -> Iterator[None]:
        """Around what a step does."""
        name, observer = self.name(index), _observer.get()
        if self._told:
            steps = self._plan.steps
            shapes = text.shapes(self._plan, steps[index]) if 0 <= index < len(steps) else ""
            debug.tell("launch", " ".join(filter(None, (name, shapes))))
        with contextlib.ExitStack() as stack:
            if observer is not None:
                stack.enter_context(observer(index))
            stack.enter_context(profiler.record_function(name))
            if self._on_gpu and not profiler._is_profiler_enabled:  # emit_nvtx names it already
                stack.enter_context(torch.cuda.nvtx.range(name))
            yield

    def call(self, index: int, run: Callable[..., T], *arguments: object) -> T:
        """`run(*arguments)` within `step(index)`."""
        with self.step(index):
            return run(*arguments)
