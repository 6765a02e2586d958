"""A stand-in for cuda.bindings.runtime: a GPU's memory is a file in /dev/shm, its calls are kept.

It is strict where CUDA leaves things undefined: memory is not freed while others have it open.
"""

from __future__ import annotations

import enum
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import torch

from fastgan.realtime.ring import cuda_memory

STREAM = 77
UUIDS = [bytes(range(16)), bytes(range(16, 32))]


class Error(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInvalidResourceHandle = 400


class Handle:
    """cudaIpcMemHandle_t."""

    def __init__(self) -> None:
        self._bytes = bytes(64)

    @property
    def reserved(self) -> bytes:
        return self._bytes

    @reserved.setter
    def reserved(self, value: bytes) -> None:
        assert isinstance(value, bytes)
        assert len(value) == 64
        self._bytes = value


@dataclass(frozen=True)
class Resource:
    """cudaGraphicsResource_t, of an OpenGL buffer."""

    buffer: int


@dataclass
class Gpu:
    """What the calls have done.

    Attributes:
        calls: their names in order, without those that ask.
        fails: names of calls that fail.
        memory: allocations, by address.
        files: where they lie, for those of this process.
        handles: addresses of those of this process, by handle.
        opened: how many in this process have opened an allocation.
        synchronised: called for each wait, with the device.
        written: called with an OpenGL buffer's name and its bytes when it is unmapped.
    """

    calls: list[str] = field(default_factory=list)
    fails: set[str] = field(default_factory=set)
    memory: dict[int, Any] = field(default_factory=dict)
    files: dict[int, Path] = field(default_factory=dict)
    addresses: Iterator[int] = field(default_factory=lambda: count(4096, 4096))
    handles: dict[bytes, int] = field(default_factory=dict)
    opened: dict[int, int] = field(default_factory=dict)
    device: int = 0
    synchronised: Any = None
    written: Any = None
    sizes: dict[int, int] = field(default_factory=dict)
    mapped: dict[int, int] = field(default_factory=dict)

    def cudaSetDevice(self, index: int) -> tuple[Any, ...]:
        assert 0 <= index < len(UUIDS)
        self.device = index
        return (Error.cudaSuccess,)

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return Error.cudaSuccess, len(UUIDS)

    def cudaGetDeviceProperties(self, index: int) -> tuple[Any, ...]:
        return Error.cudaSuccess, SimpleNamespace(uuid=SimpleNamespace(bytes=UUIDS[index]))

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if "cudaMalloc" in self.fails:
            return Error.cudaErrorMemoryAllocation, None
        address = next(self.addresses)
        self.files[address] = Path("/dev/shm", f"fastgan-gpu-{uuid4().hex[:12]}")
        self.files[address].write_bytes(b"\xa5" * size)
        self.memory[address] = _mapped(self.files[address])
        self.calls.append("cudaMalloc")
        return Error.cudaSuccess, address

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        assert not self.opened.get(address), "freed while another process has it open"
        del self.memory[address]
        self.files.pop(address).unlink()
        self.calls.append("cudaFree")
        return (Error.cudaSuccess,)

    def cudaIpcGetMemHandle(self, address: int) -> tuple[Any, ...]:
        if "cudaIpcGetMemHandle" in self.fails:
            return Error.cudaErrorInvalidResourceHandle, None
        assert address in self.memory
        handle = Handle()
        name = self.files[address].name.encode()
        handle.reserved = (bytes([self.device]) + name).ljust(64, b"\0")
        self.handles[handle.reserved] = address
        self.calls.append("cudaIpcGetMemHandle")
        return Error.cudaSuccess, handle

    def cudaIpcOpenMemHandle(self, handle: Handle, flags: int) -> tuple[Any, ...]:
        assert flags == 1
        path = Path("/dev/shm", handle.reserved[1:].rstrip(b"\0").decode())
        if not path.is_file() or handle.reserved[0] != self.device:
            return Error.cudaErrorInvalidResourceHandle, None
        address = self.handles.get(handle.reserved)
        if address is None:  # another process's
            address = next(self.addresses)
            self.memory[address] = _mapped(path)
        self.opened[address] = self.opened.get(address, 0) + 1
        self.calls.append("cudaIpcOpenMemHandle")
        return Error.cudaSuccess, address

    def cudaIpcCloseMemHandle(self, address: int) -> tuple[Any, ...]:
        self.opened[address] -= 1
        self.calls.append("cudaIpcCloseMemHandle")
        return (Error.cudaSuccess,)

    def _called(self, name: str) -> Error:
        if name in self.fails:
            return Error.cudaErrorInvalidResourceHandle
        self.calls.append(name)
        return Error.cudaSuccess

    def cudaGraphicsGLRegisterBuffer(self, buffer: int, flags: int) -> tuple[Any, ...]:
        assert flags == 2  # write, discard
        error = self._called("cudaGraphicsGLRegisterBuffer")
        return (error, None) if error else (error, Resource(buffer))

    def cudaGraphicsMapResources(
        self, count: int, resource: Resource, stream: int
    ) -> tuple[Any, ...]:
        assert (count, stream) == (1, STREAM)
        assert resource.buffer not in self.mapped
        error = self._called("cudaGraphicsMapResources")
        if not error:
            _, self.mapped[resource.buffer] = self.cudaMalloc(self.sizes[resource.buffer])
            self.calls.pop()
        return (error,)

    def cudaGraphicsResourceGetMappedPointer(self, resource: Resource) -> tuple[Any, ...]:
        error = self._called("cudaGraphicsResourceGetMappedPointer")
        if error:
            return error, None, None
        return error, self.mapped[resource.buffer], self.sizes[resource.buffer]

    def cudaGraphicsUnmapResources(
        self, count: int, resource: Resource, stream: int
    ) -> tuple[Any, ...]:
        assert (count, stream) == (1, STREAM)
        address = self.mapped.pop(resource.buffer)
        memory = self.memory.pop(address)
        self.files.pop(address).unlink()
        if self.written is not None:
            self.written(resource.buffer, bytes(memory))
        return (self._called("cudaGraphicsUnmapResources"),)

    def cudaGraphicsUnregisterResource(self, resource: Resource) -> tuple[Any, ...]:
        assert resource.buffer not in self.mapped
        return (self._called("cudaGraphicsUnregisterResource"),)

    def cudaGetErrorName(self, error: Error) -> tuple[Any, ...]:
        return Error.cudaSuccess, error.name.encode()


def _mapped(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def install(monkeypatch: pytest.MonkeyPatch | None = None) -> Gpu:
    """Two GPUs for this test, or for all of this process."""
    gpu, monkeypatch = Gpu(), monkeypatch or pytest.MonkeyPatch()
    runtime = ModuleType("cuda.bindings.runtime")
    for name in dir(Gpu):
        if name.startswith("cuda"):
            setattr(runtime, name, getattr(gpu, name))
    runtime.cudaError_t, runtime.cudaIpcMemHandle_t = Error, Handle  # type: ignore[attr-defined]
    runtime.cudaIpcMemLazyEnablePeerAccess = 1  # type: ignore[attr-defined]
    flags = SimpleNamespace(cudaGraphicsRegisterFlagsWriteDiscard=2)
    runtime.cudaGraphicsRegisterFlags = flags  # type: ignore[attr-defined]
    package, bindings = ModuleType("cuda"), ModuleType("cuda.bindings")
    package.bindings, bindings.runtime = bindings, runtime  # type: ignore[attr-defined]
    for module in (package, bindings, runtime):
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def tensor_at(pointer: int, size: int, device: torch.device) -> torch.Tensor:
        assert size <= len(gpu.memory[pointer])
        return torch.frombuffer(gpu.memory[pointer], dtype=torch.uint8)[:size]

    def synchronise(device: torch.device) -> None:
        gpu.calls.append("synchronise")
        if gpu.synchronised is not None:
            gpu.synchronised(device)

    monkeypatch.setattr(cuda_memory, "tensor_at", tensor_at)
    monkeypatch.setattr(cuda_memory, "synchronise", synchronise)
    monkeypatch.setattr(cuda_memory, "stream_of", lambda device: STREAM)

    @contextmanager
    def guard(device: torch.device) -> Iterator[None]:
        before = gpu.device
        yield
        gpu.device = before

    monkeypatch.setattr(cuda_memory, "guard", guard)
    return gpu
