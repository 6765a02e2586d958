"""Small constants computed at check time: the shapes, scales and ranges that decide how large other
tensors are. NumPy does the computing, or ONNX's reference of an operator whose results can't be
much larger than what goes in; nothing here keeps a tensor of more than `SMALL` elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Array = npt.NDArray[Any]

SMALL = 64  # elements; a shape has one per axis

_ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    **{op: getattr(np, op.lower()) for op in ("Abs", "Exp", "Log", "Sqrt", "Floor", "Ceil")},
    **{op: getattr(np, op.lower()) for op in ("Sin", "Cos", "Sign", "Greater", "Less", "Equal")},
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Round": np.rint,
    "Pow": np.power,
    "Reciprocal": np.reciprocal,
    "Not": np.logical_not,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "GreaterOrEqual": np.greater_equal,
    "LessOrEqual": np.less_equal,
    "Where": np.where,
    "Identity": lambda x: x,
}
_REDUCE = {"ReduceSum": np.sum, "ReduceProd": np.prod, "ReduceMax": np.max, "ReduceMin": np.min}


# Operators that only move elements, so that those known stay known beside those that are not.
PARTIAL = frozenset(
    (
        *("Concat", "Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Identity"),
        *("Transpose", "Flatten", "Split"),
    )
)
# Operators that make at most SMALL * SMALL elements of inputs of SMALL.
BOUNDED = frozenset(
    (
        *("ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"),
        *("CastLike", "Clip", "Compress", "CumSum", "Erf", "GatherElements", "GatherND", "IsInf"),
        *("IsNaN", "MatMul", "Mean", "NonZero", "PRelu", "ReduceL1", "ReduceL2", "ReduceLogSum"),
        *("ReduceLogSumExp", "ReduceMean", "ReduceSumSquare", "Relu", "Scatter", "ScatterElements"),
        *("ScatterND", "Sigmoid", "Softplus", "Sum", "Tan", "Tanh", "TopK", "Trilu", "Unique"),
    )
)
_ENTRIES = (int, np.int64, np.int32, type(None))


def evaluate(
    node: onnx.NodeProto, inputs: Sequence[Array | None], opset: int
) -> list[Array | None]:
    """What `node` computes from small constants: for each output its value, or None where it is not
    small or not known here.

    Args:
        inputs: the values of its inputs, None where one is left out; an object array has None for
            each element that is not known, and so has the result.
        opset: the version of ONNX's operators that the file imports.
    """
    given = {
        a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if not a.HasField("g")
    }
    nothing: list[Array | None] = [None] * len(node.output)
    try:
        if node.op_type not in PARTIAL and any(i is not None and i.dtype == object for i in inputs):
            return nothing
        with np.errstate(all="ignore"):
            values: Sequence[Any]
            if node.op_type in BOUNDED:
                values = _reference(node, inputs, opset)
            elif node.op_type == "Split":
                values = _split(inputs, given, len(node.output))
            else:
                values = [_evaluate(node.op_type, inputs, given)]
    except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError, MemoryError):
        return nothing  # The node is wrong in itself; whoever runs it says so.
    if len(values) != len(node.output):
        return nothing
    return [_kept(node.op_type, value) for value in values]


def _kept(op: str, value: Any) -> Array | None:
    """A result as an array, if it is small and of numbers."""
    if value is None:
        return None
    value = np.asarray(value)
    if value.size > SMALL or value.dtype.kind not in "biufO":
        return None
    if value.dtype == object:
        if op not in PARTIAL or any(type(size) not in _ENTRIES for size in value.flat):
            return None
        known = None not in value
        return np.asarray(value, np.int64 if known else object)
    return value


def _reference(node: onnx.NodeProto, inputs: Sequence[Array | None], opset: int) -> Sequence[Any]:
    """What ONNX's own reference makes of it."""
    from onnx.reference import ReferenceEvaluator

    names = {name: value for name, value in zip(node.input, inputs, strict=True) if name}
    graph = onnx.GraphProto(name="node", node=[node])
    for name in names:
        graph.input.add(name=name)
    for name in node.output:
        graph.output.add(name=name)
    try:
        made: Any = ReferenceEvaluator(graph, opsets={"": opset}).run(None, names)
    except Exception as error:  # it raises whatever comes, for a node that is wrong in itself
        raise ValueError from error
    return list(made)


