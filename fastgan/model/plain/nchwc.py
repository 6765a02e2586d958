"""`com.microsoft.nchwc`: images whose channels lie in blocks of a processor's vector width.

ONNX Runtime's layout optimiser writes these at its levels "layout" and "all". Tensors in blocks are
declared [n, C', H, W], with C' the channels up to a whole block: here they are plain images of C'
channels, of which the last are of no use, and `ReorderOutput` takes the others. Weights lie in
blocks too (MLAS, `MlasReorderFilterOIHWBiBo` and `MlasReorderFilterOIHWBo`): they are unpacked.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fastgan.host import processor
from fastgan.model.plain.build import (
    Array,
    Builder,
    CannotError,
    Converter,
    array,
)
from fastgan.model.plain.microsoft import (
    FUSED,
    GEOMETRY,
    POOL,
    activated,
)

DOMAIN = "com.microsoft.nchwc"
#: Attributes that older operators lack, as long as they say nothing.
_SILENT = {"storage_order": 0, "ceil_mode": 0, "count_include_pad": 0}


def block_of(graph: ir.Graph) -> int:
    """How many channels a block has: 8 or 16, by the shapes in the graph.

    A file does not say it, and where its shapes fit both it is this processor's, which is what
    ONNX Runtime takes.
    """
    for node in graph:
        if node.domain == DOMAIN and node.op_type == "Conv":
            outputs, inputs = _weight_sizes(node)[:2]
            if outputs % 16:
                return 8
            if 8 < inputs < 16:
                return 16
            if inputs == 8 and _in_blocks(node.inputs[0]):
                return 8
        elif node.domain == DOMAIN and node.op_type == "ReorderOutput":
            conv = node.inputs[0].producer() if node.inputs[0] is not None else None
            if conv is not None and conv.op_type == "Conv":
                channels = node.attributes.get_int("channels", 0) or 0
                if _weight_sizes(conv)[0] != _up(channels, 8):
                    return 16
    return 16 if processor.has_wide_blocks() else 8


def _weight_sizes(node: ir.Node) -> tuple[int, ...]:
    return array(node.inputs[1]).shape if len(node.inputs) > 1 else (0, 0)


def _in_blocks(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.domain == DOMAIN


def _up(count: int, block: int) -> int:
    return -(-count // block) * block


def _unpacked(weight: Array, block: int, group: int) -> Array:
    """[O, I, *kernel] of what lies in memory as [O/b, I/b, *kernel, b of I, b of O].

    Where images are not in blocks, or each channel is a group, as [O/b, I, *kernel, b of O].
    """
    outputs, inputs, *kernel = weight.shape
    if inputs < block and (group == 1 or inputs == 1):
        parts = weight.reshape(outputs // block, inputs, *kernel, block)
        return np.moveaxis(parts, -1, 1).reshape(weight.shape)
    shape = (outputs // block, inputs // block, *kernel, block, block)
    parts = np.moveaxis(weight.reshape(shape), (-1, -2), (1, 3))
    return parts.reshape(weight.shape)


def _kept(node: ir.Node) -> int | None:
    """Of how many channels a convolution's only reader makes use; None for all."""
    readers = node.outputs[0].consumers()
    if len(node.outputs[0].uses()) != 1 or node.outputs[0].is_graph_output():
        return None
    reader = readers[0]
    if reader.op_type != "ReorderOutput" or node.attributes.get_int("group", 1) != 1:
        return None
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return None
    return reader.attributes.get_int("channels", None)


def _conv(make: Builder, block: int) -> ir.Value:
    """activation(Conv(X, W, B) + Sum)."""
    make.only(*GEOMETRY, *FUSED)
    weight = _unpacked(array(make.input(1)), block, make.given("group", 1))
    kept = _kept(make.node)
    bias, residual = make.optional(2), make.optional(3)
    if bias is not None and kept is not None:
        bias = make.constant(array(bias)[:kept], "bias")
    y = make(
        "Conv",
        make.input(0),
        make.constant(weight[:kept], "weight"),
        bias,
        **make.attributes(GEOMETRY),
    )
    if residual is not None:
        y = make("Add", y, residual)
    return activated(make, y, make.given("activation", ""), make.given("activation_params", ()))


def _reorder_input(make: Builder, block: int) -> ir.Value:
    """Zeros for the channels that a block has beside."""
    make.only("channels_last")
    x = make.input(0)
    x = make.channels_first(x, 4) if make.given("channels_last", 0) else x
    known = _channels(x)
    if known is not None:
        ends = [0, 0, 0, 0, 0, _up(known, block) - known, 0, 0]
        if not any(ends):
            return x
        return (
            make("Pad", x, pads=ends) if make.opset < 11 else make("Pad", x, make.integers(*ends))
        )
    if make.opset < 11:
        raise CannotError("an unknown number of channels")
    channels = make.slice(make("Shape", x), 1, 2, 0)
    over = make("Add", channels, make.integers(block - 1))
    whole = make("Mul", make("Div", over, make.integers(block)), make.integers(block))
    missing = make("Sub", whole, channels)
    pads = make("Concat", make.integers(*[0] * 5), missing, make.integers(0, 0), axis=0)
    return make("Pad", x, pads)


