"""Images that a file takes or makes channels last, [n, H, W, C], as Keras does: turned at the door.

A Transpose is put behind such an input and before such an output, so that everywhere else images
are channels first. The exporter's own Transposes, which every convolution of such a file lies
between, meet it and vanish in the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from fastgan.model.file import ModelFile
from fastgan.model.signature import Signature

_CHANNELS = (1, 3, 4)
#: An image is larger: [n, 512, 1, 1] is a latent, [n, 64, 4, 4] are features.
_SMALLEST = 5
_TYPES = frozenset(
    (
        *(ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
        *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        ir.DataType.BOOL,
    )
)
_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def channels_first(model: ModelFile) -> tuple[ModelFile, frozenset[str]]:
    """The model with images channels first, and the names of its inputs and outputs turned so.

    The model's graph is changed in place. One with external data is left alone, since a runtime
    reads that from the file as it is.
    """
    graph = model.model.graph
    free = [v for v in graph.inputs if not v.is_initializer() and not v.is_graph_output()]
    inputs = [v for v in free if _is_channels_last(v)]
    outputs = [v for v in graph.outputs if v.producer() is not None and _is_channels_last(v)]
    if model.external or not (inputs or outputs):
        return model, frozenset()
    names = frozenset(value.name or "" for value in (*inputs, *outputs))
    for value in inputs:
        _turn_input(graph, value)
    for value in outputs:
        _turn_output(graph, value)
    data = ir.to_proto(model.model).SerializeToString()  # now: what follows changes the graph
    return replace(model, _data=lambda: data), names


def mark(signature: Signature, names: frozenset[str]) -> Signature:
    """The signature of a turned model, with its turned ports marked."""
    if not names:
        return signature
    return replace(
        signature,
        inputs=tuple(replace(i, channels_last=i.name in names) for i in signature.inputs),
        outputs=tuple(replace(o, channels_last=o.name in names) for o in signature.outputs),
    )


def _is_channels_last(value: ir.Value) -> bool:
    sizes = () if value.shape is None else value.shape.dims
    if len(sizes) != 4 or value.dtype not in _TYPES or sizes[3] not in _CHANNELS:
        return False
    height, width = (s if isinstance(s, int) else None for s in sizes[1:3])
    # An open size may be anything, but a number of channels is seldom left open.
    return all(size is None or size >= _SMALLEST for size in (height, width))


def _turned(value: ir.Value, order: Sequence[int]) -> ir.Value:
    """A value of the same name and type, with its axes in another order; the old one is renamed."""
    assert value.shape is not None
    shape = ir.Shape([value.shape.dims[axis] for axis in order])
    new = ir.Value(name=value.name, shape=shape, type=value.type)
    value.name = f"{value.name}.channels_last"
    return new


def _turn_input(graph: ir.Graph, value: ir.Value) -> None:
    new = _turned(value, _FIRST)
    graph.inputs[graph.inputs.index(value)] = new
    node = ir.Node("", "Transpose", [new], [ir.AttrInt64s("perm", _LAST)], outputs=[value])
    node.name = f"{new.name}.turned"
    graph.insert_before(graph[0], node) if len(graph) else graph.append(node)


def _turn_output(graph: ir.Graph, value: ir.Value) -> None:
    new = _turned(value, _FIRST)
    graph.outputs[graph.outputs.index(value)] = new
    node = ir.Node("", "Transpose", [value], [ir.AttrInt64s("perm", _FIRST)], outputs=[new])
    node.name = f"{new.name}.turned"
    graph.append(node)