def _split(inputs: Sequence[Any], given: Mapping[str, Any], count: int) -> Sequence[Any]:
    x, sizes = inputs[0], inputs[1] if len(inputs) > 1 else given.get("split")
    axis = given.get("axis", 0)
    if sizes is None:
        each = -(-x.shape[axis] // count)
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    if len(sizes) != count or min(sizes) < 0 or sum(sizes) != x.shape[axis]:
        raise ValueError("sizes that do not add up")
    return np.split(x, np.cumsum(sizes)[:-1], axis=axis)


def _evaluate(op: str, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    if op == "Constant":
        return _constant(given)
    if not inputs or inputs[0] is None:
        return None
    x = np.asarray(inputs[0])
    if op in _ELEMENTWISE:
        if math.prod(np.broadcast_shapes(*(np.shape(i) for i in inputs))) > SMALL:
            return None
        dtype = np.result_type(*inputs[1 if op == "Where" else 0 :])
        value = np.asarray(_ELEMENTWISE[op](*inputs))
        return value if value.dtype == bool else value.astype(dtype)
    if op in _REDUCE:
        return _reduce(_REDUCE[op], x, inputs, given)
    if op in _MOVE:
        return _MOVE[op](x, inputs, given)
    return None


def _constant(given: Mapping[str, Any]) -> Any:
    for name, value in given.items():
        if name == "value":
            return onnx.numpy_helper.to_array(value) if math.prod(value.dims) <= SMALL else None
        if name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
    return None


def _axes(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> tuple[int, ...] | None:
    """`axes`, an attribute in old opsets and an input in new ones."""
    axes = inputs[1] if len(inputs) > 1 else given.get("axes")
    return None if axes is None else tuple(int(axis) for axis in np.ravel(axes))


def _reduce(function: Any, x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    axes = _axes(x, inputs, given)
    if axes == () or axes is None:
        if given.get("noop_with_empty_axes"):
            return x
        axes = tuple(range(x.ndim))
    return function(x, axis=axes, keepdims=bool(given.get("keepdims", 1))).astype(x.dtype)


def _divide(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    y = np.asarray(inputs[1])
    if math.prod(np.broadcast_shapes(x.shape, y.shape)) > SMALL or (
        x.dtype.kind in "iu" and not y.all()
    ):
        return None
    # ONNX divides integers towards zero.
    return np.trunc(x / y).astype(x.dtype) if x.dtype.kind in "iu" else x / y


def _modulo(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    y = np.asarray(inputs[1])
    if math.prod(np.broadcast_shapes(x.shape, y.shape)) > SMALL or not y.all():
        return None
    return np.fmod(x, y) if given.get("fmod") else np.mod(x, y)


def _extreme(function: Any) -> Any:
    def run(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
        for other in inputs[1:]:
            if math.prod(np.broadcast_shapes(x.shape, np.shape(other))) > SMALL:
                return None
            x = function(x, other)
        return x

    return run


def _cast(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    return x.astype(onnx.helper.tensor_dtype_to_np_dtype(given["to"]))


def _concat(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    if sum(np.size(i) for i in inputs) > SMALL:
        return None
    return np.concatenate(inputs, axis=given["axis"])


def _gather(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    if np.size(inputs[1]) * max(x.size, 1) > SMALL * SMALL:
        return None
    # NumPy takes a single element out of an object array as it is, here perhaps None.
    return np.asarray(np.take(x, inputs[1], axis=given.get("axis", 0)), x.dtype)


def _slice(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    names = ("starts", "ends", "axes", "steps")
    starts, ends, axes, steps = (
        inputs[i] if len(inputs) > i else given.get(name) for i, name in enumerate(names, 1)
    )
    if starts is None or ends is None:
        return None
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    where = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # Going backwards, an end below -size means "to the first", which Python writes as None.
        stop = None if step < 0 and end < -x.shape[axis] else int(end)
        where[int(axis)] = slice(int(start), stop, int(step))
    return x[tuple(where)]


def _squeeze(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    return np.squeeze(x, axis=_axes(x, inputs, given))


def _unsqueeze(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    axes = _axes(x, inputs, given)
    return None if axes is None else np.expand_dims(x, axes)


def _reshape(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    shape = inputs[1] if len(inputs) > 1 else given["shape"]
    sizes = [int(size) for size in shape]
    if not given.get("allowzero"):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _transpose(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    return np.transpose(x, given.get("perm"))


def _flatten(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    axis = given.get("axis", 1)
    if not -x.ndim <= axis <= x.ndim:
        return None
    rows = math.prod(x.shape[: axis + x.ndim if axis < 0 else axis])
    return x.reshape(rows, -1) if rows else None


def _tile(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    repeats = [int(times) for times in inputs[1]]
    if len(repeats) != x.ndim or min(repeats, default=1) < 0 or len(inputs) > 2:
        return None
    return np.tile(x, repeats) if x.size * math.prod(repeats) <= SMALL else None


def _pad(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    """Constants around it, alone: what shapes are padded with."""
    if given.get("mode", b"constant") != b"constant" or len(inputs) < 2:
        return None
    amounts = [int(amount) for amount in inputs[1]]
    ends = len(amounts) // 2
    if len(inputs) > 3 or ends != x.ndim or min(amounts, default=0) < 0:
        return None
    widths = list(zip(amounts[:ends], amounts[ends:], strict=True))
    if math.prod(n + sum(width) for n, width in zip(x.shape, widths, strict=True)) > SMALL:
        return None
    value = inputs[2] if len(inputs) > 2 and inputs[2] is not None else 0
    return np.pad(x, widths, constant_values=np.asarray(value).reshape(()))


def _filled(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    shape = tuple(int(size) for size in np.ravel(x))
    if math.prod(shape) > SMALL:
        return None
    value = onnx.numpy_helper.to_array(given["value"]) if "value" in given else np.float32(0)
    return np.full(shape, np.ravel(value)[0])


def _expand(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    shape = np.broadcast_shapes(x.shape, tuple(int(size) for size in inputs[1]))
    return np.broadcast_to(x, shape) if math.prod(shape) <= SMALL else None


def _range(x: Array, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
    start, limit, step = (float(np.asarray(i).item()) for i in inputs)
    if abs(limit - start) > SMALL * abs(step):
        return None
    return np.arange(start, limit, step).astype(x.dtype)


_MOVE: Mapping[str, Callable[[Array, Sequence[Any], Mapping[str, Any]], Any]] = {
    "Div": _divide,
    "Mod": _modulo,
    "Max": _extreme(np.maximum),
    "Min": _extreme(np.minimum),
    "Cast": _cast,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Tile": _tile,
    "Pad": _pad,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Range": _range,
}
