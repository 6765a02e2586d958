"""What follows a product moves into its epilogue: a constant bias, then an activation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.plan.activations import OPERATORS
from fastgan.plan.rewrite.rules import activations as spellings
from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule


class AddBias(Rule):
    """product + constant per output channel -> the product's bias."""

    def pattern(self, op: Any, term: Any) -> Any:
        return op.Add(nodes.any_product(op, self.of, "product"), term, _outputs=["out"])

    def refuses(self, term: ir.Value, product: ir.Value, out: ir.Value) -> str | None:
        node, constant = nodes.producer(product), nodes.constant(term)
        if constant is None:
            return "the term depends on data"
        if {"activation", "shuffle"} & node.attributes.keys():
            return "the product already has an activation or a shuffle"
        if "shape" in node.attributes:
            return "the product is already unflattened"
        if nodes.shape(out) != nodes.shape(product):
            return "the term broadcasts the product"
        if not nodes.per_channel(constant, nodes.shape(product)):
            return "the term differs from pixel to pixel"
        return None

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


class FuseActivation(Rule):
    """activation(product) -> the product with that activation in its epilogue."""

    def pattern(self, op: Any) -> Any:
        product = nodes.any_product(op, self.of, "product")
        domain = {"_domain": nodes.DOMAIN} if self.behind == "Activate" else {}
        return getattr(op, self.behind)(
            product, _allow_other_attributes=True, _outputs=["out"], **domain
        )

    def refuses(self, product: ir.Value, out: ir.Value) -> str | None:
        if "activation" in nodes.producer(product).attributes:
            return "the product already has an activation"
        if spellings.named(nodes.producer(out)) is None:
            return "an epilogue has no such activation"
        return None

    def rewrite(self, op: Any, product: ir.Value, out: ir.Value) -> Any:
        node, after = nodes.producer(product), nodes.producer(out)
        found = spellings.named(after)
        assert found is not None
        changes: dict[str, Any] = {"activation": found[0]}
        if found[1]:
            changes["parameters"] = list(found[1])
        return nodes.rebuild(
            op, node, list(node.inputs), origin=nodes.origin(node, after), **changes
        )


class FuseSlopes(Rule):
    """PRelu(product), a constant slope for each channel -> the product with `slopes`.

    They are one for each channel of the output, behind a shuffle if there is one.
    """

    def pattern(self, op: Any, slope: Any) -> Any:
        return op.PRelu(nodes.any_product(op, self.of, "product"), slope, _outputs=["out"])

    def refuses(self, slope: ir.Value, product: ir.Value, out: ir.Value) -> str | None:
        constant = nodes.constant(slope)
        if "activation" in nodes.producer(product).attributes:
            return "the product already has an activation"
        if constant is None or nodes.shape(out) != nodes.shape(product):
            return "the slopes depend on data"
        if not nodes.per_channel(constant, nodes.shape(product)):
            return "the slopes differ from pixel to pixel"
        if nodes.attributes(nodes.producer(product)).get("over") == "last":
            return "the channels are not the last axis"
        return None

    def rewrite(self, op: Any, slope: ir.Value, product: ir.Value, out: ir.Value) -> Any:
        node, after, constant = nodes.producer(product), nodes.producer(out), nodes.constant(slope)
        assert constant is not None
        slopes = np.broadcast_to(constant.reshape(-1), nodes.shape(product)[1])
        changes = {"activation": "prelu", "slopes": slopes.astype(float).tolist()}
        return nodes.rebuild(
            op, node, list(node.inputs), origin=nodes.origin(node, after), **changes
        )


BIAS_RULES = tuple(AddBias.rule(product) for product in nodes.PRODUCTS)
ACTIVATION_RULES = (
    *[
        FuseActivation.rule(product, operator)
        for product in nodes.WITH_EPILOGUES
        for operator in (*OPERATORS, "Activate")
    ],
    *[FuseSlopes.rule(product) for product in nodes.WITH_EPILOGUES],
)
