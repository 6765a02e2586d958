"""product(x) + other, of the same shape -> the product with a residual in its epilogue."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule


class AddResidual(Rule):
    """Add(product(x), other) -> product(x, residual=other)."""

    def pattern(self, op: Any, other: Any) -> Any:
        return op.Add(nodes.any_product(op, self.of, "product"), other, _outputs=["out"])

    def refuses(self, other: ir.Value, product: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(product)
        if "activation" in node.attributes or nodes.fused_inputs(node)[3] is not None:
            return "the product already has an activation or a residual"
        if other is product or nodes.is_constant(other):
            return "the other term is the product itself or a constant"
        if nodes.shape(other) != nodes.shape(product):
            return "one of the two broadcasts"
        return None

    def rewrite(self, op: Any, other: ir.Value, product: ir.Value, out: ir.Value) -> Any:
        return nodes.with_input(op, product, 3, other, out)


RULES = tuple(AddResidual.rule(product) for product in nodes.WITH_EPILOGUES)
