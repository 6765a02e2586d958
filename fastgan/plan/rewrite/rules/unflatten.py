"""A Linear whose rows become images: the reshape moves into it.

With `shape` = [C, *size] a fastgan.Linear gives [N, C, *size]; its columns are in that order, so a
kernel may permute them once at load and write any layout. Most generators begin like this.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule


class FuseUnflatten(Rule):
    """Reshape(Linear(x)) to [N, C, *size] -> Linear with `shape`."""

    def pattern(self, op: Any, target: Any) -> Any:
        linear = nodes.any_product(op, "Linear", "linear")
        return op.Reshape(linear, target, _allow_other_attributes=True, _outputs=["out"])

    def refuses(self, target: ir.Value, linear: ir.Value, out: ir.Value) -> str | None:
        if "shape" in nodes.producer(linear).attributes:
            return "the rows are already images"
        if nodes.fused_inputs(nodes.producer(linear))[3] is not None:
            return "a residual is of rows"
        if "slopes" in nodes.producer(linear).attributes:
            return "it has a slope for each column"
        if len(nodes.shape(out)) < 3 or nodes.shape(out)[0] != nodes.shape(linear)[0]:
            return "the reshape does not turn each row into an image"
        return None

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
