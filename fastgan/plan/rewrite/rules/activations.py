"""Activations by their names, where exporters write them step by step; and before a Concat.

fastgan.Activate(x) with `activation` stands for those that ONNX, or the model's opset, has no
operator for. Epilogues know them by the same names.
"""

from __future__ import annotations

from math import isclose, sqrt
from typing import Any

import onnx_ir as ir

from fastgan.plan import activations
from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule


def named(node: ir.Node) -> tuple[str, tuple[float, ...]] | None:
    """The name of an activation and its parameters, or None where there is no such."""
    given = {key: attribute.value for key, attribute in node.attributes.items()}
    if node.domain == nodes.DOMAIN:
        return given["activation"], ()
    found = activations.of(node.op_type, given)
    return None if found is None else (found[0].name, found[1])


def _is(value: ir.Value, number: float) -> bool:
    array = nodes.constant(value)
    return array is not None and array.size == 1 and isclose(array.item(), number, rel_tol=1e-3)


class _Named(Rule):
    """A spelling of an activation -> fastgan.Activate."""

    activation: str

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value, **_: Any) -> Any:
        origin = nodes.origin(nodes.producer(out))
        return op.Activate(
            x, _domain=nodes.DOMAIN, activation=self.activation, **nodes.typed(origin=origin)
        )


class Silu(_Named):
    """x * sigmoid(x)."""

    activation = "silu"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Mul(x, op.Sigmoid(x), _outputs=["out"])


class Mish(_Named):
    """x * tanh(softplus(x))."""

    activation = "mish"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Mul(x, op.Tanh(op.Softplus(x)), _outputs=["out"])


class HardSwish(_Named):
    """x * hard_sigmoid(x), of a slope of 1/6."""

    activation = "hard_swish"

    def pattern(self, op: Any, x: Any) -> Any:
        gate = op.HardSigmoid(x, _allow_other_attributes=True, _outputs=["gate"])
        return op.Mul(x, gate, _outputs=["out"])

    def refuses(self, x: ir.Value, gate: ir.Value, out: ir.Value) -> str | None:
        given = nodes.attributes(nodes.producer(gate))
        slope, shift = given.get("alpha", 0.2), given.get("beta", 0.5)
        if not (isclose(slope, 1 / 6, rel_tol=1e-3) and shift == 0.5):
            return "another slope"
        return None


class Gelu(_Named):
    """x / 2 * (1 + erf(x / sqrt(2))), the factors in any order."""

    activation = "gelu"

    def pattern(self, op: Any, x: Any, root: Any, one: Any, half: Any) -> Any:
        order, scaled = self.of, getattr(op, self.behind)
        curve = op.Add(op.Erf(scaled(x, root)), one)
        if order == "half x":
            return op.Mul(op.Mul(x, half), curve, _outputs=["out"])
        if order == "half last":
            return op.Mul(op.Mul(x, curve), half, _outputs=["out"])
        return op.Mul(x, op.Mul(curve, half), _outputs=["out"])

    def refuses(
        self, x: ir.Value, root: ir.Value, one: ir.Value, half: ir.Value, out: ir.Value
    ) -> str | None:
        wanted = sqrt(2.0) if self.behind == "Div" else sqrt(0.5)
        if not (_is(root, wanted) and _is(one, 1.0) and _is(half, 0.5)):
            return "other numbers"
        return None


class OneSlope(Rule):
    """PRelu with one constant slope for all channels -> LeakyRelu."""

    def pattern(self, op: Any, x: Any, slope: Any) -> Any:
        return op.PRelu(x, slope, _outputs=["out"])

    def refuses(self, x: ir.Value, slope: ir.Value, out: ir.Value) -> str | None:
        constant = nodes.constant(slope)
        if constant is None or constant.size != 1 or nodes.shape(out) != nodes.shape(x):
            return "the slope depends on data, or differs between channels"
        return None

    def rewrite(self, op: Any, x: ir.Value, slope: ir.Value, out: ir.Value) -> Any:
        constant = nodes.constant(slope)
        assert constant is not None
        return op.LeakyRelu(x, alpha=float(constant.reshape(-1)[0]))


class BeforeConcat(Rule):
    """activation(Concat(a, b, ...)) -> Concat(activation(a), activation(b), ...).

    So it moves into the epilogue of whatever makes one of them.
    """

    def pattern(self, op: Any) -> Any:
        joined = op.Concat(**nodes.ANY, _outputs=["joined"])
        return getattr(op, self.of)(joined, _allow_other_attributes=True, _outputs=["out"])

    def refuses(self, joined: ir.Value, out: ir.Value) -> str | None:
        parts = [value for value in nodes.producer(joined).inputs if value is not None]
        if not any(_made_for_one(value) for value in parts):
            return "no product takes it"
        return None

    def rewrite(self, op: Any, joined: ir.Value, out: ir.Value) -> Any:
        node, concat = nodes.producer(out), nodes.producer(joined)
        parts = []
        for value in concat.inputs:
            assert value is not None
            part = getattr(op, self.of)(value, **nodes.attributes(node))
            part.shape, part.type = value.shape, value.type
            parts.append(part)
        return op.Concat(*parts, axis=nodes.attributes(concat)["axis"])


def _made_for_one(value: ir.Value) -> bool:
    """Whether it is a product, or a norm, that nobody else reads."""
    node = value.producer()
    return (
        node is not None
        and node.domain == nodes.DOMAIN
        and node.op_type in nodes.WITH_EPILOGUES
        and "activation" not in node.attributes
        and len(value.uses()) == 1
        and not value.is_graph_output()
    )


class ReluOfLeaky(Rule):
    """relu(x), where leaky_relu(x) is there too -> relu(leaky_relu(x)), which is the same.

    A U-Net's skip connections read what its encoder activates in another way. Now the product
    before both has one reader, and takes the leaky relu into its epilogue.
    """

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Relu(x, _outputs=["out"])

    def refuses(self, x: ir.Value, out: ir.Value) -> str | None:
        if _leaky(x, nodes.producer(out)) is None:
            return "no leaky relu of a positive slope reads the same before it"
        return None

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value) -> Any:
        leaky = _leaky(x, nodes.producer(out))
        assert leaky is not None
        return op.Relu(leaky)


#: A skip connection has a few; to look through all of thousands for each of them takes squares.
_MOST_READERS = 64


def _leaky(x: ir.Value, before: ir.Node) -> ir.Value | None:
    """leaky_relu(x), of a positive slope, where it is made before this node."""
    uses = x.uses()
    if len(uses) > _MOST_READERS:
        return None
    readers = {node for node, _ in uses if node.op_type == "LeakyRelu"}
    if not readers or before.graph is None:
        return None
    for node in before.graph:
        if node is before:
            return None
        if node in readers and nodes.attributes(node).get("alpha", 0.01) > 0:
            return node.outputs[0]
    return None


NAME_RULES = (
    Silu.rule(),
    Mish.rule(),
    HardSwish.rule(),
    *[
        Gelu.rule(order, operator)
        for order in ("half x", "half last", "half curve")
        for operator in ("Div", "Mul")
    ],
    OneSlope.rule(),
)
CONCAT_RULES = tuple(BeforeConcat.rule(operator) for operator in ("Relu", "LeakyRelu"))
SKIP_RULES = (ReluOfLeaky.rule(),)
