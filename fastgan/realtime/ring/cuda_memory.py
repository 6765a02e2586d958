"""Memory on a GPU that several processes share, through NVIDIA's own bindings (cuda.bindings).

PyTorch's CUDA builds bring that package. **None of this has run on a GPU yet**: its tests hold the
calls against a stand-in, and tests/gpu has the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from fastgan.errors import BackendError

#: cudaIpcMemHandle_t and cudaUUID_t, as a ring's header holds them.
HANDLE_BYTES, UUID_BYTES = 64, 16


def runtime() -> Any:
    """The module cuda.bindings.runtime.

    Raises:
        BackendError: it is not installed.
    """
    try:
        from cuda.bindings import runtime as module
    except ImportError as error:
        instead = "PyTorch's CUDA builds bring it; or pip install cuda-bindings"
        raise BackendError("CUDA", f"no cuda.bindings ({error})", instead) from None
    return module


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime: what it returns beside its error code.

    Raises:
        BackendError: the package is not installed, or the call failed.
    """
    module = runtime()
    error, *values = getattr(module, name)(*arguments)
    if error != module.cudaError_t.cudaSuccess:
        _, text = module.cudaGetErrorName(error)
        said = text.decode() if isinstance(text, bytes) else str(error)
        raise BackendError("CUDA", f"{name}: {said}", "a GPU and a driver that allow it")
    return values[0] if len(values) == 1 else tuple(values)


class Pool:
    """One allocation on a GPU: ours, which others may open, or another process's.

    PyTorch's own memory will not do: it hands out parts of larger blocks, of which some kinds
    (expandable segments) cannot be shared so.

    Attributes:
        memory: all of it, uint8 [bytes], without a copy.
    """

    def __init__(self, pointer: int, bytes: int, device: torch.device, ours: bool) -> None:
        self._pointer, self._ours, self._device = pointer, ours, device
        self.memory: Tensor | None = None
        try:
            self.memory = tensor_at(pointer, bytes, device)
        except BaseException:
            self.close()
            raise

    @classmethod
    def allocate(cls, bytes: int, device: torch.device) -> Pool:
        """New memory."""
        with on(device):
            return cls(int(call("cudaMalloc", bytes)), bytes, device, ours=True)

    @classmethod
    def open(cls, handle: bytes, bytes: int, device: torch.device) -> Pool:
        """Another process's memory; CUDA does not open a process's own."""
        module = runtime()
        shared = module.cudaIpcMemHandle_t()
        shared.reserved = handle
        with on(device):
            pointer = call("cudaIpcOpenMemHandle", shared, module.cudaIpcMemLazyEnablePeerAccess)
            return cls(int(pointer), bytes, device, ours=False)

    @property
    def handle(self) -> bytes:
        """What another process opens it by."""
        with on(self._device):
            return bytes(call("cudaIpcGetMemHandle", self._pointer).reserved)

    def close(self) -> None:
        """Free it, or let go of another's; all copies out of it must have ended."""
        pointer, self._pointer, self.memory = self._pointer, 0, None
        if pointer:
            with on(self._device):
                call("cudaFree" if self._ours else "cudaIpcCloseMemHandle", pointer)


@contextmanager
def on(device: torch.device) -> Iterator[None]:
    """Let CUDA's functions mean this GPU, and PyTorch afterwards the one that it meant before.

    The bindings have a CUDA runtime of their own beside PyTorch's, which is told as well.

    Raises:
        BackendError: there is no GPU, or no cuda.bindings.
    """
    with guard(device):
        call("cudaSetDevice", device.index or 0)
        yield


def guard(device: torch.device) -> AbstractContextManager[Any]:
    """PyTorch's current device, for a time.

    Raises:
        BackendError: PyTorch has none.
    """
    if not torch.cuda.is_available():
        found = "no GPU that PyTorch can use"
        raise BackendError("CUDA", found, "an NVIDIA GPU and PyTorch's CUDA build")
    return torch.cuda.device(device)


def uuid_of(device: torch.device) -> bytes:
    """What tells a GPU from all others, whatever number a process gives it."""
    return bytes(call("cudaGetDeviceProperties", device.index).uuid.bytes)


def device_of(uuid: bytes) -> torch.device:
    """The GPU of this UUID.

    Raises:
        BackendError: this process does not see it.
    """
    for index in range(call("cudaGetDeviceCount")):
        device = torch.device("cuda", index)
        if uuid_of(device) == uuid:
            return device
    found = "none of this process's GPUs is the producer's"
    raise BackendError("CUDA", found, "the same GPU", "look at CUDA_VISIBLE_DEVICES")


def tensor_at(pointer: int, bytes: int, device: torch.device) -> Tensor:
    """Memory of a GPU as a tensor, uint8 [bytes], which does not own it."""

    class Memory:
        __cuda_array_interface__ = {  # noqa: RUF012
            "shape": (bytes,),
            "typestr": "|u1",
            "data": (pointer, False),
            "strides": None,
            "version": 3,
        }

    return torch.as_tensor(Memory(), device=device)


def synchronise(device: torch.device) -> None:
    """Wait for all that this thread has asked of the GPU on PyTorch's current stream."""
    torch.cuda.current_stream(device).synchronize()


def stream_of(device: torch.device) -> int:
    """PyTorch's current stream, as CUDA's own functions take it."""
    return int(torch.cuda.current_stream(device).cuda_stream)
