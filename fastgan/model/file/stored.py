"""Large weights of a model file: left where they are, and read when they are needed.

protobuf copies what it parses, and a plan has copies of its own; a model's weights would be held
three times before anything is computed. So the large ones are cut out of what is parsed, and each
is read, from the file or the bytes that were given, whenever its numbers are asked for.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from fastgan.errors import ModelFileError
from fastgan.host import forks
from fastgan.model.late import LATE, LEAST, Array, Late

#: Memory of so many bytes is the system's own.
_MAPPED = 1 << 18

#: Where bytes lie: from which one on, and how many.
Range = tuple[int, int]

#: Fields that are looked at one by one; a file of more is parsed whole.
_MOST_FIELDS = 1 << 17

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH, _FUNCTIONS = 7, 25  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_DATA_TYPE, _RAW_DATA, _EXTERNAL, _LOCATION = 2, 9, 13, 14  # of TensorProto


def memory(size: int) -> Any:
    """So many bytes of memory that go back to the system when the last view of them does.

    What `malloc` gets back it often keeps, in pieces.
    """
    if size < _MAPPED:
        return memoryview(bytearray(size))
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return memoryview(mmap.mmap(-1, size))
    # A child of fork() has pages of its own, as of any other memory.
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class Given:
    """Bytes that were given."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, offset: int, size: int) -> Any:
        """A copy of these bytes."""
        place = memory(size)
        place[:] = memoryview(self._data)[offset : offset + size]
        return place

    def whole(self) -> bytes:
        """All of them."""
        return self._data


class Opened:
    """A file that stays open, so that it is this one whatever its name comes to mean.

    Args:
        descriptor: of a plain file; it is duplicated.
        path: for messages.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._path, self._descriptor = path, os.dup(descriptor)
        weakref.finalize(self, os.close, self._descriptor)
        self._stamp, self._lock = self._now(), forks.renewed(threading.Lock())

    def read(self, offset: int, size: int) -> Any:
        """A copy of these bytes.

        Raises:
            ModelFileError: they are others by now, or can't be read.
        """
        place = memory(size)
        done = 0
        try:
            while done < size:
                count = self._at(offset + done, place[done:])
                if not count:
                    break
                done += count
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ModelFileError(str(self._path), reason, "a file that can be read") from None
        if done < size or self._now() != self._stamp:
            found = "a file that was changed since it was loaded"
            raise ModelFileError(str(self._path), found, "the same", "load it again")
        return place

    def whole(self) -> bytes:
        """All of the file.

        Raises:
            ModelFileError: as `read`.
        """
        return bytes(self.read(0, self._stamp[0]))

    def _at(self, offset: int, place: Any) -> int:
        """Fill a place from there on, as far as one call goes; how many bytes that were."""
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [place], offset)
        with self._lock:  # which Windows needs
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            found = os.read(self._descriptor, len(place))
        place[: len(found)] = found
        return len(found)

    def _now(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns


Store = Given | Opened


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A model's bytes without its large weights.

    Attributes:
        message: what is left, which is a model still.
        cut: of the initializers by their number: where in the file their `raw_data` lie.
        store: has the bytes of the file.
    """

    message: Any
    cut: Mapping[int, Range] = field(default_factory=dict)
    store: Store | None = None

    def size(self, index: int | None) -> int | None:
        """Bytes of an initializer that was cut out; None of any other."""
        return None if index is None or index not in self.cut else self.cut[index][1]

    def put(self, model: ir.Model, proto: onnx.ModelProto) -> None:
        """Give the weights of the model that was made of this message their numbers."""
        for index, (offset, size) in self.cut.items():
            tensor = proto.graph.initializer[index]
            value = model.graph.initializers[tensor.name]
            value.const_value = self._tensor(tensor, offset, size)

    def joined(self, proto: onnx.ModelProto) -> bytes:
        """The bytes of a message that was made of this one, weights and all."""
        if not self.cut:
            return proto.SerializeToString()
        assert self.store is not None
        whole = onnx.ModelProto()
        whole.CopyFrom(proto)
        for index, place in self.cut.items():
            whole.graph.initializer[index].raw_data = bytes(self.store.read(*place))
        return whole.SerializeToString()

    def _tensor(self, tensor: onnx.TensorProto, offset: int, size: int) -> Late:
        store, dtype, shape = self.store, ir.DataType(tensor.data_type), tuple(tensor.dims)
        assert store is not None
        kind = dtype.numpy().newbyteorder("<")

        def read() -> Array:
            return np.frombuffer(store.read(offset, size), kind).reshape(shape)

        return Late(read, dtype, shape, ("stored", offset, size, shape), tensor.name)


