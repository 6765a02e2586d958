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

from fastgan.model.late import Array, scaled
from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule


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
        if any(not nodes.is_constant(value) for value in norm.inputs[1:]):
            return "a parameter of the norm depends on data"
        return None

    def rewrite(self, op: Any, product: ir.Value, out: ir.Value) -> Any:
        node, norm = nodes.producer(product), nodes.producer(out)
        x, weight, bias, _ = nodes.fused_inputs(node)
        scale, shift, mean, variance = (
            np.asarray(nodes.constant(value), np.float64) for value in norm.inputs[1:5]
        )
        factor = scale / np.sqrt(variance + nodes.attributes(norm).get("epsilon", 1e-5))
        assert weight is not None
        assert weight.const_value is not None
        old_bias = nodes.constant(bias)
        if self.of == "Linear":
            # The columns of rows that become images are in the order [C, *size].
            pixels = nodes.shape(weight)[1] // factor.size
            factor, shift, mean = (np.repeat(v, pixels) for v in (factor, shift, mean))
        group = nodes.attributes(node).get("group", 1)
        new_weight = scale_outputs(self.of, weight.const_value, factor, group)
        new_bias = (-mean if old_bias is None else old_bias - mean) * factor + shift
        dtype = new_weight.dtype.numpy()
        return nodes.rebuild(
            op,
            node,
            [
                x,
                op.initializer(new_weight, name=f"{out.name}.weight"),
                op.initializer(ir.tensor(new_bias.astype(dtype)), name=f"{out.name}.bias"),
            ],
            origin=nodes.origin(node, norm),
        )


def scale_outputs(
    product: str, weight: ir.TensorProtocol, factor: Array, group: int
) -> ir.TensorProtocol:
    """The weight with each output channel multiplied by its factor, in double precision."""
    shape = tuple(weight.shape.numpy())
    if product == "Linear":  # [K, M]
        wide = factor
    elif product == "Conv":  # [O, C / group, *kernel]
        wide = factor.reshape(-1, *[1] * (len(shape) - 1))
    else:  # ConvTranspose: [C, O / group, *kernel], where channel c is of group c // (C / group)
        per_group = np.repeat(factor.reshape(group, -1), shape[0] // group, axis=0)
        wide = per_group.reshape(*shape[:2], *[1] * (len(shape) - 2))
    return scaled(weight, wide)


RULES = tuple(FoldBatchNorm.rule(product) for product in nodes.PRODUCTS)
