"""An OpenGL texture that shows the newest frame.

    context = moderngl.get_context()                      # of the window, on its thread
    with GLTexture(context, 256, 256, 3) as picture:
        picture.write(frame.picture, frame.index)         # a stream's frame, or a ring's pixels
        picture.texture.use(0)

Frames go through pixel buffers, which the driver reads on its own time. Frames that lie on a GPU
come by way of the CPU: sharing memory between CUDA and OpenGL has not been written yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    import moderngl
    from torch import Tensor


class GLTexture:
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
        self,
        context: moderngl.Context,
        height: int,
        width: int,
        channels: int,
        buffers: int = 2,
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
        pixels = given.detach().cpu().numpy() if hasattr(given, "detach") else np.asarray(given)
        if pixels.dtype != np.uint8 or pixels.shape != self._shape:
            found = f"{pixels.dtype} {list(pixels.shape)}"
            raise ArgumentError("frame", found, f"uint8 {list(self._shape)}")
        buffer = self._buffers[self._written % len(self._buffers)]
        buffer.orphan()  # new memory, should the driver still be reading the old
        buffer.write(np.ascontiguousarray(pixels))
        self.texture.write(buffer, alignment=1)
        self._written += 1
        self.index = index

    def close(self) -> None:
        """Give the texture and its buffers back."""
        self.texture.release()
        for buffer in self._buffers:
            buffer.release()

    def __enter__(self) -> GLTexture:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
