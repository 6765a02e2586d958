"""What all executables of one model on one device share: packed weights, memory, graphs, a turn.

They run one at a time, since they work in the same memory. A run begins when the one before it has
finished on the device, whichever stream and thread that was; the host never waits for that.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastgan.engine.triton.counters import Counter
from fastgan.errors import Refusal

log = logging.getLogger("fastgan")

T = TypeVar("T")
Launch = Callable[[], None]


class Workspace:
    """See above. Use its memory, and what lies in it, within `turn` alone."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.capture: Callable[[Launch], Launch] | None = None
        if device.type == "cuda":
            self.capture = Graphs(device).capture
        self._lock = threading.RLock()
        self._weights: dict[Hashable, tuple[tuple[Tensor, ...], Any]] = {}
        self._memory: Tensor | None = None
        self._counters: dict[str, Counter] = {}
        self._scratch: Tensor | None = None
        self.fallbacks: list[Refusal] = []  # kernels that turned out not to work here
        self._finished: torch.cuda.Event | None = None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Exclusive use of the memory, in the order of the device's work."""
        with self._lock, torch.inference_mode():
            if self.device.type != "cuda":
                yield
                return
            with torch.cuda.device(self.device):
                if torch.cuda.is_current_stream_capturing():
                    # A caller's own graph: an event from outside it can't be waited for in it, and
                    # when it is replayed only they know.
                    yield
                    return
                stream = torch.cuda.current_stream()
                if self._finished is None:
                    self._finished = torch.cuda.Event()
                else:
                    stream.wait_event(self._finished)
                try:
                    yield
                finally:
                    self._finished.record(stream)

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
                self._memory = torch.empty(max(1, size), dtype=torch.uint8, device=self.device)
            return self._memory

    def counter(self, name: str) -> Counter:
        """The counter of an input that launches draw themselves."""
        with self._lock:
            if name not in self._counters:
                self._counters[name] = Counter(self.device)
            return self._counters[name]

    def scratch(self, size: int) -> Tensor:
        """`size` bytes that last from one launch to the next; the same ones for everybody."""
        with self._lock:
            if self._scratch is None or self._scratch.numel() < size:
                self._scratch = torch.empty(max(1, size), dtype=torch.uint8, device=self.device)
            return self._scratch[:size]

    def release(self) -> None:
        """Forget the memory, so that it is free once nobody works in it any more."""
        with self._lock:
            self._memory = self._scratch = None


class Graphs:
    """Captures launches as CUDA graphs, all in one pool of memory, on one stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None

    def capture(self, launch: Launch) -> Launch:
        """`launch` as one graph: call the result to replay it on the current stream.

        `launch` runs once before that, so that what happens on first use alone (compiling,
        the library's choice of algorithms) is not captured.
        """
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
            self._pool = torch.cuda.graph_pool_handle()
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            launch()
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the GPU: only this one must not synchronise.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            launch()
        replay: Launch = graph.replay
        return replay
