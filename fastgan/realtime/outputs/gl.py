"""An OpenGL texture that shows the newest frame.

    context = moderngl.get_context()                      # of the window, on its thread
    with GLTexture(context, 256, 256, 3) as picture:
        picture.write(frame.picture, frame.index)         # a stream's frame, or a ring's pixels
        picture.texture.use(0)

Frames go through pixel buffers, which the driver reads on its own time. A frame on the GPU that
draws is copied into them there (gl_cuda.py, which has not run on a GPU yet); where that can't be
done the log says why, once, and frames come by way of the CPU.

Where Mesa draws in software (llvmpipe), keep Triton out of the process: each brings an LLVM, and
the second to be loaded crashes. `fastgan.load` imports Triton on NVIDIA GPUs alone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgan.errors import ArgumentError, BackendError
from fastgan.host.closing import Closing

if TYPE_CHECKING:
    import moderngl
    from torch import Tensor

    from fastgan.realtime.outputs.gl_cuda import SharedBuffer

log = logging.getLogger("fastgan")


class GLTexture(Closing):
    """A sink for frames on the thread of an OpenGL context. Close it, or use it in a `with`.

    The picture's first row lies at v = 0, as it was uploaded: v grows downwards.

    Args:
        context: of moderngl, version 3.3 or later.
        height, width: pixels.
        channels: 1 (red alone, shown as grey), 2, 3 or 4.
        buffers: pixel buffers that are used in turn, so that none is written while it is read.

    Raises:
        ArgumentError: a size is out of range.
    """

    def __init__(
        self, context: moderngl.Context, height: int, width: int, channels: int, buffers: int = 2
    ) -> None:
        most = context.info["GL_MAX_TEXTURE_SIZE"]
        if not (0 < height <= most and 0 < width <= most and 1 <= channels <= 4 and buffers > 0):
            found = f"{width}x{height} pixels of {channels} channels, {buffers} buffers"
            needed = f"1 to {most} pixels a side, 1 to 4 channels, at least 1 buffer"
            raise ArgumentError("texture", found, needed)
        self._shape = (height, width, channels)
        self.texture = context.texture((width, height), channels, alignment=1)
        if channels == 1:
            self.texture.swizzle = "RRR1"
        size = height * width * channels
        self._buffers = [context.buffer(reserve=size, dynamic=True) for _ in range(buffers)]
        self._shared: list[SharedBuffer] | None = []  # with CUDA; None once that has failed
        self._written = 0
        self.index: int | None = None  # of the frame that it shows

    def write(
        self, frame: Tensor | NDArray[Any], index: int, produced_ns: int | None = None
    ) -> None:
        """Show a frame from now on.

        Args:
            frame: uint8 [H, W, C].
            index: its number in the walk.
            produced_ns: not used: a texture has no clock.

        Raises:
            ArgumentError: the frame is of another size or type.
        """
        given: Any = frame
        pixels: Any = given.detach() if hasattr(given, "detach") else np.asarray(given)
        if str(pixels.dtype).removeprefix("torch.") != "uint8" or pixels.shape != self._shape:
            found = f"{pixels.dtype} {list(pixels.shape)}"
            raise ArgumentError("frame", found, f"uint8 {list(self._shape)}")
        place = self._written % len(self._buffers)
        if not (_on_gpu(pixels) and self._share(place, pixels)):
            self._upload(place, pixels)
        self.texture.write(self._buffers[place], alignment=1)
        self._written += 1
        self.index = index

    def _upload(self, place: int, pixels: Any) -> None:
        buffer = self._buffers[place]
        if not self._shared:  # one that CUDA knows keeps its memory
            buffer.orphan()  # new memory, should the driver still be reading the old
        array = pixels.cpu().numpy() if hasattr(pixels, "cpu") else pixels
        buffer.write(np.ascontiguousarray(array))

    def _share(self, place: int, pixels: Tensor) -> bool:
        """Copy a frame on the GPU, there; false where that can't be done."""
        if self._shared is None:
            return False
        from fastgan.realtime.outputs.gl_cuda import SharedBuffer

        try:
            while len(self._shared) < len(self._buffers):
                buffer = self._buffers[len(self._shared)]
                self._shared.append(SharedBuffer(buffer, pixels.device))
            self._shared[place].write(pixels)
        except BackendError as error:
            log.warning("frames reach OpenGL by way of the CPU: %s", error)
            self._unshare()
            return False
        return True

    def _unshare(self) -> None:
        shared, self._shared = self._shared, None
        for one in shared or ():
            try:
                one.close()
            except BackendError as error:
                log.debug("a pixel buffer stays with CUDA: %s", error)

    def close(self) -> None:
        """Give the texture and its buffers back."""
        self._unshare()
        self.texture.release()
        for buffer in self._buffers:
            buffer.release()


def _on_gpu(pixels: Any) -> bool:
    return bool(getattr(pixels, "is_cuda", False))
