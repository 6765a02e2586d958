"""convolution(x) + other, of the same shape -> the convolution with a residual in its epilogue."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from fastgan.rewrite.fusion import nodes


class AddResidual(RewriteRuleClassBase):
    """Add(Conv(x), other) -> Conv(x, residual=other)."""

    def pattern(self, op: Any, other: Any) -> Any:
        return op.Add(nodes.any_product(op, "Conv", "product"), other, _outputs=["out"])

    def check(self, context: Any, other: ir.Value, product: ir.Value, out: ir.Value) -> MatchResult:
        result = MatchResult()
        node = nodes.producer(product)
        if "activation" in node.attributes or nodes.fused_inputs(node)[3] is not None:
            return result.fail("the convolution already has an activation or a residual")
        if other is product or nodes.constant(other) is not None:
            return result.fail("the other term is the convolution itself or a constant")
        if nodes.shape(other) != nodes.shape(product):
            return result.fail("one of the two broadcasts")
        return result

    def rewrite(self, op: Any, other: ir.Value, product: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(product)
        inputs = nodes.all_inputs(node)
        inputs[3] = other
        return nodes.rebuild(op, node, inputs, origin=nodes.origin(node, nodes.producer(out)))


RULES = (AddResidual.rule(),)
