"""Transposes move down the graph until they meet their inverse, or the output.

An exporter of a channels-last framework puts every convolution and norm between two Transposes.
Behind an elementwise operator a Transpose meets the next one, and both vanish; one behind rows that
become images is a permutation of the Linear's columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.model.late import computed
from fastgan.ops.registry import all_ops, find
from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule

_UNARY, _BINARY = (
    sorted({op.name for op in all_ops() if op.elementwise and op.arity in arities})
    for arities in ((1,), (0, 2))
)
#: Attributes by which elementwise operators before opset 7 lay one operand along the other.
_LAID = {"axis", "broadcast"}


def _permutation(node: ir.Node) -> list[int]:
    """Which axis of the input each axis of the output is."""
    perm = nodes.attributes(node).get("perm")
    source = node.inputs[0]
    assert source is not None
    return list(perm) if perm else list(range(len(nodes.shape(source))))[::-1]


def _transposed(op: Any, bound_to: str, of: Any) -> Any:
    return op.Transpose(of, _allow_other_attributes=True, _outputs=[bound_to])


class MergeTransposes(Rule):
    """Transpose(Transpose(x)) -> one Transpose; or nothing, as an Identity."""

    def pattern(self, op: Any, x: Any) -> Any:
        return _transposed(op, "out", _transposed(op, "inner", x))

    def rewrite(self, op: Any, x: ir.Value, inner: ir.Value, out: ir.Value) -> Any:
        first, second = (_permutation(nodes.producer(value)) for value in (inner, out))
        perm = [first[axis] for axis in second]
        if perm == sorted(perm):
            return op.Identity(x)
        return op.Transpose(x, perm=perm)


def _elementwise(node: ir.Node) -> bool:
    """Whether it is an elementwise operator at its graph's opset, and does nothing beside that."""
    if node.domain == nodes.DOMAIN:
        return True  # an Activate
    graph = node.graph
    version = 1 if graph is None else graph.opset_imports.get("", 1)
    op = find("", node.op_type, version)
    apart = op is not None and op.elementwise and not _LAID & node.attributes.keys()
    return apart and len(node.outputs) == 1


class SinkBelowUnary(Rule):
    """f(Transpose(x)) -> Transpose(f(x))."""

    def __init__(self, operator: str) -> None:
        super().__init__(operator)
        self.domain = {"_domain": nodes.DOMAIN} if operator == "Activate" else {}

    def pattern(self, op: Any, x: Any) -> Any:
        return getattr(op, self.of)(
            _transposed(op, "moved", x),
            **nodes.ANY,
            _outputs=["out"],
            **self.domain,
        )

    def refuses(self, x: ir.Value, moved: ir.Value, out: ir.Value) -> str | None:
        if not _elementwise(nodes.producer(out)):
            return "it is not elementwise here"
        return None

    def rewrite(self, op: Any, x: ir.Value, moved: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(out)
        y = getattr(op, self.of)(x, *node.inputs[1:], **nodes.attributes(node), **self.domain)
        y.shape, y.type = x.shape, out.type
        return op.Transpose(y, perm=_permutation(nodes.producer(moved)))


class SinkBelowBinary(Rule):
    """f(Transpose(x), constant) -> Transpose(f(x, constant moved the other way))."""

    def pattern(self, op: Any, x: Any, constant: Any) -> Any:
        return getattr(op, self.of)(
            _transposed(op, "moved", x), constant, _allow_other_attributes=True, _outputs=["out"]
        )

    def refuses(
        self, x: ir.Value, constant: ir.Value, moved: ir.Value, out: ir.Value
    ) -> str | None:
        if not nodes.is_constant(constant):
            return "the other operand depends on data"
        if not _elementwise(nodes.producer(out)):
            return "it is not elementwise here"
        if nodes.shape(out) != nodes.shape(moved):
            return "the constant broadcasts the data"
        return None

    def rewrite(
        self, op: Any, x: ir.Value, constant: ir.Value, moved: ir.Value, out: ir.Value
    ) -> Any:
        perm, array = _permutation(nodes.producer(moved)), nodes.constant(constant)
        assert array is not None
        full = array.reshape((1,) * (len(perm) - array.ndim) + array.shape)
        back = np.ascontiguousarray(full.transpose(np.argsort(perm)))
        other = op.initializer(ir.tensor(back), name=f"{out.name}.constant")
        y = getattr(op, self.of)(x, other, **nodes.attributes(nodes.producer(out)))
        y.shape, y.type = x.shape, out.type
        return op.Transpose(y, perm=perm)


class PermuteColumns(Rule):
    """Transpose(Linear with `shape`) -> Linear with another `shape`, its columns permuted."""

    def pattern(self, op: Any) -> Any:
        return _transposed(op, "out", nodes.any_product(op, "Linear", "linear"))

    def refuses(self, linear: ir.Value, out: ir.Value) -> str | None:
        if "shape" not in nodes.producer(linear).attributes:
            return "the rows are no images"
        if nodes.fused_inputs(nodes.producer(linear))[3] is not None:
            return "a residual lies in the order before"
        if "slopes" in nodes.producer(linear).attributes:
            return "it has a slope for each channel"
        if _permutation(nodes.producer(out))[0] != 0:
            return "the samples move"
        return None

    def rewrite(self, op: Any, linear: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(linear)
        perm = _permutation(nodes.producer(out))
        shape = list(nodes.attributes(node)["shape"])
        moved = np.arange(int(np.prod(shape))).reshape(1, *shape).transpose(perm).reshape(-1)
        inputs: list[ir.Value | None] = [node.inputs[0]]
        for value in node.inputs[1:3]:
            assert value is not None
            assert value.const_value is not None
            tensor = computed(value.const_value, "columns", lambda a, _: a[..., moved], (moved,))
            inputs.append(op.initializer(tensor, name=f"{out.name}.{len(inputs)}"))
        new = [shape[axis - 1] for axis in perm[1:]]
        origin = nodes.origin(node, nodes.producer(out))
        return nodes.rebuild(op, node, inputs, shape=new, origin=origin)


SINK_RULES = (
    MergeTransposes.rule(),
    *[SinkBelowUnary.rule(operator) for operator in (*_UNARY, "Activate")],
    *[SinkBelowBinary.rule(operator) for operator in _BINARY],
)
COLUMN_RULES = (PermuteColumns.rule(),)
