"""A graph that was exported at one batch size, at any other.

Exporters freeze the batch where a model reshapes by it; StyleGAN2 with the batch as the groups of a
convolution can't be exported otherwise. In the rewritten graph what depended on it is gone, and
most often each sample's rows of every tensor follow from the same sample's rows of the inputs
alone. That is checked here node by node: then the graph for n samples is the same with other
shapes, and a few constants that name them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.errors import UnsupportedError
from fastgan.ops.nodes import where
from fastgan.rewrite.fusion import nodes
from fastgan.rewrite.fusion.addressing import padding

Array = np.ndarray[Any, Any]


def rebatch(model: ir.Model, inputs: Mapping[str, int], count: int) -> None:
    """Make a specialised and rewritten model one for `count` samples, in place.

    Args:
        model: planned for `inputs[name]` samples.
        inputs: the names of the inputs whose first axis is the samples, all of one length.
        count: the samples wanted.

    Raises:
        UnsupportedError: a node whose samples may depend on each other, or that is not known here.
    """
    frozen = next(iter(inputs.values()))
    walk = _Walk(frozen, count)
    for value in model.graph.inputs:
        if value.name in inputs:
            walk.mark(value)
    for node in model.graph:
        walk.visit(node)
    for value in model.graph.outputs:
        if value not in walk.batched:
            raise UnsupportedError(f"output {value.name!r}", "no axis of samples", "one")
    walk.apply()


class _Walk:
    """What is known of the graph so far.

    Attributes:
        batched: the values whose first axis is the samples, each row made from its sample alone.
    """

    def __init__(self, frozen: int, count: int) -> None:
        self.frozen, self.count = frozen, count
        self.batched: set[ir.Value] = set()
        self._constants: dict[tuple[ir.Node, int], Array] = {}
        self._attributes: list[tuple[ir.Node, ir.Attr]] = []

    def mark(self, value: ir.Value) -> None:
        """Take the first axis of a value for the samples."""
        if nodes.shape(value)[:1] != (self.frozen,):
            raise UnsupportedError(
                f"value {value.name!r}", f"shape {nodes.shape(value)}", f"{self.frozen} samples"
            )
        self.batched.add(value)

    def visit(self, node: ir.Node) -> None:
        """Mark a node's outputs, if an input is marked; a refusal is an error."""
        if not any(value in self.batched for value in node.inputs if value is not None):
            if not self._draws(node):
                return
        else:
            rule = _RULES.get((node.domain, node.op_type))
            reason = f"{node.op_type} of samples" if rule is None else rule(self, node)
            if reason:
                raise UnsupportedError(
                    where(node), reason, "samples that do not depend on each other"
                )
        for value in node.outputs:
            self.mark(value)

    def _draws(self, node: ir.Node) -> bool:
        """Whether a node draws numbers for each sample, from nothing but their shape."""
        if node.op_type in ("RandomNormal", "RandomUniform"):
            shape = list(nodes.attributes(node).get("shape", ()))
            if shape[:1] == [self.frozen]:
                drawn = ir.AttrInt64s("shape", [self.count, *shape[1:]])
                self._attributes.append((node, drawn))
                return True
        elif node.op_type in ("RandomNormalLike", "RandomUniformLike"):
            like = nodes.constant(node.inputs[0])
            if like is not None and like.shape[:1] == (self.frozen,):
                self.replace(node, 0, np.zeros((self.count, *like.shape[1:]), like.dtype))
                return True
        return False

    def apply(self) -> None:
        """Change what names the samples."""
        for (node, position), array in self._constants.items():
            old = node.inputs[position]
            assert old is not None
            name = f"{node.outputs[0].name}.{position}.rows"
            node.replace_input_with(position, _constant(array, name, old))
        for node, attribute in self._attributes:
            node.attributes[attribute.name] = attribute
        for value in self.batched:
            value.shape = ir.Shape((self.count, *nodes.shape(value)[1:]))

    # What rules ask ------------------------------------------------------------------------------

    def is_batched(self, node: ir.Node, position: int) -> bool:
        """Whether an input is one of samples."""
        return position < len(node.inputs) and node.inputs[position] in self.batched

    def replace(self, node: ir.Node, position: int, array: Array) -> None:
        """Let a node have another constant."""
        self._constants[node, position] = array

    def broadcasts(self, node: ir.Node, position: int, rank: int, repeat: bool = False) -> str:
        """ "" where an input of one row, or of a sample's own, fits an output of this rank.

        repeat: a constant row is to be repeated for each sample, not left to broadcast.
        """
        value = node.inputs[position] if position < len(node.inputs) else None
        if value is None:
            return ""
        shape = nodes.shape(value)
        if value in self.batched:
            return "" if len(shape) == rank else "samples meet another axis"
        if len(shape) < rank or (shape[0] == 1 and not repeat):
            return ""
        constant = nodes.constant(value)
        if constant is None or not (constant == constant[:1]).all():
            return "rows that differ from sample to sample"
        self.replace(node, position, np.repeat(constant[:1], self.count if repeat else 1, axis=0))
        return ""


