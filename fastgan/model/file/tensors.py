"""Whether a weight holds as many bytes as it claims, here or in a file beside the model."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnx import TensorProto

from fastgan.errors import FastganError, LimitError
from fastgan.limits import Limits, size_text
from fastgan.model.file.attributes import RANK
from fastgan.model.file.beside import Range, read_range
from fastgan.model.file.constants import SMALL
from fastgan.model.file.source import Source

# Bits of one element; a string's 8 stand for at least a byte of text. By name, since the oldest
# onnx that we run with does not know the newest types.
_BITS = {
    **dict.fromkeys(("COMPLEX128",), 128),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64", "COMPLEX64"), 64),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 32),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("INT8", "UINT8", "BOOL", "STRING", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ"), 8),
    **dict.fromkeys(("FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"), 8),
    **dict.fromkeys(("FLOAT6E2M3", "FLOAT6E3M2"), 6),
    **dict.fromkeys(("INT4", "UINT4", "FLOAT4E2M1"), 4),
    **dict.fromkeys(("INT2", "UINT2"), 2),
}
_NUMBERS: dict[str, int] = dict(TensorProto.DataType.items())
BITS: dict[int, int] = {_NUMBERS[name]: bits for name, bits in _BITS.items() if name in _NUMBERS}

# field -> {data type: entries for one element}; int32_data packs what is narrower than a byte.
_FIELDS: dict[str, dict[int, float]] = {
    "float_data": {TensorProto.FLOAT: 1, TensorProto.COMPLEX64: 2},
    "double_data": {TensorProto.DOUBLE: 1, TensorProto.COMPLEX128: 2},
    "uint64_data": {TensorProto.UINT64: 1, TensorProto.UINT32: 1},
    "int64_data": {TensorProto.INT64: 1},
    "string_data": {TensorProto.STRING: 1},
}
_WIDE = {data_type for types in _FIELDS.values() for data_type in types}
_FIELDS["int32_data"] = {t: min(bits, 8) / 8 for t, bits in BITS.items() if t not in _WIDE}


def type_name(data_type: int) -> str:
    """A data type's name for messages: "float16", or its number where ONNX has no such type."""
    if data_type in TensorProto.DataType.values():
        return str(TensorProto.DataType.Name(data_type)).lower()
    return f"data type {data_type}"


