"""product(x) + other, of the same shape -> the product with a residual in its epilogue."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from fastgan.plan.rewrite.rules import helpers as nodes


class AddResidual(RewriteRuleClassBase):
    """Add(product(x), other) -> product(x, residual=other)."""

    def __init__(self, product: str) -> None:
        super().__init__(f"AddResidual({product})")
        self.product = product

    def pattern(self, op: Any, other: Any) -> Any:
        return op.Add(nodes.any_product(op, self.product, "product"), other, _outputs=["out"])

    def check(self, context: Any, other: ir.Value, product: ir.Value, out: ir.Value) -> MatchResult:
        result = MatchResult()
        node = nodes.producer(product)
        if "activation" in node.attributes or nodes.fused_inputs(node)[3] is not None:
            return result.fail("the product already has an activation or a residual")
        if other is product or nodes.constant(other) is not None:
            return result.fail("the other term is the product itself or a constant")
        if nodes.shape(other) != nodes.shape(product):
            return result.fail("one of the two broadcasts")
        return result

    def rewrite(self, op: Any, other: ir.Value, product: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(product)
        inputs = nodes.all_inputs(node)
        inputs[3] = other
        return nodes.rebuild(op, node, inputs, origin=nodes.origin(node, nodes.producer(out)))


RULES = tuple(AddResidual.rule(product) for product in nodes.WITH_EPILOGUES)