def split(data: Any, store: Store) -> Split:
    """A model's bytes without the data of its large initializers.

    What is not plainly laid out as exporters do, with each field once, is left as it is; so is all
    that is no model: the parser says what is wrong with it.

    Args:
        data: all bytes.
        store: has them too.
    """
    whole = Split(data)
    if len(data) < LEAST or sys.byteorder != "little":
        return whole
    try:
        return _split(memoryview(data), store) or whole
    except _OddError:
        return whole


class _OddError(Exception):
    """Bytes that are laid out otherwise."""


class _Fields:
    """The fields of a message: (number, kind, where it begins, where its value begins, its end)."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.left = data, _MOST_FIELDS

    def of(self, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
        """One after another: all at once they would take many times the memory of the bytes."""
        while at < end:
            begin = at
            tag, at = self._number(at, end)
            kind = tag & 7
            if kind == _BYTES:
                size, at = self._number(at, end)
            elif kind == _VARINT:
                size = self._number(at, end)[1] - at
            elif kind in (_FIXED64, _FIXED32):
                size = 8 if kind == _FIXED64 else 4
            else:
                raise _OddError
            self.left -= 1
            if at + size > end or not self.left:
                raise _OddError
            yield tag >> 3, kind, begin, at, at + size
            at += size

    def _number(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 64:
            byte = self.data[at]
            value |= (byte & 127) << shift
            at += 1
            if byte < 128:
                return value, at
            shift += 7
        raise _OddError


def _split(data: memoryview, store: Store) -> Split | None:
    fields = _Fields(data)
    outer = list(fields.of(0, len(data)))
    graphs = [each for each in outer if each[0] == _GRAPH]
    if len(graphs) != 1 or graphs[0][1] != _BYTES or any(each[0] == _FUNCTIONS for each in outer):
        return None
    _, _, begin, first, last = graphs[0]
    pieces: list[Any] = []
    cut: dict[int, Range] = {}
    index, done = 0, first
    for number, kind, start, at, end in fields.of(first, last):
        if number != _INITIALIZER:
            continue
        place = _raw_data(fields, at, end) if kind == _BYTES and end - at >= LEAST else None
        if place is not None:
            field_at, value_at, value_end = place
            cut[index] = (value_at, value_end - value_at)
            rest = (at, field_at), (value_end, end)
            head = _tag(_INITIALIZER) + _written(end - at - (value_end - field_at))
            pieces += [data[done:start], head, *(data[a:b] for a, b in rest)]
            done = end
        index += 1
    if not cut:
        return None
    pieces.append(data[done:last])
    graph = sum(map(len, pieces))
    head = _tag(_GRAPH) + _written(graph)
    return Split(b"".join([data[:begin], head, *pieces, data[last:]]), cut, store)


def _raw_data(fields: _Fields, at: int, end: int) -> tuple[int, int, int] | None:
    """Where a tensor's data lie: the field, their first byte, and their end; None if otherwise."""
    inner = list(fields.of(at, end))
    by_number = {each[0]: each for each in inner}
    raw, kind = by_number.get(_RAW_DATA), by_number.get(_DATA_TYPE)
    once = len([each for each in inner if each[0] in (_RAW_DATA, _DATA_TYPE)]) == 2
    if raw is None or kind is None or not once or raw[1] != _BYTES or kind[1] != _VARINT:
        return None
    beside = _EXTERNAL in by_number or _LOCATION in by_number
    if beside or fields.data[kind[3]] not in LATE or raw[4] - raw[3] < LEAST:
        return None
    return raw[2], raw[3], raw[4]


def _tag(number: int) -> bytes:
    return bytes([number << 3 | _BYTES])


def _written(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)
