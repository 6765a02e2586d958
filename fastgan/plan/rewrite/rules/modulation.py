"""Scales of each sample's channels around a convolution -> the convolution's own.

    activation(scale_out * convolution(scale_in * x, weight) + bias + residual)

A fastgan.Conv or fastgan.ConvTranspose takes `scale_in` [N, C, 1, 1] and `scale_out`
[N, O, 1, 1] as its inputs 4 and 5; either may be left out, and N may be 1. A residual may also be
one map for all channels, [N, 1, *size] or [1, 1, *size]: the noise of StyleGAN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.model.late import scaled
from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule

_CONVOLUTIONS = ("Conv", "ConvTranspose")


def _is_scale(value: ir.Value, of: ir.Value) -> bool:
    """Whether a value depends on data and scales whole channels of another."""
    scale, shape = nodes.shape(value), nodes.shape(of)
    if nodes.is_constant(value) or len(shape) < 3:
        return False
    return scale in {(n, shape[1], *[1] * (len(shape) - 2)) for n in (1, shape[0])}


class ScaleInput(Rule):
    """Conv(x * scale) -> Conv with `scale_in`."""

    def pattern(self, op: Any, x: Any, scale: Any) -> Any:
        scaled = op.Mul(x, scale, _outputs=["scaled"])
        return getattr(op, self.of)(scaled, **nodes.FUSED, _outputs=["out"])

    def refuses(self, x: ir.Value, scale: ir.Value, scaled: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(out)
        if nodes.is_constant(x) or nodes.shape(x) != nodes.shape(scaled):
            return "the images are constant"
        if not _is_scale(scale, x):
            return "not one number for each channel"
        if nodes.all_inputs(node)[4] is not None or nodes.attributes(node)["group"] != 1:
            return "grouped, or already scaled"
        return None

    def rewrite(
        self, op: Any, x: ir.Value, scale: ir.Value, scaled: ir.Value, out: ir.Value
    ) -> Any:
        node, times = nodes.producer(out), nodes.producer(scaled)
        inputs = nodes.all_inputs(node)
        inputs[0], inputs[4] = x, scale
        return nodes.rebuild(op, node, inputs, origin=nodes.origin(times, node))


class ScaleOutput(Rule):
    """Conv(x) * scale -> Conv with `scale_out`."""

    def pattern(self, op: Any, scale: Any) -> Any:
        return op.Mul(nodes.any_product(op, self.of, "product"), scale, _outputs=["out"])

    def refuses(self, scale: ir.Value, product: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(product)
        if not _is_scale(scale, product):
            return "not one number for each channel"
        if any(nodes.all_inputs(node)[2:4]) or {"activation", "shuffle"} & node.attributes.keys():
            return "something comes between"
        if nodes.all_inputs(node)[5] is not None:
            return "already scaled"
        return None

    def rewrite(self, op: Any, scale: ir.Value, product: ir.Value, out: ir.Value) -> Any:
        return nodes.with_input(op, product, 5, scale, out)


class ScaleBeforeFilter(Rule):
    """filter(product) * scale -> filter(product * scale): of each channel by itself, they commute.

    So the filter is free to join the product, and the scale is the product's.
    """

    def pattern(self, op: Any, scale: Any) -> Any:
        product = nodes.any_product(op, self.of, "product")
        filtered = op.Conv(product, **nodes.FUSED, _outputs=["filtered"])
        return op.Mul(filtered, scale, _outputs=["out"])

    def refuses(
        self, scale: ir.Value, product: ir.Value, filtered: ir.Value, out: ir.Value
    ) -> str | None:
        node = nodes.producer(filtered)
        channels = nodes.shape(product)[1]
        if not _is_scale(scale, product) or nodes.shape(filtered)[1] != channels:
            return "not one number for each channel"
        if nodes.attributes(node)["group"] != channels:
            return "not a filter of each channel"
        behind = {"activation", "shuffle"} & node.attributes.keys()
        if any(nodes.all_inputs(node)[2:]) or behind:
            return "something comes between"
        before = nodes.producer(product)
        if any(nodes.all_inputs(before)[2:4]) or "activation" in before.attributes:
            return "the product is finished"
        return None

    def rewrite(
        self, op: Any, scale: ir.Value, product: ir.Value, filtered: ir.Value, out: ir.Value
    ) -> Any:
        before, node = nodes.producer(product), nodes.producer(filtered)
        inner = nodes.rebuild(op, before, list(before.inputs), origin=nodes.origin(before))
        inner = nodes.shaped(inner, nodes.shape(product), product.type)
        scaled = nodes.shaped(op.Mul(inner, scale), nodes.shape(product), product.type)
        nodes.producer(scaled).name = nodes.producer(out).name
        return nodes.rebuild(op, node, [scaled, *node.inputs[1:]], origin=nodes.origin(node))


class AddNoise(Rule):
    """convolution(x) + one map for all channels -> the convolution with a residual."""

    def pattern(self, op: Any, noise: Any) -> Any:
        return op.Add(nodes.any_product(op, self.of, "product"), noise, _outputs=["out"])

    def refuses(self, noise: ir.Value, product: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(product)
        shape = nodes.shape(product)
        maps = {(n, 1, *shape[2:]) for n in (1, shape[0])}
        if _aligned(noise, len(shape)) not in maps or shape[1] == 1:
            return "not a map for all channels"
        if nodes.all_inputs(node)[3] is not None or {"activation", "shuffle"} & set(
            node.attributes
        ):
            return "the convolution already has an activation or a residual"
        return None

    def rewrite(self, op: Any, noise: ir.Value, product: ir.Value, out: ir.Value) -> Any:
        shaped = nodes.reshaped(op, noise, _aligned(noise, len(nodes.shape(product))))
        return nodes.with_input(op, product, 3, shaped, out)


def _aligned(value: ir.Value, rank: int) -> tuple[int, ...]:
    """The shape that a value has where it broadcasts to tensors of this rank."""
    shape = nodes.shape(value)
    return (*[1] * (rank - len(shape)), *shape)


class FoldGain(Rule):
    """relu(product) * number -> relu(product, scaled), for a number above zero; leaky relu too."""

    def pattern(self, op: Any, gain: Any) -> Any:
        return op.Mul(nodes.any_product(op, self.of, "product"), gain, _outputs=["out"])

    def refuses(self, gain: ir.Value, product: ir.Value, out: ir.Value) -> str | None:
        node, number = nodes.producer(product), nodes.constant(gain)
        if number is None or number.size != 1 or not 0 < number.reshape(-1)[0] < np.inf:
            return "not a number above zero"
        if nodes.attributes(node).get("activation") not in ("relu", "leaky_relu"):
            return "not behind a relu"
        if nodes.shape(out) != nodes.shape(product):
            return "the number broadcasts the product"
        residual = nodes.all_inputs(node)[3]
        if residual is not None and nodes.shape(residual)[1] != 1:
            return "a residual would take a pass of its own to scale"
        return None

    def rewrite(self, op: Any, gain: ir.Value, product: ir.Value, out: ir.Value) -> Any:
        node, number = nodes.producer(product), nodes.constant(gain)
        assert number is not None
        inputs, factor = nodes.all_inputs(node), np.asarray(number.reshape(-1)[0], np.float64)
        for position in (1, 2, 3):
            value = inputs[position]
            if value is not None and nodes.is_constant(value):
                assert value.const_value is not None
                made = scaled(value.const_value, factor)
                inputs[position] = op.initializer(made, name=f"{out.name}.{position}")
            elif value is not None:
                scalar = op.initializer(ir.tensor(number.reshape(())), name=f"{out.name}.gain")
                larger = op.Mul(value, scalar)
                inputs[position] = nodes.shaped(larger, nodes.shape(value), value.type)
        return nodes.rebuild(op, node, inputs, origin=nodes.origin(node, nodes.producer(out)))


class KeepInRange(Rule):
    """sqrt of sums of squares -> the root of smaller sums, which fp16 can hold, times a number.

    Weights of unit variance and 512 channels give sums of 4608 times the square of a style; where
    they overflow, the demodulation makes 0 of a whole channel. With c a power of two, so that fp32
    loses nothing: sqrt(x W + b) = c * sqrt(x W / c^2 + b / c^2), and 1 / it is the inverse.
    """

    def pattern(self, op: Any) -> Any:
        root = op.Sqrt(nodes.any_product(op, "Linear", "sums"))
        return op.Reciprocal(root, _outputs=["out"])

    def refuses(self, sums: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(sums)
        weight = nodes.constant(node.inputs[1])
        if weight is None or "activation" in node.attributes or (weight < 0).any():
            return "not sums of squares"
        if _power(weight) <= 1:
            return "the sums are small"
        return None

    def rewrite(self, op: Any, sums: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(sums)
        weight = nodes.constant(node.inputs[1])
        assert weight is not None
        c, inputs = _power(weight), list(node.inputs)
        for position in (1, 2)[: len(inputs) - 1]:
            array = nodes.constant(inputs[position])
            if array is not None:
                smaller = ir.tensor((array / c**2).astype(array.dtype))
                inputs[position] = op.initializer(smaller, name=f"{out.name}.{position}")
        linear = nodes.rebuild(op, node, inputs, origin=nodes.origin(node))
        linear = nodes.shaped(linear, nodes.shape(sums), sums.type)
        root = nodes.shaped(op.Sqrt(linear), nodes.shape(sums), sums.type)
        number = ir.tensor(np.asarray(1 / c, weight.dtype))
        return op.Div(op.initializer(number, name=f"{out.name}.number"), root)


class DivideAsReciprocal(Rule):
    """1 / x -> Reciprocal(x)."""

    def pattern(self, op: Any, number: Any, x: Any) -> Any:
        return op.Div(number, x, _outputs=["out"])

    def refuses(self, number: ir.Value, x: ir.Value, out: ir.Value) -> str | None:
        constant = nodes.constant(number)
        if constant is None or constant.size != 1 or constant.reshape(-1)[0] != 1:
            return "not one"
        if nodes.shape(out) != nodes.shape(x) or out.dtype not in _FLOATS:
            return "not of the same shape, or whole numbers"
        return None

    def rewrite(self, op: Any, number: ir.Value, x: ir.Value, out: ir.Value) -> Any:
        return op.Reciprocal(x)


_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def _power(weight: np.ndarray[Any, Any]) -> float:
    """A power of two whose square is about the largest column's sum, or 1 for a small one."""
    largest = float(weight.astype(np.float64).sum(0).max())
    return 1.0 if not 64 < largest < np.inf else float(2 ** (np.frexp(largest)[1] // 2))


COMMUTE_RULES = tuple(ScaleBeforeFilter.rule(product) for product in _CONVOLUTIONS)
SCALE_RULES = (
    *(ScaleInput.rule(product) for product in _CONVOLUTIONS),
    *(ScaleOutput.rule(product) for product in _CONVOLUTIONS),
)
NOISE_RULES = tuple(AddNoise.rule(product) for product in _CONVOLUTIONS)
GAIN_RULES = tuple(FoldGain.rule(product) for product in nodes.PRODUCTS)
RANGE_RULES = (KeepInRange.rule(),)
RECIPROCAL_RULES = (DivideAsReciprocal.rule(),)