#: Operators that keep the channels of their first input.
_KEEP = frozenset(
    (
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Tanh", "Sigmoid", "HardSigmoid", "HardSwish"),
        *("Clip", "Pad", "Resize", "Upsample", "MaxPool", "AveragePool", "BatchNormalization"),
        *("InstanceNormalization", "Identity", "Dropout", "Softplus", "Mish", "Gelu"),
        *("GlobalAveragePool", "GlobalMaxPool", "QuickGelu", "Neg", "Sqrt", "Erf", "Exp", "Cast"),
    )
)
_LONGEST = 100


def _channels(value: ir.Value | None, depth: int = _LONGEST) -> int | None:
    """The channels of images, from the shapes of weights: ONNX Runtime writes no others."""
    if value is None or depth == 0:
        return None
    if value.shape is not None:
        size = value.shape[1] if len(value.shape) == 4 else None
        return size if isinstance(size, int) else None
    node = value.producer()
    if node is None:
        return None
    op = node.op_type
    if op == "ReorderOutput":
        return node.attributes.get_int("channels", None)
    if op in ("Conv", "FusedConv"):
        return int(array(node.inputs[1]).shape[0])
    if op == "ConvTranspose":
        return int(array(node.inputs[1]).shape[1]) * (node.attributes.get_int("group", 1) or 1)
    if op in _KEEP:
        return _channels(node.inputs[0], depth - 1)
    if op in ("Add", "Sub", "Mul", "Div", "Sum"):
        found = [_channels(v, depth // 2) for v in node.inputs if v is not None]
        return max((n for n in found if n is not None), default=None)
    if op == "Concat" and node.attributes.get_int("axis", None) == 1:
        parts = [_channels(v, depth // 2) for v in node.inputs]
        return sum(n for n in parts if n) if all(parts) else None
    if op in ("DepthToSpace", "SpaceToDepth"):
        inner, block = _channels(node.inputs[0], depth - 1), node.attributes.get_int("blocksize", 1)
        square = (block or 1) ** 2
        return None if inner is None else inner // square if op[0] == "D" else inner * square
    return None


def _reorder_output(make: Builder, block: int) -> ir.Value:
    """The channels that are of use."""
    make.only("channels", "channels_last")
    x, channels, last = make.input(0), make.given("channels", 0), make.given("channels_last", 0)
    producer = x.producer()
    conv = None if producer is None or producer.domain != DOMAIN else producer
    trimmed = conv is not None and conv.op_type == "Conv" and _kept(conv) is not None
    if channels < 1:
        raise CannotError("no channels")
    if channels % block and not trimmed:
        x = make.slice(x, 0, channels, 1)
    return make.channels_last(x, 4) if last else x


def _pool(make: Builder, block: int) -> ir.Value:
    make.only(*POOL, "count_include_pad")
    given = make.attributes((*POOL, "count_include_pad"))
    given = {key: value for key, value in given.items() if value != _SILENT.get(key)}
    if set(given.get("dilations", (1,))) == {1}:
        given.pop("dilations", None)
    return make(make.node.op_type, make.input(0), **given)


def _upsample(make: Builder, block: int) -> ir.Value:
    make.only("scales", "mode", "coordinate_transformation_mode")
    mode, how = make.given("mode", "nearest"), "asymmetric"
    how = make.given("coordinate_transformation_mode", how)
    factors = np.array(make.given("scales", ()), np.float32)
    if factors.shape != (4,) or (factors < 1).any():
        raise CannotError("scales of other than four axes")
    scales = make.constant(factors, "scales")
    if make.opset < 11:
        if how != "asymmetric":
            raise CannotError(f"coordinates {how!r}")
        return make("Resize" if make.opset == 10 else "Upsample", make.input(0), scales, mode=mode)
    given = {"mode": mode, "coordinate_transformation_mode": how, "nearest_mode": "floor"}
    return make("Resize", make.input(0), None, scales, **given)


_CONVERTERS = {
    "Conv": _conv,
    "ReorderInput": _reorder_input,
    "ReorderOutput": _reorder_output,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _pool,
    "GlobalMaxPool": _pool,
    "Upsample": _upsample,
}


def converter(graph: ir.Graph) -> Converter:
    """What converts every node of this domain in a graph, all of which must be or none."""
    block = block_of(graph)

    def convert(make: Builder) -> ir.Value:
        found = _CONVERTERS.get(make.node.op_type)
        if found is None:
            raise CannotError(f"operator {make.node.op_type!r}")
        return found(make, block)

    return convert
