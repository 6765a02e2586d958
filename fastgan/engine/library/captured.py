"""A plan on torch's operators, as one CUDA graph: for GPUs that the kernels do not support.

A small batch is a few dozen launches of a few microseconds each, and as many of the host's part. So
the operators run once, are captured with the algorithms that they have chosen by then, and are
replayed on inputs that are copied to where the graph reads them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from fastgan.engine import device as devices
from fastgan.engine.base import Target
from fastgan.engine.device import Graphs, Launch
from fastgan.engine.library.executor import BoundStep, PlanExecutable
from fastgan.plan import Plan

log = logging.getLogger("fastgan")


class CapturedExecutable(PlanExecutable):
    """See the module. Calls from several threads, on any streams, take turns.

    Args:
        plan, steps: as for `PlanExecutable`.
        target: where, and in which precision.
        graphs: captures; all executables of a model share its memory, and so its lock.
    """

    def __init__(
        self,
        plan: Plan,
        steps: Sequence[BoundStep],
        target: Target,
        graphs: SharedGraphs,
    ) -> None:
        settings = partial(target.settings, True)  # the fastest algorithms are captured
        super().__init__(plan, steps, target.device, target.dtype, settings)
        self._graphs = graphs
        self._places: dict[str, Tensor] = {}
        self._made: dict[str, Tensor] = {}
        self._replay: Launch | None = None
        self._plain = False

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `PlanExecutable`; outputs are copies, which the next call leaves alone."""
        shared = self._graphs
        if self._plain or self._launches or shared.gpu.being_captured():
            return super().__call__(inputs)
        with shared.turn(), torch.inference_mode(), self._settings():
            if self._replay is None and not self._capture(inputs):
                return super().__call__(inputs)
            assert self._replay is not None
            self._take(inputs)
            self._replay()
            return {name: tensor.clone() for name, tensor in self._made.items()}

    def _take(self, inputs: Mapping[str, Tensor]) -> None:
        for name, place in self._places.items():
            place.copy_(inputs[name])

    def _capture(self, inputs: Mapping[str, Tensor]) -> bool:
        """Whether that could be done; else the operators are launched one by one from now on."""
        self._places = {
            name: torch.empty(inputs[name].shape, dtype=inputs[name].dtype, device=self.device)
            for name, _ in self._inputs
        }
        self._take(inputs)

        def launch() -> None:
            slots = self._run(self._places)
            self._made = {name: slots[index] for name, index in self._outputs}  # type: ignore[misc]

        try:
            self._replay = self._graphs.graphs.capture(launch)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._plain, self._made, self._places = True, {}, {}
            first = (str(error).splitlines() or [""])[0]
            log.info("no CUDA graph of torch's operators, so one launch after the other: %s", first)
        return self._replay is not None


class SharedGraphs:
    """What the captured executables of one model share: memory, and turns in it."""

    def __init__(self, device: torch.device) -> None:
        self.gpu = devices.of(device)
        self.graphs = Graphs(device)
        self._order, self._lock = self.gpu.order(), threading.RLock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Exclusive use, in the order of the device's work."""
        with self._lock, self.gpu.current():
            self._order.begin()
            try:
                yield
            finally:
                self._order.end()
