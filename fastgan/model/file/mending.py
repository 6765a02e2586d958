"""What exporters write a little wrong, put right as the file is read, so that every backend sees
the same: negative axes in a permutation, scales that miss the size declared by a rounding, a Celu
of no width, which is Relu, and statistics of a training norm that nobody asks for.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

log = logging.getLogger("fastgan")

#: Roundings of float32 by which a scale may miss.
_ROUNDINGS = 4
#: Graphs within graphs that are looked at; the check that follows refuses deeper ones.
_DEPTH = 64

Sizes = dict[str, list[int]]


def mend(proto: onnx.ModelProto, name: str) -> bool:
    """Change `proto` in place, which may be anything that parses; whether there was a need to.

    Args:
        proto: a model that nothing has checked yet.
        name: what messages call it.
    """
    graph = proto.graph
    notes = [*_permutations(graph), *_celus(graph), *_statistics(graph), *_scales(graph)]
    for note in notes[:3]:
        log.info("%s: %s", name, note)
    if len(notes) > 3:
        log.info("%s: and %d more like these", name, len(notes) - 3)
    return bool(notes)


def _nodes(graph: onnx.GraphProto, op: str, depth: int = 0) -> Iterator[onnx.NodeProto]:
    """ONNX's nodes of an operator, those of graphs within too."""
    for node in graph.node:
        if node.op_type == op and node.domain in ("", "ai.onnx"):
            yield node
        for attribute in node.attribute:
            if attribute.HasField("g") and depth < _DEPTH:
                yield from _nodes(attribute.g, op, depth + 1)


def _permutations(graph: onnx.GraphProto) -> Iterator[str]:
    """PyTorch's TorchScript exporter writes `movedim(x, 1, -1)` with the -1 in it."""
    for node in _nodes(graph, "Transpose"):
        for attribute in node.attribute:
            if attribute.name != "perm" or min(attribute.ints, default=0) >= 0:
                continue
            found, rank = list(attribute.ints), len(attribute.ints)
            if min(found) >= -rank:
                attribute.ints[:] = [axis + rank if axis < 0 else axis for axis in found]
                what = node.name or next(iter(node.output), "Transpose")
                yield f"node {what!r}: perm {found} is read as {list(attribute.ints)}"


def _celus(graph: onnx.GraphProto) -> Iterator[str]:
    """The formula divides by alpha: at 0 ONNX Runtime and ONNX's reference make NaN of it."""
    for node in _nodes(graph, "Celu"):
        given = [(a.name, a.type, a.f) for a in node.attribute]
        if given == [("alpha", onnx.AttributeProto.FLOAT, 0.0)]:
            node.op_type = "Relu"
            del node.attribute[:]
            what = node.name or next(iter(node.output), "Celu")
            yield f"node {what!r}: Celu of alpha 0 is read as what it comes to, Relu"


def _statistics(graph: onnx.GraphProto) -> Iterator[str]:
    """ONNX Runtime writes them in training, and crashes where they have no names."""
    for node in _nodes(graph, "BatchNormalization"):
        if not any(a.name == "training_mode" and a.i for a in node.attribute):
            continue
        given = len(node.output)
        node.output.extend([""] * (3 - given))
        for index in (1, 2):
            if not node.output[index]:
                node.output[index] = f"{node.output[0]}.statistics.{index}"
                what = node.name or node.output[0]
                yield f"node {what!r}: its output {index}, the statistics, is given a name"


def _scales(graph: onnx.GraphProto) -> Iterator[str]:
    """A scale of m / n in float32 may lead from n elements to less than m, and so to m - 1."""
    resizes = [node for node in graph.node if node.op_type in ("Resize", "Upsample")]
    if not resizes:
        return
    sizes, constants = _declared(graph), _constants(graph)
    for node in resizes:
        names = [*node.input, "", "", ""]
        place = 2 if node.op_type == "Resize" and len(node.input) > 2 else 1
        axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
        before, after = sizes.get(names[0], []), sizes.get(next(iter(node.output), ""), [])
        scales = constants.get(names[place])
        if scales is None or len(before) != len(after):
            continue
        axes = list(range(len(before))) if axes is None else axes
        if len(axes) != len(scales) or not all(-len(before) <= a < len(before) for a in axes):
            continue
        pairs = [(before[axis], after[axis]) for axis in axes]
        mended = np.array(
            [_that_leads(n, m, scale) for (n, m), scale in zip(pairs, scales, strict=True)],
            np.float32,
        )
        if (mended == scales).all():
            continue
        made = f"{names[place]}.of.{node.output[0]}"
        constant = onnx.helper.make_node(
            "Constant", [], [made], value=numpy_helper.from_array(mended)
        )
        graph.node.insert(list(graph.node).index(node), constant)
        node.input[place] = made
        what = node.name or node.output[0]
        yield f"node {what!r}: scales are rounded so that {before} becomes {after}, as declared"


def _that_leads(size: int, wanted: int, scale: np.float32) -> np.float32:
    """The scale, or its nearest neighbour in float32 that leads from `size` to `wanted`."""
    if not (0 < size < 1 << 24 and 0 < wanted < 1 << 24 and 0 < scale < math.inf):
        return scale
    up = down = scale
    for _ in range(_ROUNDINGS):
        for candidate in (up, down):
            if math.floor(np.float32(size) * candidate) == wanted:
                return candidate
        up, down = np.nextafter(up, np.float32(np.inf)), np.nextafter(down, np.float32(0))
    return scale


def _declared(graph: onnx.GraphProto) -> Sizes:
    """The declared sizes by name; 0 for those that are open."""
    return {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output, *graph.value_info)
    }


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """What may be scales: a few numbers in float32."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        given = [a.t for a in node.attribute if a.name == "value"]
        if node.op_type == "Constant" and len(node.output) == 1 and given:
            found[node.output[0]] = given[0]
    changeable = {value.name for value in graph.input}
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in found.items()
        if name not in changeable and _is_few(tensor)
    }


def _is_few(tensor: onnx.TensorProto) -> bool:
    inside = tensor.data_location != onnx.TensorProto.EXTERNAL
    few = inside and tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 1
    held = max(len(tensor.float_data), len(tensor.raw_data) // 4) if few else 0
    return few and 0 < tensor.dims[0] <= 8 and held == tensor.dims[0]
