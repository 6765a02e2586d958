"""What follows a product moves into its epilogue: a constant bias, then an activation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from fastgan.rewrite.fusion import nodes

#: ONNX activations that an epilogue knows, and what each is called there.
ACTIVATIONS = {
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
}


class AddBias(RewriteRuleClassBase):
    """product + constant per output channel -> the product's bias."""

    def __init__(self, product: str) -> None:
        super().__init__(f"AddBias({product})")
        self.product = product

    def pattern(self, op: Any, term: Any) -> Any:
        return op.Add(nodes.any_product(op, self.product, "product"), term, _outputs=["out"])

    def check(self, context: Any, term: ir.Value, product: ir.Value, out: ir.Value) -> MatchResult:
        result = MatchResult()
        node, constant = nodes.producer(product), nodes.constant(term)
        if constant is None:
            return result.fail("the term depends on data")
        if {"activation", "shuffle"} & node.attributes.keys():
            return result.fail("the product already has an activation or a shuffle")
        if "shape" in node.attributes:
            return result.fail("the product is already unflattened")
        if nodes.shape(out) != nodes.shape(product):
            return result.fail("the term broadcasts the product")
        if not nodes.per_channel(constant, nodes.shape(product)):
            return result.fail("the term differs from pixel to pixel")
        return result

    def rewrite(self, op: Any, term: ir.Value, product: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(product)
        x, weight, bias, *others = nodes.all_inputs(node)
        constant, old = nodes.constant(term), nodes.constant(bias)
        assert constant is not None
        row = np.broadcast_to(constant.reshape(-1), nodes.shape(product)[1])
        total = row if old is None else row + old
        new = op.initializer(ir.tensor(np.ascontiguousarray(total)), name=f"{out.name}.bias")
        return nodes.rebuild(
            op, node, [x, weight, new, *others], origin=nodes.origin(node, nodes.producer(out))
        )


class FuseActivation(RewriteRuleClassBase):
    """activation(product) -> the product with that activation in its epilogue."""

    def __init__(self, product: str, activation: str) -> None:
        super().__init__(f"FuseActivation({product}, {activation})")
        self.product, self.activation = product, activation

    def pattern(self, op: Any) -> Any:
        product = nodes.any_product(op, self.product, "product")
        return getattr(op, self.activation)(product, _allow_other_attributes=True, _outputs=["out"])

    def check(self, context: Any, product: ir.Value, out: ir.Value) -> MatchResult:
        result = MatchResult()
        if "activation" in nodes.producer(product).attributes:
            return result.fail("the product already has an activation")
        return result

    def rewrite(self, op: Any, product: ir.Value, out: ir.Value) -> Any:
        node, after = nodes.producer(product), nodes.producer(out)
        changes: dict[str, Any] = {"activation": ACTIVATIONS[self.activation]}
        if self.activation == "LeakyRelu":
            changes["slope"] = nodes.attributes(after).get("alpha", 0.01)
        return nodes.rebuild(
            op, node, list(node.inputs), origin=nodes.origin(node, after), **changes
        )


BIAS_RULES = tuple(AddBias.rule(product) for product in nodes.PRODUCTS)
ACTIVATION_RULES = tuple(
    FuseActivation.rule(product, activation)
    for product in nodes.PRODUCTS
    for activation in ACTIVATIONS
)
