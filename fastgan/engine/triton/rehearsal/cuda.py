"""What stands in for `torch.cuda`, and for the launch of a Triton kernel."""

from __future__ import annotations

import contextlib
import gc
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fastgan import latents
from fastgan.engine.triton.rehearsal import faults, tensors
from fastgan.engine.triton.rehearsal.machine import CAPTURING, Graph, Machine, Stream, standing_in
from fastgan.kernels import compiling

_machine: Machine


def _index(device: Any = None) -> int:
    if device is None:
        return _machine.device
    if isinstance(device, int):
        return device
    index = torch.device(device).index
    return _machine.device if index is None else index


class _Stream(Stream):
    """torch.cuda.Stream."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        super().__init__(_machine, _index(device))

    @property
    def cuda_stream(self) -> int:
        return self.id

    def wait_event(self, event: _Event) -> None:
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        event = _Event()
        event.record(stream)
        event.wait(self)

    def record_event(self, event: _Event | None = None) -> _Event:
        event = event or _Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        self.machine.wait("a stream", self)

    def query(self) -> bool:
        return True


class _Event:
    """torch.cuda.Event: a point of a stream. A piece of work takes a millisecond."""

    def __init__(self, enable_timing: bool = False, **_: Any) -> None:
        self._clock: dict[int, int] = {}
        self._timed, self._at = enable_timing, 0
        self._graph: Graph | None = None

    def record(self, stream: Stream | None = None) -> None:
        _machine.check()
        stream = stream or _machine.stream(_machine.device)
        self._clock, self._at = dict(stream.clock), len(_machine.log)
        self._graph = _machine.graphs.get(stream.id)
        _machine.log.append("record")

    def wait(self, stream: Stream | None = None) -> None:
        _machine.check()
        stream = stream or _machine.stream(_machine.device)
        if _machine.graphs.get(stream.id) is not self._graph:
            _machine.forbid("an event from outside of the capture")
        stream.known(self._clock)

    def synchronize(self) -> None:
        _machine.forbid("waiting for an event")
        _machine.check()
        _machine.log.append("wait an event")
        for stream, time in self._clock.items():
            _machine.host[stream] = max(_machine.host.get(stream, 0), time)

    def query(self) -> bool:
        _machine.forbid("asking for an event")
        _machine.check()
        return True

    def elapsed_time(self, end: _Event) -> float:
        if not (self._timed and end._timed):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        return float(max(1, end._at - self._at))


class _CUDAGraph:
    """torch.cuda.CUDAGraph."""

    def __init__(self, keep_graph: bool = False) -> None:
        self._graph: Graph | None = None

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        machine = _machine
        machine.check()
        stream = machine.stream(machine.device)
        if stream in machine.defaults:
            raise faults.error(
                "operation not permitted on the default stream: it can't be captured"
            )
        if stream.id in machine.graphs:
            raise faults.error(CAPTURING)
        self._graph = Graph(machine, pool if pool is not None else object())
        machine.graphs[stream.id] = self._graph
        machine.captures_of_thread.append(self._graph)
        machine.log.append("capture")

    def capture_end(self) -> None:
        machine, graph = _machine, self._graph
        assert graph is not None
        for stream, found in list(machine.graphs.items()):
            if found is graph:
                del machine.graphs[stream]
        machine.captures_of_thread.remove(graph)
        machine.check()
        if graph.failed or machine.struck("", "capture"):
            machine.random_is_captured = True
            self._graph = None
            raise faults.error("operation failed due to a previous error during capture")
        machine.random_is_captured = False

    def replay(self) -> None:
        if self._graph is None:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        _machine.replay(self._graph)

    def reset(self) -> None:
        self._graph = None

    def pool(self) -> Any:
        return None if self._graph is None else self._graph.pool


class _graph:
    """torch.cuda.graph, which waits for the device first."""

    default: Stream | None = None

    def __init__(
        self,
        cuda_graph: _CUDAGraph,
        pool: Any = None,
        stream: Stream | None = None,
        capture_error_mode: str = "global",
    ) -> None:
        if stream is None:
            # As torch has it: made once, on the device that is current by then.
            type(self).default = type(self).default or _Stream()
            stream = type(self).default
        assert stream is not None
        self._graph, self._pool = cuda_graph, pool
        self._stream = _stream(stream)

    def __enter__(self) -> None:
        _synchronize()
        gc.collect()
        self._stream.__enter__()
        self._graph.capture_begin(self._pool)

    def __exit__(self, *error: Any) -> None:
        try:
            self._graph.capture_end()
        finally:
            self._stream.__exit__(*error)


class _stream:
    """torch.cuda.stream."""

    def __init__(self, stream: Stream | None) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        if self._stream is None:
            return
        self._device = _machine.device
        self._before = _machine.stream(self._stream.index)
        _machine.device = self._stream.index
        _machine.use(self._stream)

    def __exit__(self, *_: Any) -> None:
        if self._stream is not None:
            _machine.use(self._before)
            _machine.device = self._device


class _device:
    """torch.cuda.device."""

    def __init__(self, device: Any) -> None:
        self._index = -1 if device is None else _index(device)

    def __enter__(self) -> None:
        self._before = _machine.device
        if self._index >= 0:
            _machine.device = self._index

    def __exit__(self, *_: Any) -> None:
        _machine.device = self._before


def _synchronize(device: Any = None) -> None:
    _machine.wait("the device")


def _free(device: Any = None) -> tuple[int, int]:
    gpu = _machine.gpus[_index(device)]
    return gpu.total_memory - gpu.used, gpu.total_memory


@contextlib.contextmanager
def _range(*_: Any) -> Iterator[None]:
    yield


def _set_device(device: Any) -> None:
    _machine.device = _index(device)


#: By their names in torch.cuda.
_STANDINS: dict[str, Any] = {
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "_lazy_init": lambda: None,
    "_is_in_bad_fork": lambda: False,
    "device_count": lambda: len(_machine.gpus),
    "current_device": lambda: _machine.device,
    "set_device": _set_device,
    "device": _device,
    "get_device_capability": lambda device=None: _machine.gpus[_index(device)].capability,
    "get_device_properties": lambda device=None: _machine.gpus[_index(device)],
    "get_device_name": lambda device=None: _machine.gpus[_index(device)].name,
    "Stream": _Stream,
    "Event": _Event,
    "CUDAGraph": _CUDAGraph,
    "graph": _graph,
    "graph_pool_handle": object,
    "stream": _stream,
    "current_stream": lambda device=None: _machine.stream(_index(device)),
    "default_stream": lambda device=None: _machine.defaults[_index(device)],
    "is_current_stream_capturing": lambda: _machine.capture is not None,
    "synchronize": _synchronize,
    "empty_cache": lambda: _machine.check(),
    "mem_get_info": _free,
    "memory_reserved": lambda device=None: _machine.gpus[_index(device)].used,
    "memory_allocated": lambda device=None: _machine.gpus[_index(device)].used,
}


def _launching(real: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel's launch, held to the rules."""

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        machine = _machine
        if warmup:
            _compile("compile", self, args, kwargs)
            return
        given = tensors.of_blocks([*args, *kwargs.values()])
        name = self.fn.__name__
        if not given:
            raise ValueError("Pointer argument cannot be accessed from Triton (cpu tensor?)")
        machine.check()
        if any(one.block.device != machine.device for one in given):
            machine.log.append(f"launch {name}")
            machine.sticky = faults.ILLEGAL
            return
        mapped: list[tuple[torch.Tensor, torch.Tensor]] = []
        arguments = {n: _unwrapped(a, mapped) for n, a in kwargs.items()}
        positional = [_unwrapped(a, mapped) for a in args]

        def interpret() -> None:
            for seen, written in mapped:
                written.copy_(seen)
            real(self, *positional, grid=grid, warmup=False, **arguments)
            machine.unseen.extend(mapped)

        key = _key(self, args, kwargs)
        work = tensors.faulty(machine, name, given, interpret)
        if key not in machine.loaded:
            machine.forbid(f"loading {name}")
            _compile("compile", self, args, kwargs)
            machine.loaded.add(key)
        blocks = [(one.block, True) for one in given]
        machine.submit(f"launch {name}", blocks, machine.device, work)

    return run


