"""The state of rehearsed GPUs: devices, streams and their order, memory, captures, faults."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastgan.engine.triton.rehearsal import faults

CAPTURING = "operation not permitted when stream is capturing"

#: By stream how much of its work is known to be done.
Clock = dict[int, int]


@dataclass
class GPU:
    """One, and what torch says of it."""

    index: int = 0
    name: str = "NVIDIA Rehearsal"
    capability: tuple[int, int] = (9, 0)
    multi_processor_count: int = 132
    total_memory: int = 1 << 34
    L2_cache_size: int = 50 << 20
    used: int = 0

    @property
    def major(self) -> int:
        return self.capability[0]

    @property
    def minor(self) -> int:
        return self.capability[1]


class Stream:
    """Work in order; `clock` says which work, of it and of others, comes before what is next."""

    _ids = itertools.count()

    def __init__(self, machine: Machine, device: int) -> None:
        self.machine, self.index = machine, device
        self.device = torch.device("cuda", device)
        self.id = next(self._ids)
        self.clock: Clock = {}

    def known(self, clock: Clock) -> None:
        """Begin what comes next when that is done."""
        _merge(self.clock, clock)

    def tick(self) -> int:
        """One piece of work more; whatever the host has waited for lies before it."""
        self.known(self.machine.host)
        self.clock[self.id] = self.clock.get(self.id, 0) + 1
        return self.clock[self.id]


@dataclass
class Block:
    """Memory of a device, for as long as a tensor lies in it."""

    machine: Machine
    storage: Any
    home: Stream
    pool: Any
    used: Clock = field(default_factory=dict)
    written: tuple[int, int] | None = None
    freed: bool = False

    @property
    def device(self) -> int:
        return self.home.index

    def touch(self, stream: Stream, writes: bool, time: int) -> None:
        """Work of a stream on it: what another one did to it has to lie before."""
        if self.freed:
            raise faults.error("rehearsal: a graph is replayed on memory that was freed")
        others = dict(self.used) if writes else dict([self.written] if self.written else [])
        self._ordered(others, stream, "used")
        self.used[stream.id] = time
        if writes:
            self.written = (stream.id, time)

    def _ordered(self, others: Clock, stream: Stream, what: str) -> None:
        for other, time in others.items():
            if other != stream.id and stream.clock.get(other, 0) < time:
                raise faults.error(
                    f"rehearsal: memory of stream {other} is {what} by stream {stream.id},"
                    " and no event orders them"
                )

    def free(self) -> None:
        """Nobody has a tensor in it any more. Another one's content lies there from now on."""
        self.freed = self.pool is None
        self.machine.gpus[self.device].used -= self.storage.nbytes()
        stream = self.home
        stream.known(self.machine.host)
        try:
            self._ordered(self.used, stream, "given to others")
        except RuntimeError as error:
            self.machine.complaints.append(str(error))
        self.storage.fill_(0xFF)


class Graph:
    """Recorded work, of one device."""

    def __init__(self, machine: Machine, pool: Any) -> None:
        self.machine, self.pool, self.device = machine, pool, machine.device
        self.work: list[tuple[str, list[tuple[Block, bool]], Callable[[], None]]] = []
        self.failed = False


