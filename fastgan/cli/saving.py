"""Images to files while the next ones are made: a few threads behind a bounded queue."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.errors import ArgumentError
from fastgan.host.files import whole
from fastgan.images.formats import WRITTEN
from fastgan.measure import machine

FORMATS = (*WRITTEN, "npy")
_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}

Array = np.ndarray[Any, Any]


def check_format(format: str) -> None:
    """Raise ArgumentError unless files can be written in `format`."""
    if format not in FORMATS:
        raise ArgumentError("--format", repr(format), ", ".join(FORMATS))


def check_channels(format: str, channels: int) -> None:
    """Raise ArgumentError unless `format` holds pictures of so many channels."""
    opaque = [name for name, written in WRITTEN.items() if not written.alpha]
    if channels not in _CHANNELS or (channels == 4 and format in opaque):
        needed = f"1 (grey), 3 (RGB) or 4 (RGBA, not in a {' or '.join(opaque)})"
        raise ArgumentError(f"--format {format}", f"{channels} channels", needed, "use npy")


def write(path: Path, array: Array, facts: dict[str, Any] | None = None) -> None:
    """Write one file, whole or not at all; one that is there already is replaced.

    Args:
        path: its suffix is the format.
        array: uint8 [H, W, C] for a picture; anything for npy.
        facts: how it was made, for a picture to say.
    """
    if path.suffix == ".npy":
        with whole(path) as file:
            np.save(file, array)
        return
    from PIL import Image

    from fastgan.images import files  # a command's help does not wait for torch

    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    files.write(path, image, facts=facts)


class Saver:
    """Writes arrays to files on threads of its own.

        with Saver() as saver:
            saver.put(path, array)

    `put` waits while `waiting` files are unwritten, so that memory stays bounded. The first error
    of a thread is raised by the next `put`, or on the way out; files after it are not begun.

    Attributes:
        written: how many files are whole.
    """

    def __init__(self, threads: int | None = None, waiting: int = 64) -> None:
        self._pool = ThreadPoolExecutor(threads or min(8, machine.cores()), "fastgan-save")
        self._room = threading.BoundedSemaphore(waiting)
        self._error: BaseException | None = None
        self._count = threading.Lock()
        self.written = 0

    def put(self, path: Path, array: Array, facts: dict[str, Any] | None = None) -> None:
        """Write `array` to `path` soon; the array must not change from now on."""
        self._room.acquire()
        if self._error is not None:
            self._room.release()
            raise self._error
        self._pool.submit(self._write, path, array, facts).add_done_callback(self._done)

    def _write(self, path: Path, array: Array, facts: dict[str, Any] | None) -> None:
        if self._error is None:
            write(path, array, facts)
            with self._count:
                self.written += 1

    def _done(self, future: Future[None]) -> None:
        if future.cancelled():
            return
        self._error = self._error or future.exception()
        self._room.release()

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        # After an error or Ctrl-C, files that are not begun are dropped; begun ones are finished.
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None and self._error is not None:
            raise self._error


class Grid:
    """One picture of columns x rows cells, filled row by row; cells without an image stay black."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._canvas: Array | None = None
        self._next = 0

    def add(self, image: Array) -> None:
        """Put an image [H, W, C] into the next cell."""
        height, width, channels = image.shape
        if self._canvas is None:
            import torch  # a command's help does not wait for it

            from fastgan.host import memory

            needed = self.rows * self.columns * image.nbytes
            cells = f"{self.columns}x{self.rows} images"
            memory.require("--grid", needed, cells, torch.device("cpu"), "take fewer cells")
            self._canvas = np.zeros((self.rows * height, self.columns * width, channels), np.uint8)
        row, column = divmod(self._next, self.columns)
        top, left = row * height, column * width
        self._canvas[top : top + height, left : left + width] = image
        self._next += 1

    @property
    def picture(self) -> Array:
        """uint8 [rows * H, columns * W, C]."""
        assert self._canvas is not None, "no image was added"
        return self._canvas