def _unwrapped(value: Any, mapped: list[tuple[torch.Tensor, torch.Tensor]]) -> Any:
    """What the interpreter gets. Of memory of the host that kernels write, `mapped` has what the
    host sees and what they have written."""
    if isinstance(value, tensors.Rehearsed):
        return value.host
    if isinstance(value, torch.Tensor):
        if not getattr(value, "_rehearsed_pinned", False):
            raise ValueError("Pointer argument cannot be accessed from Triton (cpu tensor?)")
        mapped.append((value, value.clone()))
        return mapped[-1][1]
    if hasattr(value, "base") and hasattr(value, "block_shape"):
        base = _unwrapped(value.base, mapped)
        return type(value)(base, value.shape, value.strides, value.block_shape, value.padding)
    if isinstance(value, tuple):
        parts = [_unwrapped(part, mapped) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _key(kernel: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What a kernel is compiled for: types, options, and what its signature says is constant."""
    named = dict(zip(kernel.arg_names, args, strict=False)) | kwargs
    notes = kernel.fn.__annotations__
    constant = {n: str(v) for n, v in named.items() if "constexpr" in str(notes.get(n, ""))}
    options = {n: v for n, v in kwargs.items() if n not in kernel.arg_names}
    kinds = {n: _kind_of(v) for n, v in named.items() if n not in constant | options}
    kind = str([sorted(each.items()) for each in (constant, kinds, options)])
    return kernel.fn, _machine.device, kind


def _kind_of(value: Any) -> Any:
    try:
        return compiling.kind_of(value)
    except compiling.Misaligned:
        return "apart"


def _compile(what: str, kernel: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Unless it is in Triton's cache on disk, which all devices and processes share."""
    kind = kernel.fn, *_key(kernel, args, kwargs)[2:]
    if kind not in _machine.compiled:
        _machine.compiled.add(kind)
        _machine.log.append(f"{what} {kernel.fn.__name__}")


class _Child:
    """A process that compiles."""

    def __init__(self, target: Any) -> None:
        _machine.log.append("a child")

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: Any) -> None:
        """It ends."""

    def compile(self, one: Any) -> bool:
        call = pickle.loads(pickle.dumps(one)).call()
        kernel = call.function
        _machine.compiled.add((kernel.fn, *_key(kernel, (), call.arguments | one.options)[2:]))
        _machine.log.append(f"compile elsewhere {kernel.fn.__name__}")
        return True


@contextlib.contextmanager
def of(machine: Machine) -> Iterator[None]:
    """`torch.cuda` is this machine's."""
    global _machine
    from triton.runtime.interpreter import InterpretedFunction

    _machine = machine
    _graph.default = None
    machine.defaults = [_Stream(gpu.index) for gpu in machine.gpus]
    with (
        standing_in(torch.cuda, **_STANDINS),
        standing_in(torch.cuda.nvtx, range=_range),
        standing_in(torch.version, cuda="13.0"),
        standing_in(latents, _cuda_library=lambda: None),
        standing_in(compiling, _target=lambda: None, _known=set(), Child=_Child),
        standing_in(InterpretedFunction, run=_launching(InterpretedFunction.run)),
    ):
        yield
