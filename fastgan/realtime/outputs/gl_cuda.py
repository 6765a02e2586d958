"""Pixel buffers of OpenGL that CUDA writes to, so that a frame on the GPU stays there.

**It has not run on a GPU yet**: tests hold the calls against a stand-in, tests/gpu has real ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan.errors import BackendError
from fastgan.realtime.ring import cuda_memory
from fastgan.realtime.ring.cuda_memory import call


class SharedBuffer:
    """One pixel buffer, registered with CUDA. Close it before the buffer is released.

    A buffer rather than the texture itself: CUDA does not take textures of three channels.

    Args:
        buffer: of moderngl; its storage must stay the same, so it must not be orphaned.
        device: the GPU that the context draws on.

    Raises:
        BackendError: no cuda.bindings, or OpenGL runs elsewhere than on this GPU.
    """

    def __init__(self, buffer: Any, device: torch.device) -> None:
        flags = cuda_memory.runtime().cudaGraphicsRegisterFlags
        self._device = device
        with cuda_memory.on(device):
            self._resource = call(
                "cudaGraphicsGLRegisterBuffer",
                buffer.glo,
                int(flags.cudaGraphicsRegisterFlagsWriteDiscard),
            )

    def write(self, values: Tensor) -> None:
        """Fill the buffer, on the thread of the context.

        CUDA waits for what OpenGL still reads of it, and OpenGL for the end of this copy; no
        thread does.

        Args:
            values: uint8, as many as the buffer has bytes, on the GPU.

        Raises:
            BackendError: CUDA refuses; the buffer is then not mapped.
        """
        stream = cuda_memory.stream_of(self._device)
        with cuda_memory.on(self._device):
            call("cudaGraphicsMapResources", 1, self._resource, stream)
            try:
                pointer, size = call("cudaGraphicsResourceGetMappedPointer", self._resource)
                if size < values.numel():
                    found = f"a pixel buffer of {size} bytes"
                    raise BackendError("OpenGL", found, f"{values.numel()} bytes")
                target = cuda_memory.tensor_at(int(pointer), values.numel(), self._device)
                target.copy_(values.reshape(-1), non_blocking=True)
            finally:
                call("cudaGraphicsUnmapResources", 1, self._resource, stream)

    def close(self) -> None:
        """Take the buffer back from CUDA."""
        resource, self._resource = self._resource, None
        if resource is not None:
            with cuda_memory.on(self._device):
                call("cudaGraphicsUnregisterResource", resource)
