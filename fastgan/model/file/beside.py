"""Weights in files beside the model: read once, so that they are the loaded model's own.

A mapped file would change with the disk, and end the process where somebody cuts it short.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from fastgan.errors import ModelFileError
from fastgan.model.file.source import Source
from fastgan.model.late import LATE, LEAST, Late

#: Where bytes lie in a file: from which one on, and how many.
Range = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """A file beside a model, as it was read.

    Attributes:
        path: where it really is.
        size: of the whole file, in bytes.
        written: when, in nanoseconds.
        data: its bytes as far as the model uses them, read-only; what lies between is zero.
        ranges: these.
    """

    path: str
    size: int
    written: int
    data: npt.NDArray[np.uint8]
    ranges: tuple[Range, ...]

    def check(self) -> None:
        """Raises ModelFileError where the file is not what it was: touched alone, it is."""
        same = False
        with contextlib.suppress(OSError):
            status = os.stat(self.path)
            same = (status.st_size, status.st_mtime_ns) == (self.size, self.written)
            same = same or np.array_equal(_read(self.path, self.ranges).data, self.data)
        if not same:
            found = "a file that was changed since it was loaded"
            raise ModelFileError(self.path, found, "the same", "load the model again")


def read_range(path: str, offset: int, size: int) -> bytes:
    """These bytes of a file.

    Raises:
        OSError: it can't be read, or is too short by now.
    """
    with _open(path) as file:
        data = bytearray(size)
        file.seek(offset)
        _fill(file, memoryview(data))
        return bytes(data)


def hold(
    model: ir.Model, used: Mapping[str, tuple[str, Sequence[Range]]], source: Source
) -> dict[str, Beside]:
    """Read what a model uses of the files beside it, and give its tensors their data from there.

    Args:
        model: its external tensors are replaced, in place.
        used: for each location that the file gives: where that is, and which bytes are used.
        source: the model's own file.

    Returns:
        The files by the locations that the model gives them.

    Raises:
        ModelFileError: one can't be read, or is too short by now.
    """
    ranges: dict[str, list[Range]] = {}
    for path, parts in used.values():
        ranges.setdefault(path, []).extend(parts)
    files = {}
    for path, parts in ranges.items():
        try:
            files[path] = _read(path, parts)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise source.error(reason, "a file that can be read", at=f"'{path}'") from None
    for graph in _graphs(model.graph):
        for value in graph.initializers.values():
            value.const_value = _held(value.const_value, files)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if attribute.type == ir.AttributeType.TENSOR:
                    node.attributes[name] = ir.AttrTensor(name, _held(attribute.value, files))
                elif attribute.type == ir.AttributeType.TENSORS:
                    held = [_held(tensor, files) for tensor in attribute.value]
                    node.attributes[name] = ir.AttrTensors(name, held)
    return {location: files[path] for location, (path, _) in used.items()}


def _read(path: str, ranges: Sequence[Range]) -> Beside:
    """A file with these ranges of it read, each byte once."""
    with _open(path) as file:
        status = os.fstat(file.fileno())
        # Zeros take no memory until they are written to.
        data = np.zeros(max(offset + size for offset, size in ranges), np.uint8)
        done = 0
        for offset, size in sorted(ranges):
            first, last = max(offset, done), offset + size
            if first < last:
                file.seek(first)
                _fill(file, memoryview(data.data)[first:last])
                done = last
    data.flags.writeable = False
    return Beside(path, status.st_size, status.st_mtime_ns, data, tuple(ranges))


def _open(path: str) -> io.FileIO:
    # Without O_NONBLOCK a named pipe would keep us waiting for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = io.FileIO(os.open(path, flags))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("not a regular file")
    return file


def _fill(file: io.FileIO, place: memoryview) -> None:
    while len(place):
        count = file.readinto(place)
        if not count:
            raise OSError("shorter than it was")
        place = place[count:]


def _held(tensor: Any, files: Mapping[str, Beside]) -> Any:
    """An external tensor with its data in memory, which it shares with the file's; others as is."""
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    dtype, shape, offset = tensor.dtype, tensor.shape.numpy(), tensor.offset or 0
    if not tensor.size:
        return ir.Tensor(np.empty(shape, dtype.numpy()), dtype=dtype, name=tensor.name)
    data = files[os.path.abspath(tensor.path)].data[offset : offset + tensor.nbytes]
    if dtype.bitwidth < 8:
        proto = onnx.TensorProto(name=tensor.name, data_type=int(dtype), dims=shape)
        proto.raw_data = data.tobytes()
        return ir.serde.TensorProtoTensor(proto)
    kind = dtype.numpy().newbyteorder("<")
    if tensor.nbytes >= LEAST and dtype in LATE:
        identity = ("beside", os.path.abspath(tensor.path), offset, shape)

        def read() -> npt.NDArray[Any]:
            return data.copy().view(kind).reshape(shape)

        return Late(read, dtype, shape, identity, tensor.name)
    array = np.require(data.view(kind), requirements="A")
    return ir.Tensor(array.reshape(shape), dtype=dtype, shape=tensor.shape, name=tensor.name)


def _graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    todo = [graph]
    while todo:
        one = todo.pop()
        yield one
        for node in one:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:
                    todo.append(attribute.as_graph())
                elif attribute.type == ir.AttributeType.GRAPHS:
                    todo.extend(attribute.as_graphs())
