"""The device that an engine works on: its memory, order of work, graphs and facts.

Neither `engine/triton` nor `library/captured.py` asks torch.cuda otherwise. There are two sides: a
GPU, and a CPU on which Triton's interpreter does everything at once. CUDA's rules are rehearsed on
a CPU by standing in for torch.cuda underneath (`triton/rehearsal`), so that these lines are
rehearsed as well.
"""

from __future__ import annotations

import contextlib
import logging
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger("fastgan")

Launch = Callable[[], None]

#: Runs that are captured together to be timed, and the seconds that are long enough for a clock.
_IN_A_GRAPH, _LONG_ENOUGH = 8, 2e-3


class Device:
    """The CPU: work is done when it is given, and nothing is captured.

    Attributes:
        place: what torch calls it.
        is_gpu: whether kernels are compiled, launches are captured, and may turn out not to work.
    """

    is_gpu = False

    def __init__(self, place: torch.device) -> None:
        self.place = place

    @property
    def name(self) -> str:
        """Such that what is measured on one of this name holds for all of them."""
        return "interpreter"

    @property
    def capability(self) -> tuple[int, int]:
        """CUDA's compute capability; (0, 0) is the interpreter's."""
        return (0, 0)

    @property
    def multiprocessors(self) -> int:
        """How many programs make all of it busy."""
        return 1

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory for a tensor."""
        return torch.empty(tuple(shape), dtype=dtype, device=self.place)

    def put(self, words: Sequence[int], into: Tensor) -> None:
        """Write int32 words to the device, in the order of its work; the host does not wait."""
        into.copy_(_on_the_host(words))

    def flag(self) -> Tensor:
        """int32 [1], 0: memory of the host to which kernels write as well."""
        return torch.zeros(1, dtype=torch.int32)

    def current(self) -> contextlib.AbstractContextManager[Any]:
        """Within, it is the one that kernels are launched on."""
        return contextlib.nullcontext()

    def being_captured(self) -> bool:
        """Whether the caller captures a graph of their own."""
        return False

    def graphs(self) -> Graphs | None:
        """What captures launches; None: nothing does."""
        return None

    def order(self) -> Order:
        """Of runs that share memory."""
        return Order()

    def synchronise(self) -> None:
        """Wait for all work, and raise what went wrong with it."""

    def wait(self) -> None:
        """Wait for the work of the current stream."""

    def seconds(self, run: Callable[[], object], captured: bool = True) -> float:
        """Of one run.

        Args:
            captured: as a part of a graph, so that what the host does for a launch is not counted;
                a replay of a graph can't be.

        Raises:
            NotImplementedError: on a CPU, where the interpreter's time says nothing of a GPU's.
        """
        raise NotImplementedError("nothing is measured in the interpreter")


class Order:
    """Lets each run begin behind the one before it, whichever stream and thread that was."""

    def begin(self) -> None:
        """A run begins on the current stream."""

    def end(self) -> None:
        """It has been launched."""

    def settle(self) -> None:
        """Memory of the runs so far is given back: whoever takes it begins behind them."""


class Gpu(Device):
    """A CUDA device."""

    is_gpu = True

    @property
    def name(self) -> str:
        # A slice of a GPU (MIG) has its name, and fewer multiprocessors.
        return f"{torch.cuda.get_device_name(self.place)} x{self.multiprocessors}"

    @property
    def capability(self) -> tuple[int, int]:
        return torch.cuda.get_device_capability(self.place)

    @property
    def multiprocessors(self) -> int:
        return torch.cuda.get_device_properties(self.place).multi_processor_count

    def put(self, words: Sequence[int], into: Tensor) -> None:
        into.copy_(_on_the_host(words).pin_memory(), non_blocking=True)  # else the host would wait

    def flag(self) -> Tensor:
        return torch.zeros(1, dtype=torch.int32).pin_memory()

    def current(self) -> contextlib.AbstractContextManager[Any]:
        return torch.cuda.device(self.place)

    def being_captured(self) -> bool:
        return bool(torch.cuda.is_current_stream_capturing())

    def graphs(self) -> Graphs | None:
        return Graphs(self.place)

    def order(self) -> Order:
        return _StreamOrder(self.place)

    def synchronise(self) -> None:
        torch.cuda.synchronize(self.place)

    def wait(self) -> None:
        torch.cuda.current_stream(self.place).synchronize()

    def seconds(self, run: Callable[[], object], captured: bool = True) -> float:
        if not captured:
            return self._timed(run)

        def many() -> None:
            for _ in range(_IN_A_GRAPH):
                run()

        return self._timed(Graphs(self.place).capture(many)) / _IN_A_GRAPH

    def _timed(self, run: Callable[[], object]) -> float:
        """Seconds of one run by events on the current stream, after a few others."""
        for _ in range(3):
            run()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        count = 1
        while True:
            begin.record()
            for _ in range(count):
                run()
            end.record()
            end.synchronize()
            passed = begin.elapsed_time(end) / 1e3
            if passed >= _LONG_ENOUGH or count >= 256:
                return passed / count
            count *= 4


class _StreamOrder(Order):
    """By an event behind the last run."""

    def __init__(self, place: torch.device) -> None:
        self._place, self._last = place, torch.cuda.Event()
        self._recorded: int | None = None  # the stream of the last run
        self._streams: dict[int, torch.cuda.Stream] = {}

    def begin(self) -> None:
        if self._recorded is None:
            return
        stream = torch.cuda.current_stream(self._place)
        if stream.cuda_stream != self._recorded:  # else it comes behind that run anyway
            stream.wait_event(self._last)

    def end(self) -> None:
        stream = torch.cuda.current_stream(self._place)
        self._last.record(stream)
        self._recorded = stream.cuda_stream
        self._streams[self._recorded] = stream

    def settle(self) -> None:
        # Torch gives memory to whatever comes next on the stream that it was taken on.
        with contextlib.suppress(RuntimeError):
            if self._recorded is not None and not torch.cuda.is_current_stream_capturing():
                for stream in list(self._streams.values()):
                    stream.wait_event(self._last)


class Graphs:
    """Captures launches as CUDA graphs, all in one pool of memory, on one stream of their own."""

    def __init__(self, place: torch.device) -> None:
        self._place = place
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None

    def capture(self, launch: Launch) -> Launch:
        """`launch` as one graph: call the result to replay it on the current stream.

        `launch` runs once before that, so that what happens on first use alone (compiling,
        the library's choice of algorithms) is not captured.
        """
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._place)
            self._pool = torch.cuda.graph_pool_handle()
        with self._aside(self._stream):
            launch()
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may go on using the GPU: only this one must not synchronise.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                launch()
        except Exception:
            self._after_failure()
            raise
        replay: Launch = graph.replay
        return replay

    def _after_failure(self) -> None:
        """Torch's generator stays in the capture that failed until one has succeeded."""
        self._pool = torch.cuda.graph_pool_handle()
        with contextlib.suppress(RuntimeError):
            here = torch.zeros(1, device=self._place)
            with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=self._stream):
                here.zero_()

    @contextlib.contextmanager
    def _aside(self, stream: torch.cuda.Stream) -> Iterator[None]:
        """On another stream, between what was launched on the current one and what will be."""
        current = torch.cuda.current_stream(self._place)
        stream.wait_stream(current)
        try:
            with torch.cuda.stream(stream):
                yield
        finally:
            with contextlib.suppress(RuntimeError):  # a device that failed says so by itself
                current.wait_stream(stream)


def _on_the_host(words: Sequence[int]) -> Tensor:
    """int32 words as a tensor; `torch.tensor` takes four times as long, before each image."""
    return torch.frombuffer(array("i", words), dtype=torch.int32)


@cache
def of(place: torch.device) -> Device:
    """The device that torch calls so."""
    return Gpu(place) if place.type == "cuda" else Device(place)
