"""From bytes to a checked protobuf message, and from that to the IR."""

from __future__ import annotations

import functools
from collections.abc import Callable

import onnx
import onnx_ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from fastgan.errors import FastganError, LimitError, UnsupportedError
from fastgan.host import address_space
from fastgan.limits import Limits
from fastgan.model.file.beside import Range
from fastgan.model.file.functions import inline
from fastgan.model.file.graph import Checker
from fastgan.model.file.mending import mend
from fastgan.model.file.sizes import check_folding
from fastgan.model.file.source import Source
from fastgan.model.file.stored import Split, split
from fastgan.model.file.text import check_text

#: For each location of external data: where that is, and which bytes of it are used.
Used = dict[str, tuple[str, list[Range]]]

#: Makes the bytes of a model.
Bytes = Callable[[], bytes]

#: Messages take many times the bytes that they are made of.
_MESSAGES = 32


def parse(source: Source, limits: Limits) -> tuple[onnx_ir.Model, Bytes, Used]:
    """The model in `source`, the bytes that stand for it, and what it uses of files beside it.

    Large weights are no part of it (`stored`): they are read from where the source has them.
    """
    try:
        return _parse(source, limits)
    except FastganError:
        raise
    except MemoryError:
        raise source.too_large() from None
    except Exception as error:
        # A gap in the checks; the cause is kept, which is how fuzzing finds it.
        found = f"something that stops its reader ({type(error).__name__}: {str(error)[:200]})"
        raise source.error(found, "a model that keeps to ONNX's rules") from error


def _parse(source: Source, limits: Limits) -> tuple[onnx_ir.Model, Bytes, Used]:
    parts = split(source.data, source.store)
    message = _message(source, parts, limits)
    proto = inline(message, source, limits)
    mended = mend(proto, source.name)
    checker = Checker(source, limits, parts)
    checker.check(proto)
    if checker.rewritten and checker.tensors.used:
        found, needed = "its last input given as an empty name", "that input left out"
        raise source.error(found, needed, at=checker.rewritten)
    changed = mended or checker.rewritten or checker.tensors.inlined
    as_given = proto is message and not changed
    data: Bytes = source.store.whole if as_given else functools.partial(parts.joined, proto)
    if checker.folds:
        check_folding(proto, checker.tensors.total, source, limits)
    model = _to_ir(proto, source)
    parts.put(model, proto)
    if checker.tensors.used:
        onnx_ir.external_data.set_base_dir(model.graph, checker.tensors.root)
    return model, data, checker.tensors.used


def _message(source: Source, parts: Split, limits: Limits) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(bytes(parts.message))
    except DecodeError as error:
        reason = str(error).partition(": ")[2]
        # protobuf before 7 gives no reason.
        if "alloc" in reason.lower() or (not reason and _short_of_memory(source)):
            raise MemoryError from None
        if "depth" in reason.lower():
            found, needed = "messages nested deeper than protobuf reads", f"{limits.depth} at most"
            raise LimitError(source.name, found, f"{needed} (Limits.depth)") from None
        found = f"data that is not ONNX, or is damaged or cut short ({reason})"
        if not reason:
            found = (
                "data that is not ONNX, is damaged or cut short, or nested deeper than it is read"
            )
        raise source.error(found, instead="download or export it again") from None
    if not proto.HasField("graph") or not proto.ir_version:
        raise source.error("no graph and no IR version in it")
    check_text(proto, source)
    return proto


def _short_of_memory(source: Source) -> bool:
    left = address_space.left()
    return left is not None and left < _MESSAGES * len(source.data)


def _to_ir(proto: onnx.ModelProto, source: Source) -> onnx_ir.Model:
    try:
        model = onnx_ir.serde.deserialize_model(proto)
    except onnx_ir.serde.SerdeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        where = f"{source.name}: the graph"
        found = f"{type(cause).__name__}: {str(cause)[:200]}"
        raise UnsupportedError(where, found, "a model that onnx_ir can hold") from error
    if "ai.onnx" in model.opset_imports:  # The long name of ONNX's own operators.
        model.opset_imports[""] = model.opset_imports.pop("ai.onnx")
    elif not model.opset_imports:
        model.opset_imports[""] = 1
    return model
