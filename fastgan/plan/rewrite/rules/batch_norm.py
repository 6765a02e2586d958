"""BatchNormalization behind a product -> the product's own weight and bias.

With s = scale / sqrt(variance + epsilon) per output channel:
weight' = weight * s and bias' = (bias - mean) * s + shift, computed in double precision.

onnxscript has such rules for ONNX's own operators; this one serves the fused ones, and with them
the rows that become images, and it keeps track of which nodes went in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule

Array = np.ndarray[Any, Any]


class FoldBatchNorm(Rule):
    """BatchNormalization(product(x)) -> product(x)."""

    def pattern(self, op: Any) -> Any:
        return op.BatchNormalization(
            nodes.any_product(op, self.of, "product"), **nodes.ANY, _outputs=["out"]
        )

    def refuses(self, product: ir.Value, out: ir.Value) -> str | None:
        node, norm = nodes.producer(product), nodes.producer(out)
        if "activation" in node.attributes or nodes.fused_inputs(node)[3] is not None:
            return "an activation or a residual comes between"
        if nodes.attributes(norm).get("training_mode", 0):
            return "the norm uses the batch's own statistics"
        if any(nodes.constant(value) is None for value in norm.inputs[1:]):
            return "a parameter of the norm depends on data"
        return None

    def rewrite(self, op: Any, product: ir.Value, out: ir.Value) -> Any:
        node, norm = nodes.producer(product), nodes.producer(out)
        x, weight, bias, _ = nodes.fused_inputs(node)
        scale, shift, mean, variance = (
            np.asarray(nodes.constant(value), np.float64) for value in norm.inputs[1:5]
        )
        factor = scale / np.sqrt(variance + nodes.attributes(norm).get("epsilon", 1e-5))
        old_weight, old_bias = nodes.constant(weight), nodes.constant(bias)
        assert old_weight is not None
        if self.of == "Linear":
            # The columns of rows that become images are in the order [C, *size].
            pixels = old_weight.shape[1] // factor.size
            factor, shift, mean = (np.repeat(v, pixels) for v in (factor, shift, mean))
        group = nodes.attributes(node).get("group", 1)
        new_weight = scale_outputs(self.of, old_weight, factor, group)
        new_bias = (-mean if old_bias is None else old_bias - mean) * factor + shift
        return nodes.rebuild(
            op,
            node,
            [
                x,
                op.initializer(_tensor(new_weight, old_weight), name=f"{out.name}.weight"),
                op.initializer(_tensor(new_bias, old_weight), name=f"{out.name}.bias"),
            ],
            origin=nodes.origin(node, norm),
        )


def scale_outputs(product: str, weight: Array, factor: Array, group: int) -> Array:
    """The weight with each output channel multiplied by its factor."""
    if product == "Linear":  # [K, M]
        return weight * factor
    if product == "Conv":  # [O, C / group, *kernel]
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    # ConvTranspose: [C, O / group, *kernel], where channel c belongs to group c // (C / group).
    per_group = np.repeat(factor.reshape(group, -1), weight.shape[0] // group, axis=0)
    return weight * per_group.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))


def _tensor(array: Array, like: Array) -> ir.TensorProtocol:
    return ir.tensor(np.ascontiguousarray(array.astype(like.dtype)))


RULES = tuple(FoldBatchNorm.rule(product) for product in nodes.PRODUCTS)
