"""Frames that never leave the GPU: a ring whose slots lie in one allocation there.

    with CudaRingWriter("/faces", 256, 256, 3, device="cuda:0") as ring:
        stream.into(ring)                                    # a generator's frames, on that GPU

    with CudaRingReader("/faces") as ring:                   # in another process
        frame = ring.next(timeout=1.0)
        frame.pixels                                         # a torch tensor on the GPU

Sequence numbers, times, controls, waiting and takeover are those of the ring in shared memory;
docs/frames.md says what differs. **It has not run on a GPU yet.**
"""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from torch import Tensor

from fastgan.errors import ArgumentError, RingError
from fastgan.realtime.ring import cuda_memory
from fastgan.realtime.ring.cuda_memory import Pool
from fastgan.realtime.ring.reader import RingFrame, RingReader
from fastgan.realtime.ring.words import FORMATS, WORD, RingShape, closed, explained, native
from fastgan.realtime.ring.writer import RingWriter

log = logging.getLogger("fastgan")

#: Slots begin at multiples of this: what CUDA's own allocations and texture copies are aligned to.
_ALIGNMENT = 512
#: What `close` gives readers to let go of the memory, and how often it looks.
_GRACE_SECONDS, _LOOK_SECONDS = 0.5, 0.005
_TYPES = {"uint8": torch.uint8, "float32": torch.float32}


class CudaRingWriter(RingWriter):
    """The one producer of a ring on a GPU: a sink for frames. Close it, or use it in a `with`.

    A frame is copied into its slot, and put up when that copy has ended: readers then need no event
    of ours, which would be void once its producer has died. The copy stays on the GPU. Readers of a
    dead producer are sent to the new ring, whose memory is another.

    Args:
        device: the GPU, such as "cuda:0"; all others as of `RingWriter`, but at most 32 slots.

    Raises:
        BackendError: no cuda.bindings, or CUDA refuses.
        ArgumentError, RingError: as `RingWriter`.
    """

    _DEVICE = "cuda"

    def __init__(self, *arguments: Any, device: str | torch.device = "cuda:0", **options: Any):
        chosen = torch.device(device)
        if chosen.type != "cuda":
            raise ArgumentError("device", repr(str(device)), "a GPU, such as cuda:0")
        self._device = torch.device("cuda", chosen.index or 0)
        self._pool: Pool | None = None
        self._slots: list[Tensor] = []
        try:
            super().__init__(*arguments, **options)
        except BaseException:  # nobody can have opened it
            if self._pool is not None:
                self._pool.close()
            raise

    def _prepare(self, slots: int) -> tuple[bytes, int, int, bytes]:
        stride = _stride(self.shape)
        self._pool = Pool.allocate(slots * stride, self._device)
        self._slots = _slots(self._pool, self.shape, slots, stride)
        uuid, handle = cuda_memory.uuid_of(self._device), self._pool.handle
        return uuid, slots * stride, stride, handle

    def write(self, frame: Any, index: int, produced_ns: int | None = None) -> None:
        """Copy a frame into the ring, where readers find it at once.

        Args:
            frame: uint8 [H, W, C], or float32 [C, H, W], as the ring's format says; from any
                device, though one that is not this GPU is slower.
            index: its number in the walk.
            produced_ns: when it was ready, by `time.monotonic_ns`; None for now.

        Raises:
            ArgumentError: the frame is of another size or type.
        """
        values = frame.detach() if isinstance(frame, Tensor) else torch.as_tensor(frame)
        planes = self.shape.format == "float32"
        rows = values.permute(1, 2, 0) if planes and values.dim() == 3 else values
        if values.dtype != _TYPES[self.shape.format] or tuple(rows.shape) != self.shape.sizes:
            height, width, channels = self.shape.sizes
            needed = [channels, height, width] if planes else [height, width, channels]
            found = f"{values.dtype} {list(values.shape)}"
            raise ArgumentError("frame", found, f"{self.shape.format} {needed}")
        when = time.monotonic_ns() if produced_ns is None else produced_ns
        with self._lock:
            if self._closed:
                raise closed(self.name)
            slot = self._writer.begin()
            self._slots[slot].copy_(rows, non_blocking=True)
            cuda_memory.synchronise(self._device)
            self._writer.end(index & WORD, self.seed & WORD, when)

    def close(self) -> None:
        """Tell the readers that it was the last frame, and free the memory.

        Readers get half a second to let go of it. Where one does not, it is only freed when this
        process ends, since CUDA does not say what becomes of a reader otherwise.
        """
        with self._lock:
            pool, self._pool, self._slots = self._pool, None, []
            if not self._closed:
                self._closed = True
                self._writer.retire()
                limit = time.monotonic() + _GRACE_SECONDS
                while used := self._writer.has_readers():
                    if time.monotonic() >= limit:
                        break
                    time.sleep(_LOOK_SECONDS)
                self._writer.close()
                if used:
                    log.warning("ring %r: a reader has its memory open: kept to the end", self.name)
                    return
        if pool is not None:
            pool.close()