class Machine:
    """See the module.

    Attributes:
        log: what happened, in order: "launch NAME", "op NAME", "capture", "replay", "wait", ...
            "compile NAME" and, by a process beside this one, "compile elsewhere NAME"
        complaints: what no call could be blamed for: memory freed too early.
        host: what the host has waited for.
    """

    def __init__(self, gpus: list[GPU]) -> None:
        self.gpus = gpus
        self.log: list[str] = []
        self.complaints: list[str] = []
        self.host: Clock = {}
        self.sticky: str | None = None
        self.graphs: dict[int, Graph] = {}  # by the stream that is being captured
        self.random_is_captured = False
        self.loaded: set[Any] = set()
        self.compiled: set[Any] = set()  # what is in Triton's cache on disk
        self.defaults = [Stream(self, gpu.index) for gpu in gpus]
        self._faults: list[faults.Fault] = []
        self._local = threading.local()
        self.lock = threading.RLock()
        #: Of pinned memory that kernels have written: what the host sees, until it waits, and that.
        self.unseen: list[tuple[Tensor, Tensor]] = []

    # Where a thread is ---------------------------------------------------------------------------

    @property
    def device(self) -> int:
        """The current one of this thread."""
        return int(getattr(self._local, "device", 0))

    @device.setter
    def device(self, index: int) -> None:
        self._local.device = index

    def stream(self, device: int) -> Stream:
        """The current one of this thread, on a device."""
        found: Stream = self._streams.get(device, self.defaults[device])
        return found

    def use(self, stream: Stream) -> None:
        """Make it the current one of its device."""
        self._streams[stream.index] = stream

    @property
    def _streams(self) -> dict[int, Stream]:
        if not hasattr(self._local, "streams"):
            self._local.streams = {}
        found: dict[int, Stream] = self._local.streams
        return found

    @property
    def capture(self) -> Graph | None:
        """The graph that this thread's current stream is captured to."""
        return self.graphs.get(self.stream(self.device).id)

    @property
    def captures_of_thread(self) -> list[Graph]:
        """Those that this thread began."""
        if not hasattr(self._local, "graphs"):
            self._local.graphs = []
        found: list[Graph] = self._local.graphs
        return found

    # Faults --------------------------------------------------------------------------------------

    def fault(self, kind: str, where: str = "", at: int = 1, times: int = 1 << 30) -> faults.Fault:
        """Let something go wrong: see `faults.Fault`."""
        self._faults.append(faults.Fault(kind, where, at, times))
        return self._faults[-1]

    def heal(self) -> None:
        """Let nothing go wrong any more; what is sticky stays."""
        self._faults.clear()

    def struck(self, where: str, *kinds: str) -> list[faults.Fault]:
        """The faults whose turn this is."""
        return [f for f in self._faults if f.kind in kinds and f.strikes(where)]

    def check(self) -> None:
        """Every call fails once the device has."""
        if self.sticky is not None:
            raise faults.error(self.sticky)

    # What is done --------------------------------------------------------------------------------

    def forbid(self, what: str) -> None:
        """An error, and the end of the capture, where this thread captures."""
        graphs = self.captures_of_thread
        if graphs:
            graphs[-1].failed = True
            raise faults.error(f"{CAPTURING} (rehearsal: {what})")

    def wait(self, what: str, *streams: Stream) -> None:
        """The host waits for the device."""
        self.forbid(what)
        self.check()
        self.log.append(f"wait {what}")
        with torch.inference_mode():  # a device asks for no mode
            for seen, written in self.unseen:
                seen.copy_(written)
        self.unseen.clear()
        for stream in streams or self._all():
            _merge(self.host, stream.clock)

    def _all(self) -> Iterable[Stream]:
        return [*self.defaults, *self._streams.values()]

    def allocate(self, nbytes: int, device: int) -> tuple[Block, Tensor]:
        """Memory with nothing in it yet: poison."""
        with self.lock:
            self.check()
            stream = self.stream(device)
            graph = self.graphs.get(stream.id)
            if graph is None:
                self.forbid("an allocation outside of the pool")
            self.log.append(f"allocate {nbytes}")
            full = self.gpus[device].used + nbytes > self.gpus[device].total_memory
            if full or self.struck("", "memory"):
                raise faults.out_of_memory()
            raw = torch.full((nbytes,), 0xFF, dtype=torch.uint8)
            self.gpus[device].used += nbytes
            pool = None if graph is None else graph.pool
            return Block(self, raw.untyped_storage(), stream, pool), raw

    def submit(
        self, name: str, blocks: list[tuple[Block, bool]], device: int, run: Callable[[], None]
    ) -> None:
        """Work on blocks (and whether it writes them) for this thread's stream on a device."""
        with self.lock:
            self.check()
            stream = self.stream(device)
            graph = self.graphs.get(stream.id)
            if graph is not None:
                graph.work.append((name, blocks, run))
                return
            self.forbid("work on another stream")
            self.run(stream, name, blocks, run)

    def run(
        self, stream: Stream, name: str, blocks: list[tuple[Block, bool]], run: Callable[[], None]
    ) -> None:
        """Do it."""
        self.log.append(name)
        time = stream.tick()
        for block, writes in blocks:
            block.touch(stream, writes, time)
        run()

    def replay(self, graph: Graph) -> None:
        """All that it has recorded, on this thread's stream of its device, which need not be the
        current one: torch sees to that."""
        with self.lock:
            self.forbid("a replay")
            self.check()
            self.log.append("replay")
            stream = self.stream(graph.device)
            with torch.inference_mode():  # whatever mode the capture was in
                for name, blocks, run in graph.work:
                    self.run(stream, name, blocks, run)


@contextlib.contextmanager
def standing_in(owner: Any, **others: Any) -> Iterator[None]:
    """Meanwhile these attributes of a module or a class are others."""
    before = {name: own for name, own in vars(owner).items() if name in others}
    for name, other in others.items():
        setattr(owner, name, other)
    try:
        yield
    finally:
        for name in others.keys() - before.keys():
            delattr(owner, name)
        for name, own in before.items():
            setattr(owner, name, own)


def _merge(clock: Clock, other: Clock) -> None:
    for stream, time in other.items():
        clock[stream] = max(clock.get(stream, 0), time)
