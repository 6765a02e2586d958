"""From bytes to a protobuf message, and from a checked message to the IR."""

from __future__ import annotations

import onnx
import onnx_ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from fastgan.errors import ModelFileError
from fastgan.limits import Limits
from fastgan.model_file.source import Source


def parse(source: Source, limits: Limits) -> tuple[onnx.ModelProto, bytes]:
    """The message in `source`, and the bytes that stand for it."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(source.data)
    except DecodeError as error:
        reason = str(error).split(": ", 1)[-1]
        if "depth" in reason.lower():
            raise source.error(
                "messages nested deeper than protobuf reads",
                f"at most {limits.depth} nested subgraphs",
            ) from None
        raise source.error(
            f"data that is not ONNX, or is damaged or cut short ({reason})",
            instead="download or export it again",
        ) from None
    if not proto.HasField("graph") or not proto.ir_version:
        raise source.error("no graph and no IR version in it")
    return proto, source.data


def to_ir(proto: onnx.ModelProto, source: Source) -> onnx_ir.Model:
    """The IR of a checked message."""
    try:
        return onnx_ir.serde.deserialize_model(proto)
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ModelFileError(
            source.name, f"{type(cause).__name__}: {str(cause)[:200]}", "a model that onnx_ir reads"
        ) from error