class CudaRingReader(RingReader):
    """One of the readers of a ring on a GPU, in another process than the producer's.

    Args:
        name, shape, control, timeout: as of `RingReader`.

    Raises:
        ArgumentError, RingError: as `RingReader`; or the ring's frames are not on a GPU.
        BackendError: no cuda.bindings, another GPU, or CUDA refuses.
    """

    _ON_GPU = True

    def __init__(self, name: str, **options: Any) -> None:
        self._pool: Pool | None = None
        self._slots: list[Tensor] = []
        self._lost = 0
        super().__init__(name, **options)
        try:
            if self.shape.device != "cuda":
                found = "frames in shared memory"
                raise RingError(f"ring {name!r}", found, "frames on a GPU", "take RingReader")
            self._map()
        except native().FramesError as error:
            self.close()
            raise explained(error, name, self.shape) from None
        except BaseException:
            self.close()
            raise

    def next(
        self, timeout: float = 1.0, *, every: bool = False, copy: bool = True
    ) -> RingFrame | None:
        """The newest frame that was not delivered yet; None if there is none within `timeout` s.

        Args:
            timeout, every: as of `RingReader.next`.
            copy: give a copy of one's own, made on the GPU, whole or not at all: one that the
                producer began to overwrite meanwhile counts as skipped. False gives the slot
                itself, without a copy: use it, `torch.cuda.synchronize`, and ask `holds` whether
                all that was read was that frame.

        Raises:
            RingError: a new producer's frames are of another shape.
            BackendError: CUDA refuses.
        """

        def take(ns: int) -> RingFrame | None:
            reader = self._live()
            if self._pool is None:
                self._map()
            found = reader.next(None, every, ns)
            if found is None:
                return None
            sequence, skipped, *rest = found
            pixels = self._slots[(sequence - 1) % len(self._slots)]
            if copy:
                pixels = pixels.clone()
                cuda_memory.synchronise(self._device)
                if not reader.holds(sequence):
                    self._lost += skipped + 1
                    return None
            skipped, self._lost = skipped + self._lost, 0
            return RingFrame(pixels, sequence, skipped, *rest)

        found: RingFrame | None = self._next(timeout, take)
        return found

    def holds(self, frame: RingFrame) -> bool:
        """Whether a frame without a copy was there, whole, up to now."""
        with self._lock:
            return bool(self._live().holds(frame.sequence))

    def _map(self) -> None:
        uuid, size, stride, handle = self._reader.cuda
        self._device = cuda_memory.device_of(uuid)
        self._pool = Pool.open(handle, size, self._device)
        self._slots = _slots(self._pool, self.shape, self.slots, stride)

    def _leave(self) -> None:
        """Frames without a copy are void from here on."""
        pool, self._pool, self._slots = self._pool, None, []
        if pool is not None:
            cuda_memory.synchronise(self._device)
            pool.close()


def _stride(shape: RingShape) -> int:
    size = FORMATS[shape.format][1].itemsize
    for side in shape.sizes:
        size *= side
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _slots(pool: Pool, shape: RingShape, slots: int, stride: int) -> list[Tensor]:
    """The frames [H, W, C] in a pool, each where it lies."""
    assert pool.memory is not None
    height, width, channels = shape.sizes
    values = pool.memory.view(_TYPES[shape.format])
    size, step = height * width * channels, stride // values.element_size()
    return [values[i * step : i * step + size].view(height, width, channels) for i in range(slots)]
