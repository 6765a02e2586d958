"""A Linear whose rows become images: the reshape, and a batch norm behind it, move into it.

With `shape` = [C, *size] a fastgan.Linear gives [N, C, *size]; its columns are in that order, so a
kernel may permute them once at load and write any layout. Most generators begin like this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from fastgan.rewrite.fusion import nodes


def _linear(op: Any) -> Any:
    return op.Linear(
        _domain=nodes.DOMAIN,
        _allow_other_inputs=True,
        _allow_other_attributes=True,
        _outputs=["linear"],
    )


class FuseUnflatten(RewriteRuleClassBase):
    """Reshape(Linear(x)) to [N, C, *size] -> Linear with `shape`."""

    def pattern(self, op: Any, target: Any) -> Any:
        return op.Reshape(
            _linear(op), target, _allow_other_attributes=True, _outputs=["out"]
        )

    def check(
        self, context: Any, target: ir.Value, linear: ir.Value, out: ir.Value
    ) -> MatchResult:
        result = MatchResult()
        if "shape" in nodes.producer(linear).attributes:
            return result.fail("the rows are already images")
        if len(nodes.shape(out)) < 3 or nodes.shape(out)[0] != nodes.shape(linear)[0]:
            return result.fail("the reshape does not turn each row into an image")
        return result

    def rewrite(self, op: Any, target: ir.Value, linear: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(linear)
        return op.Linear(
            *node.inputs,
            _domain=nodes.DOMAIN,
            **nodes.attributes(
                node,
                shape=list(nodes.shape(out)[1:]),
                origin=nodes.origin(node, nodes.producer(out)),
            ),
        )


class FoldBatchNormIntoUnflattened(RewriteRuleClassBase):
    """BatchNormalization of an unflattened Linear -> scaled columns and bias.

    With s = scale / sqrt(variance + epsilon), repeated over the pixels of each channel:
    weight' = weight * s, bias' = (bias - mean) * s + shift.
    """

    def pattern(self, op: Any) -> Any:
        return op.BatchNormalization(
            _linear(op),
            _allow_other_inputs=True,
            _allow_other_attributes=True,
            _outputs=["out"],
        )

    def check(self, context: Any, linear: ir.Value, out: ir.Value) -> MatchResult:
        result = MatchResult()
        node, norm = nodes.producer(linear), nodes.producer(out)
        if "activation" in node.attributes or "shape" not in node.attributes:
            return result.fail("an activation comes between, or the rows are no images")
        if nodes.attributes(norm).get("training_mode", 0):
            return result.fail("the norm uses the batch's own statistics")
        if any(nodes.constant(value) is None for value in (*norm.inputs[1:], *node.inputs[1:2])):
            return result.fail("a parameter depends on data")
        return result

    def rewrite(self, op: Any, linear: ir.Value, out: ir.Value) -> Any:
        node, norm = nodes.producer(linear), nodes.producer(out)
        x, weight, bias, _ = nodes.fused_inputs(node)
        scale, shift, mean, variance = (
            np.asarray(nodes.constant(value), np.float64) for value in norm.inputs[1:5]
        )
        matrix = nodes.constant(weight)
        assert matrix is not None
        factor = scale / np.sqrt(variance + nodes.attributes(norm).get("epsilon", 1e-5))
        pixels = matrix.shape[1] // factor.size
        old = nodes.constant(bias)
        columns = np.zeros(matrix.shape[1]) if old is None else old
        s, m, b = (np.repeat(v, pixels) for v in (factor, mean, shift))
        inputs = [
            x,
            op.initializer(ir.tensor((matrix * s).astype(matrix.dtype)), name=f"{out.name}.weight"),
            op.initializer(
                ir.tensor(((columns - m) * s + b).astype(matrix.dtype)), name=f"{out.name}.bias"
            ),
        ]
        merged = nodes.attributes(node, origin=nodes.origin(node, norm))
        return op.Linear(*inputs, _domain=nodes.DOMAIN, **merged)


UNFLATTEN_RULES = (FuseUnflatten.rule(),)
BATCH_NORM_RULES = (FoldBatchNormIntoUnflattened.rule(),)
