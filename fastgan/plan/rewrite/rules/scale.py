"""A product times a constant -> the product with scaled weights and bias.

Equalised learning rates, residual scaling and a last layer's gain are written like this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.batch_norm import scale_outputs
from fastgan.plan.rewrite.rules.rule import Rule


class FoldScale(Rule):
    """Mul or Div of a product by a constant per output channel -> the product."""

    def pattern(self, op: Any, factor: Any) -> Any:
        product = nodes.any_product(op, self.of, "product")
        return getattr(op, self.behind)(product, factor, _outputs=["out"])

    def refuses(self, factor: ir.Value, product: ir.Value, out: ir.Value) -> str | None:
        node, constant = nodes.producer(product), nodes.constant(factor)
        if constant is None:
            return "the factor depends on data"
        if "activation" in node.attributes or nodes.fused_inputs(node)[3] is not None:
            return "an activation or a residual comes between"
        if nodes.shape(out) != nodes.shape(product):
            return "the factor broadcasts the product"
        if not nodes.per_channel(constant, nodes.shape(product)):
            return "the factor differs from pixel to pixel"
        if not np.isfinite(constant).all() or (self.behind == "Div" and not constant.all()):
            return "the factor is not finite"
        return None

    def rewrite(self, op: Any, factor: ir.Value, product: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(product)
        x, weight, bias, *others = nodes.all_inputs(node)
        old_bias, constant = nodes.constant(bias), nodes.constant(factor)
        assert weight is not None
        assert weight.const_value is not None
        assert constant is not None
        channels = nodes.shape(product)[1]
        row = np.broadcast_to(constant.astype(np.float64).reshape(-1), channels)
        row = 1 / row if self.behind == "Div" else row
        if self.of == "Linear":  # columns of rows that become images: [C, *size]
            row = np.repeat(row, nodes.shape(weight)[1] // channels)
        group = nodes.attributes(node).get("group", 1)
        new = scale_outputs(self.of, weight.const_value, np.ascontiguousarray(row), group)
        inputs = [x, op.initializer(new, name=f"{out.name}.w"), None, *others]
        if old_bias is not None:
            scaled = ir.tensor((old_bias * row).astype(old_bias.dtype))
            inputs[2] = op.initializer(scaled, name=f"{out.name}.b")
        return nodes.rebuild(op, node, inputs, origin=nodes.origin(node, nodes.producer(out)))


RULES = tuple(
    FoldScale.rule(product, operator) for product in nodes.PRODUCTS for operator in ("Mul", "Div")
)
