"""What all executables of one model on one device share: packed weights, memory, graphs, a turn.

They run one at a time, since they work in the same memory. A run begins when the one before it has
finished on the device, whichever stream and thread that was; the host never waits for that.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from fastgan.engine import device as devices
from fastgan.engine.device import Launch
from fastgan.engine.triton.counters import Counter
from fastgan.errors import Refusal
from fastgan.inputs.draws import Samples

if TYPE_CHECKING:
    from fastgan.engine.triton.prepared import TritonRun

log = logging.getLogger("fastgan")

T = TypeVar("T")


class Workspace:
    """See above. Use its memory, and what lies in it, within `turn` alone."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.gpu = device, devices.of(device)
        graphs = self.gpu.graphs()
        self.capture: Callable[[Launch], Launch] | None = graphs.capture if graphs else None
        self._order = self.gpu.order()
        weakref.finalize(self, self._order.settle).atexit = False
        self._lock = threading.RLock()
        self._weights: dict[Hashable, tuple[tuple[Tensor, ...], Any]] = {}
        self._memory: Tensor | None = None
        self._counters: dict[str, Counter] = {}
        self._scratch: Tensor | None = None
        self.runs: weakref.WeakSet[TritonRun] = weakref.WeakSet()  # that were made ready
        self.fallbacks: list[Refusal] = []  # kernels that turned out not to work here
        self.strict = False  # whether one that does not is an error

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Exclusive use of the memory, in the order of the device's work."""
        with self._lock, torch.inference_mode(), self.gpu.current():
            if self.gpu.being_captured():
                # A caller's own graph: an event from outside it can't be waited for in it, and
                # when it is replayed only they know.
                yield
                return
            self._order.begin()
            try:
                yield
            except BaseException:
                with contextlib.suppress(RuntimeError):  # a GPU that failed fails here as well
                    self._order.end()
                raise
            self._order.end()

    def replay(
        self,
        graph: Launch,
        counters: Sequence[tuple[Counter, Samples]],
        rows: int,
        behind: Launch | None = None,
    ) -> None:
        """A graph in its turn: nothing is asked of the device, which knows where its graphs belong.

        Args:
            graph: what `capture` made.
            counters: of what it draws, and the samples that it is to draw.
            rows: how many of them.
            behind: what else belongs into the turn.
        """
        with self._lock:
            self._order.begin()
            for counter, samples in counters:
                counter.set(samples)
            graph()
            for counter, samples in counters:
                counter.drew(samples, rows)
            if behind is not None:
                behind()
            self._order.end()

    def packed(self, key: Hashable, sources: tuple[Tensor, ...], pack: Callable[[], T]) -> T:
        """What `pack` makes of these weights, made once for all batch sizes."""
        with self._lock:
            known = self._weights.get(key)
            # Folded constants may depend on the input shapes, under the same name.
            if known is None or not all(map(torch.equal, known[0], sources)):
                known = self._weights[key] = (sources, pack())
            return known[1]

    def memory(self, size: int) -> Tensor:
        """At least `size` bytes on the device, the same ones for everybody."""
        with self._lock:
            if self._memory is None or self._memory.numel() < size:
                # Whoever was given the smaller block keeps it.
                self._memory = self.gpu.empty((max(1, size),), torch.uint8)
            return self._memory

    def counter(self, name: str) -> Counter:
        """The counter of an input that launches draw themselves."""
        with self._lock:
            if name not in self._counters:
                self._counters[name] = Counter(self.gpu)
            return self._counters[name]

    def scratch(self, size: int) -> Tensor:
        """`size` bytes that last from one launch to the next; the same ones for everybody."""
        with self._lock:
            if self._scratch is None or self._scratch.numel() < size:
                self._scratch = self.gpu.empty((max(1, size),), torch.uint8)
            return self._scratch[:size]

    def fell_back(self, where: str, found: str, needed: str) -> None:
        """A kernel turned out not to work here; of all batch sizes it is one fallback."""
        refusal = Refusal("triton", where, found, needed)
        with self._lock:
            if refusal not in self.fallbacks:
                self.fallbacks.append(refusal)

    def frees(self, owner: object) -> None:
        """Memory of this owner's is given back when it goes."""
        weakref.finalize(owner, self._order.settle).atexit = False

    def release(self) -> None:
        """Forget the memory, so that it is free once nobody works in it any more."""
        with self._lock:
            self._order.settle()
            self._memory = self._scratch = None
            for run in list(self.runs):
                run.forget()
