"""Norms that depend on their input, as exporters write them -> fastgan.Normalise.

    Normalise(x, gamma, beta, residual) =
        activation(gamma * (x - mean) / sqrt(variance + epsilon) + beta + residual)

`over` says of what mean and variance are:
    "space": of each sample and group of channels, `groups` of them: instance and group norm, and
        layer norm over whole samples; gamma and beta are [C] or, for each sample, [N, C];
    "channels": of each pixel's channels: pixel norm; gamma and beta are [C];
    "last": of the last axis: layer norm of tokens; gamma and beta are as long as that axis.
With `centre` 0 the mean is taken as zero. gamma, beta and residual may be left out.

Exporters write these as InstanceNormalization (group norm: between two Reshapes),
GroupNormalization, LayerNormalization, RMSNormalization, BatchNormalization in training mode (of
one sample, whose channels are those of all samples), or step by step, from ReduceMean to Div.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule
from fastgan.plan.rewrite.rules.standardise import Standardised, standardised

Array = np.ndarray[Any, Any]


def build(
    op: Any,
    out: ir.Value,
    x: ir.Value,
    gamma: ir.Value | Array | None,
    beta: ir.Value | Array | None,
    **given: Any,
) -> Any:
    """The node in place of the one that makes `out`; constants become initializers.

    Its attributes are those given; where it comes from, if that is not said, is that node.
    """
    inputs: list[ir.Value | None] = [x]
    if _all(gamma, 1.0) and (beta is None or _all(beta, 0.0)):
        gamma = beta = None
    for name, parameter in (("gamma", gamma), ("beta", beta)):
        if isinstance(parameter, np.ndarray):
            parameter = op.initializer(
                ir.tensor(np.ascontiguousarray(parameter)), name=f"{out.name}.{name}"
            )
        inputs.append(parameter)
    while inputs[-1] is None:
        inputs.pop()
    given.setdefault("origin", nodes.origin(nodes.producer(out)))
    return op.Normalise(*inputs, _domain=nodes.DOMAIN, **nodes.typed(**given))


def _all(parameter: ir.Value | Array | None, number: float) -> bool:
    array = parameter if isinstance(parameter, np.ndarray) else nodes.constant(parameter)
    return array is not None and bool((array == number).all())


class NormaliseInstanceNorm(Rule):
    """InstanceNormalization, and BatchNormalization of one sample by its own statistics."""

    def pattern(self, op: Any, x: Any, gamma: Any, beta: Any) -> Any:
        return getattr(op, self.of)(*(x, gamma, beta), **nodes.ANY, _outputs=["out"])

    def refuses(self, x: ir.Value, gamma: ir.Value, beta: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(out)
        if self.of == "BatchNormalization":
            if not nodes.attributes(node).get("training_mode", 0) or nodes.shape(x)[0] != 1:
                return "it has statistics of its own, or of several samples"
            if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
                return "its statistics are used"
        if len(nodes.shape(x)) < 3 or len(nodes.shape(gamma)) != 1:
            return "not signals, images or volumes with a scale per channel"
        constants = all(nodes.is_constant(value) for value in (gamma, beta))
        if not constants and nodes.shape(x)[0] != 1:
            return "a parameter depends on data"
        return None

    def rewrite(self, op: Any, x: ir.Value, gamma: ir.Value, beta: ir.Value, out: ir.Value) -> Any:
        channels = nodes.shape(x)[1]
        if any(not nodes.is_constant(value) for value in (gamma, beta)):
            rows = op.initializer(ir.tensor([1, channels]), name=f"{out.name}.rows")
            gamma, beta = op.Reshape(gamma, rows), op.Reshape(beta, rows)
            for value, like in ((gamma, x), (beta, x)):
                value.shape, value.type = ir.Shape((1, channels)), like.type
        return _over_space(op, out, channels, x, gamma, beta)


def _over_space(op: Any, out: ir.Value, groups: int, x: ir.Value, gamma: Any, beta: Any) -> Any:
    """A norm over space, with the epsilon of the node that makes `out`."""
    epsilon = float(nodes.attributes(nodes.producer(out)).get("epsilon", 1e-5))
    return build(op, out, x, gamma, beta, over="space", groups=groups, centre=1, epsilon=epsilon)


class NormaliseGroupNorm(Rule):
    """GroupNormalization with constant parameters, per channel or (before opset 21) per group."""

    def pattern(self, op: Any, x: Any, gamma: Any, beta: Any) -> Any:
        return op.GroupNormalization(x, gamma, beta, _allow_other_attributes=True, _outputs=["out"])

    def refuses(self, x: ir.Value, gamma: ir.Value, beta: ir.Value, out: ir.Value) -> str | None:
        if any(not nodes.is_constant(value) for value in (gamma, beta)):
            return "a parameter depends on data"
        return None

    def rewrite(self, op: Any, x: ir.Value, gamma: ir.Value, beta: ir.Value, out: ir.Value) -> Any:
        node, channels = nodes.producer(out), nodes.shape(x)[1]
        given = nodes.attributes(node)
        parameters = []
        for value in (gamma, beta):
            array = nodes.constant(value)
            assert array is not None
            parameters.append(np.repeat(array.reshape(-1), channels // array.size))
        return _over_space(op, out, int(given["num_groups"]), x, *parameters)


class NormaliseRows(Rule):
    """LayerNormalization and RMSNormalization over the last axis, parameters constant."""

    def pattern(self, op: Any, x: Any, gamma: Any) -> Any:
        return getattr(op, self.of)(x, gamma, **nodes.ANY, _outputs=["out"])

    def refuses(self, x: ir.Value, gamma: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(out)
        rank = len(nodes.shape(x))
        if nodes.attributes(node).get("axis", -1) not in (-1, rank - 1):
            return "over more than the last axis"
        if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
            return "its statistics are used"
        for value in node.inputs[1:]:
            if value is not None and not nodes.is_constant(value):
                return "a parameter depends on data"
        if nodes.shape(gamma) != nodes.shape(x)[-1:]:
            return "the scale is not as long as the last axis"
        return None

    def rewrite(self, op: Any, x: ir.Value, gamma: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(out)
        epsilon = float(nodes.attributes(node).get("epsilon", 1e-5))
        beta = [*node.inputs, None][2]
        centre = int(self.of == "LayerNormalization")
        return build(op, out, x, gamma, beta, over="last", centre=centre, epsilon=epsilon)


class NormaliseByHand(Rule):
    """(x - mean) / sqrt(variance + epsilon), or x / sqrt(mean square + epsilon), spelt out."""

    def pattern(self, op: Any, a: Any, b: Any) -> Any:
        return getattr(op, self.of)(a, b, _outputs=["out"])

    def refuses(self, a: ir.Value, b: ir.Value, out: ir.Value) -> str | None:
        if _found(a, b, self.of, out) is None:
            return "no norm"
        return None

    def rewrite(self, op: Any, a: ir.Value, b: ir.Value, out: ir.Value) -> Any:
        found = _found(a, b, self.of, out)
        assert found is not None
        gamma = None
        if found.gain != 1.0:
            size = nodes.shape(found.x)[-1 if found.over == "last" else 1]
            dtype = found.x.dtype
            assert dtype is not None
            gamma = np.full(size, found.gain, dtype.numpy())
        over, centre, epsilon = found.over, int(found.centre), found.epsilon
        how = {"groups": found.groups} if found.over == "space" else {}
        return build(
            op, out, found.x, gamma, None, over=over, centre=centre, epsilon=epsilon, **how
        )


def _found(a: ir.Value, b: ir.Value, operator: str, out: ir.Value) -> Standardised | None:
    found = standardised(a, b, operator) if nodes.is_float(out) else None
    return found if found is not None and nodes.shape(found.x) == nodes.shape(out) else None


RULES = (
    NormaliseInstanceNorm.rule("InstanceNormalization"),
    NormaliseInstanceNorm.rule("BatchNormalization"),
    NormaliseGroupNorm.rule(),
    NormaliseRows.rule("LayerNormalization"),
    NormaliseRows.rule("RMSNormalization"),
    NormaliseByHand.rule("Div"),
    NormaliseByHand.rule("Mul"),
)