class Tensors:
    """Checks tensors one by one, and keeps the total.

    Attributes:
        total: bytes of all tensors so far.
        root: the folder that external tensors' locations are relative to once they are checked.
        inlined: whether external data was read into the message: a runtime, too, wants the shape of
            a Reshape there.
        used: for each location of external data: where that is, and which bytes of it are used.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source, self.limits = source, limits
        self.total = 0
        self.inlined = False
        self.used: dict[str, tuple[str, list[Range]]] = {}
        self._sizes: dict[str, tuple[str, int]] = {}
        self._folders: tuple[Path, ...] = ()
        if source.path is not None:
            # A hub's cache links both the model and its data to where they really are, so that the
            # folder of the real model is the model's folder as well.
            given, real = source.path.absolute().parent.resolve(), source.path.resolve().parent
            self._folders = (given,) if given == real else (given, real)
        self.root = os.path.commonpath(self._folders) if self._folders else ""

    def check(self, tensor: TensorProto, what: str, cut: int | None = None) -> tuple[int, ...]:
        """The shape of `tensor`, called `what` in messages, whose data is as long as that says.

        cut: the bytes of its `raw_data` where these were cut out of the message.
        """
        shape = tuple(tensor.dims)
        if tensor.data_type not in BITS:
            raise self._error(what, type_name(tensor.data_type), "a tensor data type of ONNX")
        if len(shape) > RANK or any(size < 0 for size in shape):
            needed = f"at most {RANK} sizes, none negative"
            raise self._error(what, f"shape {_shape_text(shape)}", needed)
        count = math.prod(shape)
        size = -(-count * BITS[tensor.data_type] // 8)
        self.total += size
        if self.total > self.limits.tensor_bytes:
            raise LimitError(
                f"{self.source.name}: {what}",
                f"shape {_shape_text(shape)}, {size_text(self.total)} of weights with it",
                f"at most {size_text(self.limits.tensor_bytes)} (Limits.tensor_bytes)",
            )
        if tensor.HasField("segment"):
            raise self._error(what, "a segmented tensor", "one with its data in one place")
        if tensor.data_location == TensorProto.EXTERNAL:
            self._check_external(tensor, what, count, size)
        else:
            self._check_inside(tensor, what, count, size, cut)
        return shape

    def _check_inside(
        self, tensor: TensorProto, what: str, count: int, size: int, cut: int | None
    ) -> None:
        """Whether exactly one field holds the data, and as much of it as the shape says."""
        shape = f"shape {_shape_text(tuple(tensor.dims))} of {type_name(tensor.data_type)}"
        filled = [field for field in _FIELDS if len(getattr(tensor, field))]
        if tensor.HasField("raw_data") or cut is not None:
            if filled:
                raise self._error(what, f"data in raw_data and {filled[0]}", "data in one field")
            if tensor.data_type == TensorProto.STRING:
                raise self._error(what, "strings in raw_data", "strings in string_data")
            found = len(tensor.raw_data) if cut is None else cut
            if found != size:
                raise self._error(what, f"{found} bytes", f"{size} bytes for {shape}")
            return
        if len(filled) > 1:
            raise self._error(what, f"data in {' and '.join(filled)}", "data in one field")
        if not filled:
            if count:
                raise self._error(what, "no data", f"{size} bytes for {shape}")
            return
        per_element = _FIELDS[filled[0]].get(tensor.data_type)
        if per_element is None:
            raise self._error(what, f"{shape} in {filled[0]}", "the field of that type")
        entries, needed = len(getattr(tensor, filled[0])), math.ceil(count * per_element)
        # Some writers give narrow types an entry each instead of packing them; nobody reads that.
        if entries != needed:
            raise self._error(what, f"{entries} values in {filled[0]}", f"{needed} for {shape}")

    def _check_external(self, tensor: TensorProto, what: str, count: int, size: int) -> None:
        """Whether the data is inside a regular file below the model's own folder.

        A few elements are read into the message at once: they may be the size of another tensor.
        """
        needed = "a file below the model's own folder"
        if not self._folders:
            raise self._error(
                what, "external data", "data inside, since bytes have no folder", "give the path"
            )
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if len(entries) < len(tensor.external_data):
            raise self._error(what, "an external data key given twice", "each key once")
        location = entries.get("location", "")
        found = f"external data at '{location[:200]}'"
        windows, posix = PureWindowsPath(location), PurePosixPath(location)
        parts = {*windows.parts, *posix.parts}
        if not location or windows.drive or windows.root or posix.root or ".." in parts:
            raise self._error(what, found, needed)
        if tensor.data_type == TensorProto.STRING:
            raise self._error(what, "strings in external data", "strings in string_data")
        try:
            real, length = self._sizes.get(location) or self._locate(location)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise self._error(what, f"{found}, {reason.lower()}", needed) from None
        offset = self._number(entries, "offset", 0, what)
        given = self._number(entries, "length", size, what)
        if given != size:
            raise self._error(what, f"{given} bytes of external data", f"{size} for its shape")
        if offset + size > length:
            raise self._error(
                what,
                f"bytes {offset} to {offset + size} of '{location}', a file of {length}",
                "bytes inside the file",
                "download it again",
            )
        self._sizes[location] = (real, length)
        path = os.path.abspath(os.path.join(self.root, real))
        for name in (location, real):  # a runtime may be given either
            self.used.setdefault(name, (path, []))[1].append((offset, size))
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = real
        if count <= SMALL:
            try:
                tensor.raw_data = read_range(path, offset, size)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise self._error(what, f"{found}, {reason}", needed) from None
            self.inlined = True
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]

    def _locate(self, location: str) -> tuple[str, int]:
        """Where a location really is, relative to the root, and how long the file is."""
        assert self.source.path is not None
        real = (self.source.path.absolute().parent / location).resolve(strict=True)
        if not any(real.is_relative_to(folder) for folder in self._folders):
            raise ValueError(f"a link to '{real}' outside it")
        status = real.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_nlink > 1:
            # onnx and onnx_ir refuse it too: it may be another's file under a second name.
            raise ValueError("a file with several hard links; copy it")
        return os.path.relpath(real, self.root), status.st_size

    def _number(self, entries: dict[str, str], key: str, default: int, what: str) -> int:
        text = entries.get(key)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise self._error(what, f"external data {key} '{text[:40]}'", "a number of bytes")
        return int(text)

    def _error(self, what: str, found: str, needed: str, instead: str = "") -> FastganError:
        return self.source.error(found, needed, instead, at=what)


def _shape_text(shape: tuple[int, ...]) -> str:
    if len(shape) <= 8:
        return str(list(shape))
    return f"[{', '.join(map(str, shape[:8]))}, ... {len(shape)} sizes]"