Rule = Callable[[_Walk, ir.Node], str]


def _constant(array: Array, name: str, like: ir.Value) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    shape = ir.Shape(array.shape)
    return ir.Value(name=name, shape=shape, type=like.type, const_value=tensor)


def _rank(value: ir.Value | None) -> int:
    return 0 if value is None else len(nodes.shape(value))


def _given(node: ir.Node, name: str, default: Any) -> Any:
    return nodes.attributes(node).get(name, default)


def _elementwise(walk: _Walk, node: ir.Node) -> str:
    rank = _rank(node.outputs[0])
    return next(filter(None, (walk.broadcasts(node, i, rank) for i in range(len(node.inputs)))), "")


def _of_first(walk: _Walk, node: ir.Node) -> str:
    """Samples go in first; all else is a parameter, the same for all."""
    others = any(walk.is_batched(node, i) for i in range(1, len(node.inputs)))
    return "parameters of samples" if others or not walk.is_batched(node, 0) else ""


def _product(walk: _Walk, node: ir.Node) -> str:
    """A fused product: behind weight and bias come a residual and scales, each broadcast."""
    if not walk.is_batched(node, 0) or walk.is_batched(node, 1) or walk.is_batched(node, 2):
        return "weights of samples"
    rank = _rank(node.outputs[0])
    return next(filter(None, (walk.broadcasts(node, i, rank) for i in range(3, 6))), "")


def _normalise(walk: _Walk, node: ir.Node) -> str:
    """A fused norm, always of each sample by itself; see rewrite/fusion/normalise.py.

    gamma and beta are [C], or [N, C] for each sample; a residual broadcasts.
    """
    if not walk.is_batched(node, 0):
        return "parameters of samples"
    rank = _rank(node.outputs[0])
    if _given(node, "over", "") == "last" and rank < 2:
        return "across samples"
    # As [C] or, where every sample's are the same, as [1, C].
    found = [walk.broadcasts(node, i, 2) for i in (1, 2)]
    return next(filter(None, (*found, walk.broadcasts(node, 3, rank))), "")


def _reshape(walk: _Walk, node: ir.Node) -> str:
    if nodes.shape(node.outputs[0])[:1] != (walk.frozen,):
        return "samples merged with another axis"
    walk.replace(node, 1, np.array([walk.count, *nodes.shape(node.outputs[0])[1:]], np.int64))
    return ""


def _renamed(walk: _Walk, node: ir.Node) -> str:
    """Unsqueeze, Squeeze and Flatten: the first axis must stay where it is."""
    axes = _given(node, "axes", None)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        constant = nodes.constant(node.inputs[1])
        axes = None if constant is None else constant.reshape(-1).tolist()
    if node.op_type == "Flatten":
        return "" if _given(node, "axis", 1) == 1 else "samples merged with another axis"
    if axes is None:
        return "axes that are not named"
    rank = _rank(node.outputs[0] if node.op_type == "Unsqueeze" else node.inputs[0])
    return "samples in another axis" if any(int(a) % rank == 0 for a in axes) else ""


def _expand(walk: _Walk, node: ir.Node) -> str:
    target = nodes.constant(node.inputs[1])
    if target is None or _rank(node.inputs[0]) != _rank(node.outputs[0]):
        return "samples in another axis"
    walk.replace(node, 1, np.array([walk.count, *target.tolist()[1:]], np.int64))
    return ""


def _transpose(walk: _Walk, node: ir.Node) -> str:
    perm = _given(node, "perm", list(range(_rank(node.inputs[0])))[::-1])
    return "" if perm[0] == 0 else "samples in another axis"


def _axis(default: int) -> Rule:
    """Ops along one axis, which must not be that of the samples."""

    def rule(walk: _Walk, node: ir.Node) -> str:
        axis = _given(node, "axis", default) % max(1, _rank(node.outputs[0]))
        return _of_first(walk, node) or ("across samples" if axis == 0 else "")

    return rule


