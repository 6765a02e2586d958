"""How large the tensors are that a runtime computes from constants while it loads.

Thirty bytes of file can ask for half a gigabyte (`ConstantOfShape`, `Expand`, `Tile`, `Range`), and
a runtime that folds constants pays that before the first run. ONNX's own shape inference says how
large each would be without computing it.
"""

from __future__ import annotations

import math
from collections import ChainMap
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from fastgan.errors import LimitError, ModelFileError, UnsupportedError
from fastgan.limits import Limits, size_text
from fastgan.model.file import slices
from fastgan.model.file.attributes import RANK
from fastgan.model.file.constants import SMALL, Array, evaluate
from fastgan.model.file.source import Source
from fastgan.model.file.tensors import BITS

ROUNDS = 8  # of inference; each sees the constants that the last walk computed
# What data propagation (in ONNX Runtime's loader) takes for each element of a shape-like tensor.
PROPAGATED = 160

# Operators whose output's size is in the values, not the shapes, of their inputs.
_SIZED_BY_VALUE = frozenset(
    (
        *("ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Upsample", "Pad", "OneHot"),
        *("Reshape", "AffineGrid", "CenterCropPad", "Col2Im", "MaxUnpool", "TopK", "DFT", "STFT"),
        *("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix"),
    )
)
# Constant whatever their inputs are, if their shapes are known.
_SOURCES = frozenset(("Constant", "Shape", "Size"))
_INTEGERS = frozenset(
    onnx.TensorProto.DataType.Value(f"{sign}INT{bits}")
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
)
# Operators whose output has an axis for each element of an input: which input.
RANK_INPUTS = {"Expand": 1, "Reshape": 1, "ConstantOfShape": 0, "Unsqueeze": 1, "Col2Im": 1}
# Operators that have an element for each axis in these inputs, and keep the rank: a runtime that
# propagates the values of a longer one takes a gigabyte before it sees that it does not fit.
AXIS_INPUTS = {"Resize": (2, 3), "Upsample": (1,), "Tile": (1,)}
_HIDDEN = "hidden "
_ONNX = ("", "ai.onnx")
_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
_NEVER_FOLDED = frozenset(
    (
        *("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"),
        *("Multinomial", "Bernoulli", "If", "Loop", "Scan"),
    )
)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a value.

    Attributes:
        constant: it comes from weights and constants alone.
        derived: or from the shapes of other values.
        shape: with None for a size that is not known, or None where the rank is not known either.
        below: a size below 0 that inference gave it, as for a kernel larger than its image; else 0.
        value: its elements, where they are few; an object array with None for those not known.
    """

    constant: bool = False
    derived: bool = False
    shape: tuple[int | None, ...] | None = None
    bits: int = 64
    integer: bool = False
    value: Array | None = None
    below: int = 0

    def count(self) -> int | None:
        """How many elements."""
        if self.shape is None or None in self.shape:
            return None
        return math.prod(size for size in self.shape if size is not None)

    def whole(self) -> Array | None:
        """All elements, or None."""
        return None if self.value is None or self.value.dtype == object else self.value


_UNKNOWN = _Known()
_Scope = ChainMap[str, _Known]


def check_folding(proto: onnx.ModelProto, weights: int, source: Source, limits: Limits) -> None:
    """Raise where the constants computed from constants exceed `limits.constant_bytes`, plus
    sixteen times the weights, or where a Slice is taken of a size below 0 (see `slices`).

    Args:
        proto: a model that has passed every other check; not changed.
        weights: bytes of all its weights.
    """
    light = onnx.ModelProto(ir_version=proto.ir_version)
    light.opset_import.extend(proto.opset_import)
    _copy_graph(proto.graph, light.graph)
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 1))
    guarded = slices.register()
    if guarded:
        light.opset_import.add(domain=slices.DOMAIN, version=opset)

    def infer() -> _Folding:
        nonlocal light
        try:
            _hide(light.graph, guarded)
            # Without data propagation, whose memory no limit bounds; the walk does that part.
            light = shape_inference.infer_shapes(light, data_prop=False)
        except Exception as error:
            found = f"shapes that do not fit together ({str(error)[:200]})"
            raise source.error(found, "shapes that can be inferred") from None
        walk = _Folding(limits.constant_bytes + 16 * weights, source, opset)
        walk.graph(light.graph, ChainMap())
        return walk

    def rounds() -> _Folding:
        for _ in range(ROUNDS):
            walk = infer()
            if not (walk.unknown and walk.progress):
                break
        return walk

    walk = rounds()
    if _declare(proto.graph, light.graph):
        walk = rounds()
    if walk.unknown:
        raise LimitError(
            f"{source.name}: {walk.unknown}",
            "constants that give it a size which cannot be told from the file",
            f"at most {size_text(limits.constant_bytes)} (Limits.constant_bytes)",
        )


def _hide(graph: onnx.GraphProto, guarded: bool) -> None:
    """Hide from inference the nodes whose rank is the length of an input, unless it is a constant:
    it would write down a shape of that many sizes; and give each Slice to its own.
    """
    small = {tensor.name for tensor in graph.initializer if _is_small(tensor)}
    for node in graph.node:
        if node.op_type == "Constant":
            small.update(node.output)
        index = RANK_INPUTS.get(node.op_type)
        if index is not None and index < len(node.input) and node.input[index] not in small:
            node.op_type = _HIDDEN + node.op_type
        if guarded and node.op_type == "Slice" and node.domain in _ONNX:
            node.domain, node.op_type = slices.DOMAIN, slices.NAME
        for inner in _within(node):
            _hide(inner, guarded)


def _within(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [g for a in node.attribute if a.type in _GRAPHS for g in (a.g, *a.graphs)]


def _copy_graph(graph: onnx.GraphProto, light: onnx.GraphProto) -> None:
    """Copy a graph, but of large weights only their type."""
    light.name = graph.name
    for part in ("node", "input", "output", "value_info"):
        getattr(light, part).extend(getattr(graph, part))
    for tensor in graph.initializer:
        if _is_small(tensor):
            light.initializer.append(tensor)
        else:
            light.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    _forget(light)


def _forget(graph: onnx.GraphProto) -> None:
    """Leave out what a file says of computed sizes, which inference would take for the truth."""
    others = {name for node in graph.node if node.domain not in _ONNX for name in node.output}
    kept = [value for value in graph.value_info if value.name in others]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for output in graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for inner in _within(node):
            _forget(inner)


def _declare(graph: onnx.GraphProto, light: onnx.GraphProto) -> bool:
    """Add what a file says of sizes that inference does not tell, as ONNX Runtime does.

    Returns:
        Whether there was any.
    """
    known = {value.name: value.type.tensor_type for value in (*light.value_info, *light.output)}
    added = False
    for value in (*graph.value_info, *graph.output):
        said = value.type.tensor_type.shape.dim
        if not said:
            continue
        if value.name not in known:
            light.value_info.append(value)
            added = True
        elif not (own := known[value.name]).HasField("shape"):
            own.shape.CopyFrom(value.type.tensor_type.shape)
            added = True
        elif len(said) == len(own.shape.dim):
            for size, other in zip(own.shape.dim, said, strict=True):
                if other.HasField("dim_value") and not size.HasField("dim_value"):
                    size.dim_value = other.dim_value
                    added = True
    for node, copy in zip(graph.node, light.node, strict=True):
        # ONNX's inference drops attributes that an operator does not know.
        for inner, inner_copy in zip(_within(node), _within(copy), strict=False):
            added |= _declare(inner, inner_copy)
    return added


def _is_small(tensor: onnx.TensorProto) -> bool:
    inside = tensor.data_location != onnx.TensorProto.EXTERNAL
    return inside and math.prod(tensor.dims) <= SMALL


class _Folding:
    """One walk over a graph whose shapes were inferred.

    Nodes that compute small constants become `Constant` nodes, so that the next inference sees
    what they hold.

    Attributes:
        unknown: a node that folds to a tensor of unknown size, or "".
        progress: whether the next inference can know more than the last.
    """

    def __init__(self, allowed: int, source: Source, opset: int) -> None:
        self.allowed, self.source, self.opset = allowed, source, opset
        self.unknown = ""
        self.progress = False
        self.folded = 0

    def graph(self, graph: onnx.GraphProto, outer: _Scope) -> None:
        """Walk `graph`, inside graphs whose values are in `outer`."""
        scope = outer.new_child()
        for part in (graph.input, graph.value_info, graph.output):
            for value in part:
                scope[value.name] = _declared(value.type)
        for tensor in graph.initializer:
            scope[tensor.name] = _initializer(tensor)
        for node in graph.node:
            self._node(node, graph, scope)

    def _node(self, node: onnx.NodeProto, graph: onnx.GraphProto, scope: _Scope) -> None:
        inputs = [scope.get(name, _UNKNOWN) if name else None for name in node.input]
        within = _within(node)
        node.op_type = node.op_type.removeprefix(_HIDDEN)
        if node.domain == slices.DOMAIN:
            node.domain, node.op_type = "", "Slice"
        self._check_rank(node, inputs)
        if node.op_type == "Slice" and inputs and inputs[0] and inputs[0].below:
            where = f"{self.source.name}: node '{node.name or node.output[0]}' (Slice)"
            found = f"a size of {inputs[0].below} in '{node.input[0]}'"
            needed = "sizes of 0 or more: kernels that are not larger than what they lie on"
            raise ModelFileError(where, found, needed)
        if not within and node.op_type not in _SOURCES and not any(k and k.derived for k in inputs):
            return
        for name, known in zip(node.input, inputs, strict=True):
            if known and (whole := known.whole()) is not None and name not in scope.maps[0]:
                # Inference does not look for values in the graphs around a subgraph.
                graph.initializer.append(numpy_helper.from_array(whole, name))
                scope[name] = known
                self.progress = True
        for inner in within:
            self.graph(inner, scope)
        if node.op_type in ("Div", "Mod"):
            self._check_division(node, inputs)
        values = _values(node, inputs, self.opset)
        source = node.op_type in _SOURCES
        folds = node.op_type not in _NEVER_FOLDED and any(inputs)
        constant = node.op_type == "Constant" or (
            folds and all(known.constant for known in inputs if known)
        )
        derived = source or (folds and all(known.derived for known in inputs if known))
        for name, value in zip(node.output, values, strict=True):
            if not name:
                continue
            known = scope.get(name, _UNKNOWN)
            scope[name] = known = replace(known, constant=constant, derived=derived, value=None)
            if value is not None:
                complete = value.dtype != object
                integer = value.dtype.kind in "iuO"
                scope[name] = _Known(complete, True, value.shape, known.bits, integer, value)
            elif derived and node.op_type != "Constant":
                self._count(node, known)
        # Of several outputs none becomes a node, but the nodes that read them do.
        value = values[0] if len(values) == 1 and node.op_type != "Constant" else None
        if value is not None and value.dtype != object:
            _make_constant(node, value)
            self.progress = True

    def _check_rank(self, node: onnx.NodeProto, inputs: list[_Known | None]) -> None:
        indices = AXIS_INPUTS.get(node.op_type, ())
        if node.op_type in RANK_INPUTS:
            indices = (RANK_INPUTS[node.op_type],)
        for index in indices:
            self._check_axes(node, inputs, index)

    def _check_axes(self, node: onnx.NodeProto, inputs: list[_Known | None], index: int) -> None:
        known = inputs[index] if index < len(inputs) else None
        count = known.count() if known else None
        if count is not None and count > RANK:
            where = f"{self.source.name}: node '{node.name or node.output[0]}' ({node.op_type})"
            what = f"input '{node.input[index]}' of {count} elements, one for each axis"
            raise ModelFileError(where, what, f"at most {RANK}")

    def _check_division(self, node: onnx.NodeProto, inputs: list[_Known | None]) -> None:
        """Whether a processor can divide by these integers; it stops the program if it cannot."""
        where = f"{self.source.name}: node '{node.name or node.output[0]}' ({node.op_type})"
        dividend, divisor = (*inputs, None, None)[:2]
        if not divisor or not divisor.constant or not divisor.integer:
            return
        least = -(1 << divisor.bits - 1)
        by, of = divisor.whole(), dividend.whole() if dividend else None
        if by is None:
            if dividend and dividend.constant:
                needed = f"at most {SMALL} of them, so that none is seen to be 0"
                raise UnsupportedError(where, "integer constants divided by many others", needed)
        elif not by.all():
            raise ModelFileError(where, "integers divided by the constant 0", "another divisor")
        elif dividend and dividend.constant and (by == -1).any():
            # In two's complement the least integer has no opposite.
            if of is not None and not (of == least).any():
                return
            found = f"the constant {least} divided by -1"
            raise ModelFileError(where, found, "a quotient that its type can hold")

    def _count(self, node: onnx.NodeProto, output: _Known) -> None:
        where = f"node '{node.name or node.output[0]}' ({node.op_type})"
        count = output.count()
        if count is None or output.shape is None:
            if output.constant and node.op_type in _SIZED_BY_VALUE:
                self.unknown = self.unknown or where
            return
        like_a_shape = output.integer and len(output.shape) <= 1
        self.folded += count * PROPAGATED if like_a_shape else count * output.bits // 8
        if self.folded > self.allowed:
            raise LimitError(
                f"{self.source.name}: {where}",
                f"a constant of shape {list(output.shape)}, {size_text(self.folded)} with those "
                "before it",
                f"at most {size_text(self.allowed)} (Limits.constant_bytes)",
            )


def _make_constant(node: onnx.NodeProto, value: Array) -> None:
    output = node.output[0]
    node.Clear()
    node.op_type = "Constant"
    node.output.append(output)
    tensor = numpy_helper.from_array(value)
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=tensor)


def _values(node: onnx.NodeProto, inputs: list[_Known | None], opset: int) -> list[Array | None]:
    """The value of each output that is small and, at least in part, known; else None."""
    nothing: list[Array | None] = [None] * len(node.output)
    if node.domain not in _ONNX:
        return nothing
    if node.op_type in ("Shape", "Size") and len(node.output) == 1:
        of = inputs[0] if inputs else None
        if of is None or of.shape is None:
            return nothing
        if node.op_type == "Size":
            return [None if (count := of.count()) is None else np.asarray(count, np.int64)]
        given = {attribute.name: attribute.i for attribute in node.attribute}
        sizes = of.shape[given.get("start", 0) : given.get("end", len(of.shape))]
        return [np.asarray(sizes, object if None in sizes else np.int64)]
    if any(known is not None and known.value is None for known in inputs):
        return nothing
    return evaluate(node, [known.value if known else None for known in inputs], opset)


def _declared(kind: onnx.TypeProto) -> _Known:
    """What a declared or inferred type says."""
    tensor = kind.tensor_type
    shape: tuple[int | None, ...] | None = None
    below = 0
    if tensor.HasField("shape"):
        # A negative size is an inference that overflowed.
        sizes = ((d.dim_value, d.HasField("dim_value")) for d in tensor.shape.dim)
        below = min((d.dim_value for d in tensor.shape.dim), default=0)
        shape = tuple(size if known and size >= 0 else None for size, known in sizes)
    integer = tensor.elem_type in _INTEGERS
    bits = BITS.get(tensor.elem_type, 64)
    return _Known(False, False, shape, bits, integer, below=min(below, 0))


def _initializer(tensor: onnx.TensorProto) -> _Known:
    value = None
    if _is_small(tensor) and tensor.data_type != onnx.TensorProto.STRING:
        value = numpy_helper.to_array(tensor)
    integer = tensor.data_type in _INTEGERS
    return _Known(True, True, tuple(tensor.dims), BITS[tensor.data_type], integer, value)
