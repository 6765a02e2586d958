"""Stamps a model down to the IR and opset versions that the installed ONNX Runtime accepts.

A lower opset is safe where every op has the same definition in both versions. A lower IR version
is safe as such: what newer ones added (element types, multi-device annotations) the runtime
refuses by itself where it meets it.
"""

from __future__ import annotations

import re
from typing import Any

from fastgan.errors import BackendError
from fastgan.model.file import ModelFile


def stamp_down(model: ModelFile, refusal: str) -> bytes | None:
    """The model with the versions that a refusal asks for, or None if it is about something else.

    Args:
        refusal: the runtime's message, which names the newest version that it knows.

    Raises:
        BackendError: the model uses an op whose definition differs in the older opset.
    """
    import onnx_ir

    ir_version = re.search(r"max supported IR version: (\d+)", refusal)
    opset = re.search(r"is till opset (\d+)", refusal)
    if ir_version is None and opset is None:
        return None
    if not isinstance(model.to_runtime(), bytes):
        return None  # weights beside the file stay where they are: its bytes alone are no model
    proto = onnx_ir.to_proto(model.model)
    if ir_version is not None:
        proto.ir_version = min(proto.ir_version, int(ir_version.group(1)))
    if opset is not None:
        _lower_opset(proto, int(opset.group(1)))
    data: bytes = proto.SerializeToString()
    return data


def _lower_opset(proto: Any, version: int) -> None:
    for entry in proto.opset_import:
        if entry.domain not in ("", "ai.onnx") or entry.version <= version:
            continue
        for node in proto.graph.node:
            now, then = _since(node.op_type, entry.version), _since(node.op_type, version)
            if now != then:
                raise BackendError(
                    f"ONNX Runtime: node {node.name or node.output[0]!r}",
                    f"{node.op_type} of opset {now}, and a runtime that knows opset {version}",
                    "a newer onnxruntime, or an export with a lower opset",
                )
        entry.version = version


def _since(op_type: str, opset: int) -> int | None:
    """The opset in which this op got the definition that it has in `opset`."""
    import onnx

    try:
        return int(onnx.defs.get_schema(op_type, opset).since_version)
    except onnx.defs.SchemaError:
        return None
