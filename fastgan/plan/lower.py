"""Static, rewritten graph -> Plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import onnx_ir as ir
from torch import Tensor

from fastgan.ops.elementwise import torch_dtype
from fastgan.plan import cost
from fastgan.plan.specialise import attribute_value
from fastgan.plan.types import Buffer, Epilogue, Plan, Step
from fastgan.plan.weights import Weights, meta_of

_EPILOGUE_ATTRIBUTES = {"activation", "parameters", "slopes", "origin"}


def lower(model: ir.Model) -> Plan:
    """The plan of a specialised and rewritten model; every step starts on the library op."""
    graph = model.graph
    buffers = {value.name or "": _buffer(value) for value in graph.inputs}
    tensors: dict[str, ir.TensorProtocol] = {}
    for node in graph:
        for value in node.inputs:
            if value is not None and value.const_value is not None:
                tensors.setdefault(value.name or "", value.const_value)
    weights = Weights(tensors)
    steps = []
    for node in graph:
        for value in node.outputs:
            buffers[value.name or ""] = _buffer(value)
        steps.append(_step(node, buffers, weights))
    outputs = tuple(value.name or "" for value in graph.outputs)
    return Plan(
        inputs=tuple(value.name or "" for value in graph.inputs),
        outputs=outputs,
        steps=tuple(with_releases(steps, set(outputs), buffers)),
        buffers=buffers,
        weights=weights,
    )


def _step(node: ir.Node, buffers: dict[str, Buffer], weights: Mapping[str, Tensor]) -> Step:
    inputs = tuple("" if value is None else value.name or "" for value in node.inputs)
    outputs = tuple(value.name or "" for value in node.outputs)
    op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    attributes = {key: attribute_value(attr) for key, attr in node.attributes.items()}
    fused = node.domain == "fastgan"
    epilogue = Epilogue(
        activation=attributes.get("activation", "none") if fused else "none",
        parameters=tuple(attributes.get("parameters", ())) if fused else (),
        slopes=tuple(attributes.get("slopes", ())) if fused else (),
        bias=fused and len(inputs) > 2 and inputs[2] != "",
        residual=fused and len(inputs) > 3 and inputs[3] != "",
    )
    read = [buffers[name] for name in inputs if name in buffers]
    first, second = (*inputs, "", "")[:2]
    weight = tuple(meta_of(weights, second).shape) if second in weights else None
    if weight is None and second in buffers:
        weight = buffers[second].shape
    written = [buffers[name] for name in outputs]
    constant = sum(meta_of(weights, n).nbytes for n in inputs if n in weights)
    return Step(
        op=op,
        inputs=inputs,
        outputs=outputs,
        attributes={k: v for k, v in attributes.items() if k not in _EPILOGUE_ATTRIBUTES},
        epilogue=epilogue,
        origin=tuple(attributes.get("origin", (node.name or outputs[0],))),
        flops=cost.flops(op, weight, read, written[0]) if read else 0,
        bytes=0 if op in cost.FREE else sum(b.bytes for b in (*read, *written)) + constant,
        workspace=cost.workspace(op, attributes, weight, buffers[first], written[0])
        if first in buffers
        else 0,
    )


def with_releases(steps: list[Step], kept: set[str], buffers: dict[str, Buffer]) -> Iterable[Step]:
    """The steps, each told which buffers no later step reads."""
    seen = set(kept)
    result = []
    for step in reversed(steps):
        last = [n for n in dict.fromkeys((*step.inputs, *step.outputs)) if n in buffers]
        result.append(replace(step, releases=tuple(n for n in last if n not in seen)))
        seen.update(last)
    return reversed(result)


def _buffer(value: ir.Value) -> Buffer:
    assert value.shape is not None
    assert value.dtype is not None
    return Buffer(value.name or "", tuple(value.shape.numpy()), torch_dtype(value.dtype))
