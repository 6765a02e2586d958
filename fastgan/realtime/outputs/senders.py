"""Frames to stage software on the network (NDI) or on the same Windows machine (Spout).

NDI was tried with cyndilib 0.1.3, frames received by another process (tests/realtime/test_ndi.py).
Spout has not been tried, which takes Windows: its calls were read against the package's source
(SpoutGL 0.1.1), and tests hold them against a stand-in.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import ArgumentError, BackendError
from fastgan.host.closing import Closing

_GL_RGBA = 0x1908


class NdiSender(Closing):
    """A sink that any NDI receiver on the network sees under a name; needs `cyndilib`.

    Args:
        name: what receivers list.
        fps: what they are told; frames are sent as they come. NDI compresses them, with loss.
            Frames of another size than before are a new source of the same name, which receivers
            find within about a second.

    Raises:
        BackendError: cyndilib is not installed.
    """

    def __init__(self, name: str, fps: float) -> None:
        try:
            from cyndilib.sender import Sender
            from cyndilib.video_frame import VideoSendFrame
            from cyndilib.wrapper.ndi_structs import FourCC
        except ImportError as error:
            raise BackendError("NDI", str(error), "pip install cyndilib") from None
        # A clock of its own would make the stream wait for it.
        self._sender: Any = Sender(name, clock_video=False)
        self._frame: Any = VideoSendFrame()
        self._frame.set_fourcc(FourCC.RGBA)
        self._frame.set_frame_rate(Fraction(fps).limit_denominator(1001))
        self._size: tuple[int, int] | None = None

    def write(self, frame: Tensor, index: int, produced_ns: int) -> None:
        """Send a picture, uint8 [H, W, C]."""
        picture = rgba(frame)
        size = (picture.shape[1], picture.shape[0])
        if size != self._size:
            self._open(size)
        self._sender.write_video_async(picture.reshape(-1))

    def _open(self, size: tuple[int, int]) -> None:
        """Go on the air, or again: the package's frame keeps its size while it is sent."""
        if self._size is not None:
            self._sender.close()
        self._frame.set_resolution(*size)
        if self._size is None:
            self._sender.set_video_frame(self._frame)
        self._sender.open()
        self._size = size

    def close(self) -> None:
        """Go off the air."""
        if self._size is not None:
            self._sender.close()
            self._size = None


class SpoutSender(Closing):
    """A sink that any Spout receiver on this Windows machine sees; needs `SpoutGL`.

    Args:
        name: what receivers list.

    Raises:
        BackendError: SpoutGL is not installed.
    """

    def __init__(self, name: str) -> None:
        try:
            import SpoutGL
        except ImportError as error:
            raise BackendError("Spout", str(error), "Windows, and pip install SpoutGL") from None
        self._name = name
        self._sender: Any = SpoutGL.SpoutSender()
        self._sender.setSenderName(name)

    def write(self, frame: Tensor, index: int, produced_ns: int) -> None:
        """Send a picture, uint8 [H, W, C]."""
        picture = rgba(frame)
        height, width = picture.shape[:2]
        # The wrapper calls its second argument the height, and hands it on as the width.
        if not self._sender.sendImage(picture.tobytes(), width, height, _GL_RGBA, False, 0):
            raise BackendError("Spout", f"{width}x{height} pixels refused", "DirectX 11")
        self._sender.setFrameSync(self._name)

    def close(self) -> None:
        """Take the name off the list."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.releaseSender()


def rgba(frame: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A grey, RGB or RGBA picture as RGBA, uint8 [H, W, 4]."""
    channels = frame.shape[2]
    if channels not in (1, 3, 4):
        raise ArgumentError("frame", f"{channels} channels", "1 (grey), 3 (RGB) or 4 (RGBA)")
    frame = frame.cpu()
    if channels != 4:
        opaque = torch.full_like(frame[:, :, :1], 255)
        frame = torch.cat([frame.expand(-1, -1, 3), opaque], 2)
    return np.ascontiguousarray(frame.numpy())