def _concat(walk: _Walk, node: ir.Node) -> str:
    rank = _rank(node.outputs[0])
    if _given(node, "axis", 0) % rank == 0:
        return "across samples"
    found = (walk.broadcasts(node, i, rank, repeat=True) for i in range(len(node.inputs)))
    return next(filter(None, found), "")


def _slice(walk: _Walk, node: ir.Node) -> str:
    axes = nodes.constant([*node.inputs, None, None, None][3])
    given = _given(node, "axes", None) if axes is None else axes.reshape(-1).tolist()
    if given is None or any(int(axis) % _rank(node.inputs[0]) == 0 for axis in given):
        return "some of the samples"
    return _of_first(walk, node)


def _gather(walk: _Walk, node: ir.Node) -> str:
    if walk.is_batched(node, 0) == walk.is_batched(node, 1):
        return "samples picked by samples"
    axis = _given(node, "axis", 0) % _rank(node.inputs[0])
    # A table looked up by samples: its rows; what samples have, picked the same way for all.
    return "" if (axis == 0) == walk.is_batched(node, 1) else "samples in another axis"


def _pad(walk: _Walk, node: ir.Node) -> str:
    pads = padding(node, _rank(node.inputs[0]))[1]
    if pads is None or pads[0] != (0, 0):
        return "samples padded"
    return _of_first(walk, node)


def _resize(walk: _Walk, node: ir.Node) -> str:
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        sizes = nodes.constant(node.inputs[3])
        if sizes is None or "axes" in node.attributes:
            return "sizes of some axes"
        walk.replace(node, 3, np.array([walk.count, *sizes.tolist()[1:]], np.int64))
    same = nodes.shape(node.outputs[0])[0] == walk.frozen
    return _of_first(walk, node) if same else "samples resized"


def _reduce(walk: _Walk, node: ir.Node) -> str:
    axes = nodes.reduced_axes(node)
    return "across samples" if axes is None or 0 in axes else ""


def _matmul(walk: _Walk, node: ir.Node) -> str:
    left, right = (_rank(value) for value in node.inputs[:2])
    if not walk.is_batched(node, 0) or left < 2:
        return "a matrix of samples"
    if not walk.is_batched(node, 1):
        return "" if right == 2 else "matrices of one batch size"
    return "" if left == right > 2 else "across samples"


def _norm(walk: _Walk, node: ir.Node) -> str:
    return "across samples" if _given(node, "training_mode", 0) else _of_first(walk, node)


def _one_hot(walk: _Walk, node: ir.Node) -> str:
    axis = _given(node, "axis", -1) % _rank(node.outputs[0])
    return _of_first(walk, node) or ("samples in another axis" if axis == 0 else "")


_ONNX: dict[Rule, tuple[str, ...]] = {
    _elementwise: (
        *("Abs", "Add", "And", "Cast", "Ceil", "Clip", "Cos", "Div", "Dropout", "Elu", "Equal"),
        *("Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish"),
        *("Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish"),
        *("Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu"),
        *("Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan"),
        *("Tanh", "ThresholdedRelu", "Where", "Xor"),
    ),
    _of_first: (
        *("AveragePool", "Bernoulli", "Conv", "ConvTranspose", "DepthToSpace"),
        *("GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization"),
        *("MaxPool", "RandomNormalLike", "RandomUniformLike", "SpaceToDepth"),
    ),
    _reshape: ("Reshape",),
    _renamed: ("Flatten", "Squeeze", "Unsqueeze"),
    _expand: ("Expand",),
    _transpose: ("Transpose",),
    _axis(-1): ("LayerNormalization", "LogSoftmax", "LpNormalization", "Softmax"),
    _axis(0): ("Split",),
    _concat: ("Concat",),
    _slice: ("Slice",),
    _gather: ("Gather",),
    _pad: ("Pad",),
    _resize: ("Resize", "Upsample"),
    _reduce: (
        *("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
        *("ReduceSum", "ReduceSumSquare"),
    ),
    _matmul: ("MatMul",),
    _norm: ("BatchNormalization",),
    _one_hot: ("OneHot",),
}
_RULES: dict[tuple[str, str], Rule] = {
    **{("", name): rule for rule, names in _ONNX.items() for name in names},
    **{(nodes.DOMAIN, name): _product for name in nodes.PRODUCTS},
    (nodes.DOMAIN, "Normalise"): _normalise,
    (nodes.DOMAIN, "Activate"): _elementwise,
}
