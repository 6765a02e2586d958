"""A Linear whose rows become images: the reshape moves into it.

With `shape` = [C, *size] a fastgan.Linear gives [N, C, *size]; its columns are in that order, so a
kernel may permute them once at load and write any layout. Most generators begin like this.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from fastgan.plan.rewrite.rules import helpers as nodes


class FuseUnflatten(RewriteRuleClassBase):
    """Reshape(Linear(x)) to [N, C, *size] -> Linear with `shape`."""

    def pattern(self, op: Any, target: Any) -> Any:
        linear = nodes.any_product(op, "Linear", "linear")
        return op.Reshape(linear, target, _allow_other_attributes=True, _outputs=["out"])

    def check(self, context: Any, target: ir.Value, linear: ir.Value, out: ir.Value) -> MatchResult:
        result = MatchResult()
        if "shape" in nodes.producer(linear).attributes:
            return result.fail("the rows are already images")
        if nodes.fused_inputs(nodes.producer(linear))[3] is not None:
            return result.fail("a residual is of rows")
        if "slopes" in nodes.producer(linear).attributes:
            return result.fail("it has a slope for each column")
        if len(nodes.shape(out)) < 3 or nodes.shape(out)[0] != nodes.shape(linear)[0]:
            return result.fail("the reshape does not turn each row into an image")
        return result

    def rewrite(self, op: Any, target: ir.Value, linear: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(linear)
        return nodes.rebuild(
            op,
            node,
            list(node.inputs),
            shape=list(nodes.shape(out)[1:]),
            origin=nodes.origin(node, nodes.producer(out)),
        )


RULES = (FuseUnflatten.rule(),)
