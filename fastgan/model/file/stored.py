"""Large weights of a model file: left where they are, and read when they are needed.

protobuf copies what it parses, and a plan has copies of its own; a model's weights would be held
three times before anything is computed. So the large ones are cut out of what is parsed, and each
is read, from the file or the bytes that were given, whenever its numbers are asked for.

No library finds where they lie: of a file of 111 MB protobuf's parser takes 106 MB more, also where
its schema lacks `raw_data`, its `UnknownFieldSet` 423, and onnx_ir and onnx parse all of it before
their tensors are lazy. upb can leave bytes in place, but not from Python, whose `decoder` is
private and reads one number at a time too; so fields are walked here, by tags and lengths alone.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from fastgan.errors import ModelFileError
from fastgan.host import files, forks
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

    def know(self, data: Any, ranges: Iterable[Range]) -> None:
        """See `Opened.know`: these can't change."""

    def read(self, offset: int, size: int) -> Any:
        """A copy of these bytes."""
        place = memory(size)
        place[:] = memoryview(self._data)[offset : offset + size]
        return place

    def whole(self) -> bytes:
        """All of them."""
        return self._data

    def holder(self) -> Callable[[], Any]:
        """What a `Late` takes for one."""
        return lambda: self


class Opened:
    """A file that stays open, so that it is this one whatever its name comes to mean.

    What is read is compared with what was there at first, by checksums: a file that was touched, or
    written anew with the same bytes, is still the one that was opened. So is one whose descriptor
    the program has closed, as daemons do with all that they have, if its name leads to it still.

    Args:
        descriptor: of a plain file; it is duplicated.
        path: of it.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._name, self._path = str(path), os.path.abspath(path)
        self._checksums: dict[Range, int] = {}
        self._lock = forks.renewed(threading.Lock())
        self._take(os.dup(descriptor))

    def know(self, data: Any, ranges: Iterable[Range]) -> None:
        """Keep checksums of what was read of the file.

        Args:
            data: all of its bytes.
            ranges: what will be read of them by itself, in order.
        """
        view, at = memoryview(data), 0
        for first, size in (*ranges, (len(view), 0)):
            for begin, end in ((at, first), (first, first + size)):
                if begin < end:
                    self._checksums[begin, end - begin] = zlib.crc32(view[begin:end])
            at = first + size

    def read(self, offset: int, size: int) -> Any:
        """A copy of these bytes: all of the file, or once that is known (`know`) one of its ranges.

        Raises:
            ModelFileError: they are others by now, or can't be read.
        """
        place = memory(size)
        try:
            with self._lock:
                self._find()
                done = self._fill(offset, place)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ModelFileError(self._name, reason, "a file that can be read") from None
        known = self._checksums.get((offset, size))
        if done < size or (known is not None and zlib.crc32(place) != known):
            raise self._changed()
        return place

    def whole(self) -> bytes:
        """All of the file, once it is known.

        Raises:
            ModelFileError: as `read`.
        """
        return b"".join(self.read(*each) for each in self._checksums)

    def holder(self) -> Callable[[], Any]:
        """What a `Late` takes for one: a graph, whose nodes hold each other, would keep it open."""
        return weakref.ref(self)

    def _changed(self) -> ModelFileError:
        found = "a file that was changed since it was loaded"
        return ModelFileError(self._name, found, "the same", "load it again")

    def _take(self, descriptor: int) -> None:
        """Read from this one, and close it in the end."""
        self._descriptor, self._identity = descriptor, _identity(descriptor)
        self._closing = weakref.finalize(self, _close, descriptor, self._identity)

    def _find(self) -> None:
        """Open the file again where its descriptor's number is no more, or another file's by now.

        Raises:
            OSError: it is not where it was.
        """
        if _identity(self._descriptor) == self._identity:
            return
        with files.open_plain(self._path) as file:
            self._closing.detach()
            self._take(os.dup(file.fileno()))

    def _fill(self, offset: int, place: Any) -> int:
        """Read into a place from there on; how many bytes there were."""
        done = 0
        while done < len(place):
            count = self._at(offset + done, place[done:])
            if not count:
                break
            done += count
        return done

    def _at(self, offset: int, place: Any) -> int:
        """The same as far as one call goes."""
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [place], offset)
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        found = os.read(self._descriptor, len(place))
        place[: len(found)] = found
        return len(found)


def _identity(descriptor: int) -> tuple[int, int] | None:
    """Which file it is of; None where it is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _close(descriptor: int, identity: tuple[int, int] | None) -> None:
    """Close a descriptor, unless its number is another file's by now."""
    if _identity(descriptor) == identity is not None:
        os.close(descriptor)


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
        dtype, shape = ir.DataType(tensor.data_type), tuple(tensor.dims)
        assert self.store is not None
        holder, kind = self.store.holder(), dtype.numpy().newbyteorder("<")

        def read() -> Array:
            store = holder()
            assert store is not None, "a weight of a model that is gone"
            return np.frombuffer(store.read(offset, size), kind).reshape(shape)

        return Late(read, dtype, shape, ("stored", offset, size, shape), tensor.name, holder)


def split(data: Any, store: Store) -> Split:
    """A model's bytes without the data of its large initializers.

    What is not plainly laid out as exporters do, with each field once, is left as it is; so is all
    that is no model: the parser says what is wrong with it.

    Args:
        data: all bytes.
        store: has them too, and is to know them.
    """
    found = None
    if len(data) >= LEAST and sys.byteorder == "little":
        with contextlib.suppress(_OddError):
            found = _split(memoryview(data), store)
    if found is None:
        found = Split(data)
    store.know(data, found.cut.values())
    return found


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
