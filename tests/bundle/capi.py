"""fastgan.h by ctypes: a caller that knows nothing of the package."""

from __future__ import annotations

import ctypes as c
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

FLOAT32, UINT8 = 0, 1
OK, ARGUMENT, FILE, DAMAGED, FORMAT, MEMORY, MISSING, BUSY, CANCELLED = range(9)


class Settings(c.Structure):
    _fields_ = [
        ("size", c.c_uint32), ("threads", c.c_int32), ("batch", c.c_int64), ("height", c.c_int64),
        ("width", c.c_int64), ("format", c.c_int),
    ]  # fmt: skip


class Program(c.Structure):
    _fields_ = [
        (name, c.c_int64)
        for name in ("batch", "height", "width", "channels", "in_height", "in_width", "in_channels")
    ]


class Request(c.Structure):
    _fields_ = [
        ("size", c.c_uint32), ("count", c.c_int64), ("seed", c.c_uint64), ("start", c.c_uint64),
        ("truncation", c.c_double), ("labels", c.POINTER(c.c_int64)),
        ("latents", c.POINTER(c.c_float)),
    ]  # fmt: skip


class Tensor(c.Structure):
    _fields_ = [("name", c.c_char_p), ("data", c.POINTER(c.c_float)), ("count", c.c_size_t)]


class Error(Exception):
    """A status that is not OK, and its sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


def library_path() -> Path | None:
    """The library beside the package, where it was built."""
    spec = importlib.util.find_spec("fastgan")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "libfastgan.so.1"
    return path if path.exists() else None


class Library:
    """The functions, each of which raises `Error`."""

    def __init__(self, path: Path) -> None:
        self._library = c.CDLL(str(path))
        self._library.fastgan_message.restype = c.c_char_p
        self._library.fastgan_latent_size.restype = c.c_size_t

    def __call__(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, f"fastgan_{name}")(*arguments)
        if status != OK:
            raise Error(status, self._library.fastgan_message().decode())

    def open(self, path: Path) -> c.c_void_p:
        model = c.c_void_p()
        self("open", str(path).encode(), None, c.byref(model))
        return model

    def session(self, path: Path, **settings: int) -> Session:
        model, handle = self.open(path), c.c_void_p()
        given = Settings(size=c.sizeof(Settings), **settings)
        try:
            self("prepare", model, c.byref(given), c.byref(handle))
        finally:
            self._library.fastgan_close(model)
        return Session(self, handle, settings.get("format", FLOAT32))


class Session:
    """A prepared model."""

    def __init__(self, library: Library, handle: c.c_void_p, format: int) -> None:
        self._call, self._handle = library, handle
        self._type = np.float32 if format == FLOAT32 else np.uint8
        self.program, size = Program(), c.c_uint64()
        library("describe_session", handle, c.byref(self.program), c.byref(size))
        self.image_bytes = size.value

    def close(self) -> None:
        self._call._library.fastgan_release(self._handle)

    def _room(self, n: int) -> np.ndarray:
        return np.full(n * self.image_bytes // self._type().itemsize, 99, self._type)

    def generate(
        self,
        n: int,
        labels: Any = None,
        latents: Any = None,
        room: np.ndarray | None = None,
        **request: Any,
    ) -> np.ndarray:
        out = self._room(n) if room is None else room
        if labels is not None:
            array = np.ascontiguousarray(labels, np.int64)
            request["labels"] = array.ctypes.data_as(c.POINTER(c.c_int64))
        if latents is not None:
            rows = np.ascontiguousarray(latents, np.float32)
            request["latents"] = rows.ctypes.data_as(c.POINTER(c.c_float))
        given = Request(size=c.sizeof(Request), count=n, **request)
        pointer = out.ctypes.data_as(c.c_void_p)
        self._call("generate", self._handle, c.byref(given), pointer, c.c_size_t(out.nbytes))
        return out

    def latents(self, n: int, seed: int, start: int = 0, truncation: float = 0) -> np.ndarray:
        size = self._call._library.fastgan_latent_size(self._handle)
        out = np.empty((n, size), np.float32)
        self._call(
            "latents", self._handle, c.c_uint64(seed), c.c_uint64(start), c.c_int64(n),
            c.c_double(truncation), out.ctypes.data_as(c.POINTER(c.c_float)),
            c.c_size_t(out.nbytes),
        )  # fmt: skip
        return out

    def set(self, name: str, values: Any) -> None:
        array = np.ascontiguousarray(values, np.float32).reshape(-1)
        pointer = array.ctypes.data_as(c.POINTER(c.c_float))
        self._call("set", self._handle, name.encode(), pointer, c.c_size_t(array.size))

    def apply(self, images: np.ndarray) -> np.ndarray:
        given = np.ascontiguousarray(images, self._type)
        out = self._room(len(images))
        self._call(
            "apply", self._handle, given.ctypes.data_as(c.c_void_p), c.c_size_t(given.nbytes),
            c.c_int64(len(images)), out.ctypes.data_as(c.c_void_p), c.c_size_t(out.nbytes),
        )  # fmt: skip
        return out

    def apply_tiled(self, image: np.ndarray, pad: int, shape: tuple[int, ...]) -> np.ndarray:
        """An image [height, width, channels], or [channels, height, width] of float32."""
        given, out = np.ascontiguousarray(image, self._type), np.full(shape, 99, self._type)
        height, width = given.shape[:2] if self._type is np.uint8 else given.shape[1:]
        self._call(
            "apply_tiled", self._handle, given.ctypes.data_as(c.c_void_p), c.c_size_t(given.nbytes),
            c.c_int64(height), c.c_int64(width), c.c_int64(pad), out.ctypes.data_as(c.c_void_p),
            c.c_size_t(out.nbytes),
        )  # fmt: skip
        return out

    def run(
        self, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        both = []
        kept = [np.ascontiguousarray(x, np.float32) for x in inputs.values()]
        for names, arrays in ((inputs, kept), (outputs, list(outputs.values()))):
            tensors = (Tensor * len(arrays))()
            for tensor, name, array in zip(tensors, names, arrays, strict=True):
                tensor.name, tensor.count = name.encode(), array.size
                tensor.data = array.ctypes.data_as(c.POINTER(c.c_float))
            both += [tensors, c.c_int32(len(arrays))]
        self._call("run", self._handle, *both)
        return outputs

    def cancel(self) -> None:
        self._call._library.fastgan_cancel(self._handle)
