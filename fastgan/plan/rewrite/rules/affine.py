"""What comes around and behind a norm -> into fastgan.Normalise: groups, scales and shifts.

A group norm is an instance norm between two Reshapes; scale and shift, AdaIN's of each sample too,
are products and sums behind it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.normalise import Array, build
from fastgan.plan.rewrite.rules.rule import Rule


class MergeReshapes(Rule):
    """Reshape(Normalise(Reshape(x))) back to x's own shape -> Normalise of groups of channels."""

    def pattern(self, op: Any, x: Any, apart: Any, back: Any) -> Any:
        rows = op.Reshape(x, apart, _allow_other_attributes=True, _outputs=["rows"])
        norm = op.Normalise(rows, **nodes.FUSED, _outputs=["norm"])
        return op.Reshape(norm, back, _allow_other_attributes=True, _outputs=["out"])

    def refuses(
        self,
        x: ir.Value,
        rows: ir.Value,
        norm: ir.Value,
        out: ir.Value,
        apart: ir.Value,
        back: ir.Value,
    ) -> str | None:
        node = nodes.producer(norm)
        given, inner, shape = nodes.attributes(node), nodes.shape(rows), nodes.shape(x)
        if nodes.shape(out) != shape or len(shape) < 3 or "activation" in given:
            return "it does not go back to the same signals or images"
        per_channel = given["over"] == "space" and given["groups"] == inner[1]
        if not per_channel and not (given["over"] == "last" and len(inner) == 3):
            return "it is not of each row by itself"
        total = shape[0] * shape[1]
        if (inner[0] * inner[1]) > total or total % (inner[0] * inner[1]):
            return "a row is not some channels of one sample"
        if (inner[0] * inner[1]) % shape[0] or inner[0] not in (1, shape[0]):
            return "a row is of several samples"
        parameters = [value for value in node.inputs[1:] if value is not None]
        if given["over"] == "last" and parameters:
            return "a scale or shift differs from pixel to pixel"
        constants = all(nodes.is_constant(value) for value in parameters)
        if not constants and inner[:2] != (1, total):
            return "a parameter depends on data"
        return None

    def rewrite(
        self, op: Any, x: ir.Value, rows: ir.Value, norm: ir.Value, out: ir.Value, **_: Any
    ) -> Any:
        node, (samples, channels) = nodes.producer(norm), nodes.shape(x)[:2]
        first, second = nodes.shape(rows)[:2]
        groups = first * second // samples
        parameters: list[ir.Value | Array | None] = []
        for value in [*node.inputs, None, None][1:3]:
            array = nodes.constant(value)
            if array is not None:
                full = np.broadcast_to(array.reshape(-1, second), (first, second))
                per_group = (
                    np.repeat(full.reshape(samples, groups), channels // groups, 1)
                    if first == 1
                    else np.repeat(full[0], channels // groups)
                )
                same = per_group.ndim == 2 and (per_group == per_group[:1]).all()
                parameters.append(per_group[0] if same else per_group)
            elif value is not None:
                target = op.initializer(
                    ir.tensor([samples, channels]), name=f"{out.name}.rows{len(parameters)}"
                )
                reshaped = op.Reshape(value, target)
                reshaped.shape, reshaped.type = ir.Shape((samples, channels)), x.type
                parameters.append(reshaped)
            else:
                parameters.append(None)
        given = nodes.attributes(node, over="space", groups=groups)
        inner, outer = nodes.producer(rows), nodes.producer(out)
        given["origin"] = nodes.origin(inner, node, outer)
        return build(op, out, x, *_alike(parameters, samples), **given)


class ScaleOrShift(Rule):
    """Normalise times or plus one number per channel, or per sample and channel -> Normalise."""

    def pattern(self, op: Any, term: Any) -> Any:
        norm = nodes.any_product(op, "Normalise", "norm")
        return getattr(op, self.of)(norm, term, _outputs=["out"])

    def refuses(self, term: ir.Value, norm: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(norm)
        if "activation" in node.attributes or nodes.fused_inputs(node)[3] is not None:
            return "an activation or a residual comes between"
        if nodes.shape(out) != nodes.shape(norm):
            return "the term broadcasts the norm"
        if _parameters(node, self.of, term) is None:
            return "the term differs from pixel to pixel, or depends on other data"
        return None

    def rewrite(self, op: Any, term: ir.Value, norm: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(norm)
        found = _parameters(node, self.of, term)
        assert found is not None
        samples, channels = nodes.shape(norm)[:2]
        parameters: list[ir.Value | Array | None] = []
        for index, value in enumerate(found):
            if isinstance(value, ir.Value) and len(nodes.shape(value)) > 2:
                target = op.initializer(
                    ir.tensor([samples, channels]), name=f"{out.name}.rows{index}"
                )
                value = op.Reshape(value, target)
                value.shape, value.type = ir.Shape((samples, channels)), norm.type
            parameters.append(value)
        if nodes.attributes(node)["over"] == "space":
            parameters = _alike(parameters, samples)
        given = nodes.attributes(node, origin=nodes.origin(node, nodes.producer(out)))
        x = node.inputs[0]
        assert x is not None
        return build(op, out, x, *parameters, **given)


def _parameters(
    node: ir.Node, operator: str, term: ir.Value
) -> tuple[ir.Value | Array | None, ir.Value | Array | None] | None:
    """gamma and beta with the term in them: constants as arrays; None where that can't be."""
    _, gamma, beta, _ = nodes.fused_inputs(node)
    old_gamma, old_beta = nodes.constant(gamma), nodes.constant(beta)
    norm = node.outputs[0]
    constant = nodes.constant(term)
    if constant is None:
        if not _per_sample(node, term):
            return None
        if operator == "Mul":
            return None if gamma is not None or beta is not None else (term, None)
        return None if beta is not None else (old_gamma if old_gamma is not None else gamma, term)
    row = _per_channel(node, constant)
    if row is None or (gamma is not None and old_gamma is None and operator in ("Mul", "Div")):
        return None
    dtype = norm.dtype
    assert dtype is not None
    if operator in ("Add", "Sub"):
        if beta is not None and old_beta is None:
            return None
        row = -row if operator == "Sub" else row
        total = row if old_beta is None else old_beta.astype(np.float64) + row
        return (old_gamma if old_gamma is not None else gamma), total.astype(dtype.numpy())
    if beta is not None and old_beta is None:
        return None
    row = 1 / row if operator == "Div" else row
    scaled = [
        None if old is None else (old.astype(np.float64) * row).astype(dtype.numpy())
        for old in (old_gamma, old_beta)
    ]
    return (row.astype(dtype.numpy()) if scaled[0] is None else scaled[0]), scaled[1]


def _per_channel(node: ir.Node, constant: Array) -> Array | None:
    """The constant as one number for each channel (or each place of the last axis)."""
    shape = nodes.shape(node.outputs[0])
    if constant.ndim > len(shape):
        return None
    aligned = (1,) * (len(shape) - constant.ndim) + constant.shape
    axis = len(shape) - 1 if nodes.attributes(node)["over"] == "last" else 1
    if any(size != 1 for i, size in enumerate(aligned) if i != axis):
        return None
    row = constant.reshape(-1).astype(np.float64)
    return np.broadcast_to(row, shape[axis]) if np.isfinite(row).all() else None


def _per_sample(node: ir.Node, term: ir.Value) -> bool:
    """Whether the term is one number for each sample and channel, as a norm over space takes."""
    shape = nodes.shape(node.outputs[0])
    wanted = (*shape[:2], *[1] * (len(shape) - 2))
    return nodes.attributes(node)["over"] == "space" and nodes.shape(term) == wanted


def _alike(
    parameters: list[ir.Value | Array | None], samples: int
) -> list[ir.Value | Array | None]:
    """Both per channel, or both per sample and channel."""

    def rank(value: ir.Value | Array | None) -> int:
        if value is None:
            return 0
        return value.ndim if isinstance(value, np.ndarray) else len(nodes.shape(value))

    if max(map(rank, parameters)) < 2:
        return parameters
    return [
        np.ascontiguousarray(np.broadcast_to(value, (samples, value.shape[-1])))
        if isinstance(value, np.ndarray) and value.ndim == 1
        else value
        for value in parameters
    ]


RULES = (
    MergeReshapes.rule(),
    *[ScaleOrShift.rule(operator) for operator in ("Mul", "Add", "Sub", "Div")],
)
