"""Operators that are bound in a way of their own, on torch's ops: fused ones, and quantisers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.engine.library.executor import BoundStep, place
from fastgan.ops.normalisation import group_norm
from fastgan.ops.quantisation import dequantize, quantize
from fastgan.plan import Instruction, Step
from fastgan.plan.activations import TABLE

Function = Callable[[Tensor], Tensor]
Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Binding:
    """A step, its constants, where and in which type it computes, and its activation."""

    step: Step
    weights: Weights
    device: torch.device
    dtype: torch.dtype | None
    act: Function | None


def _operands(
    to: Binding, dtype: torch.dtype | None
) -> tuple[tuple[str, ...], Callable[..., list[Tensor | None]]]:
    """The buffers that a step reads, and what makes all its operands of them; "" is None.

    dtype: of the constants among them.
    """
    step, weights, device = to.step, to.weights, to.device
    placed = {n: place(weights[n], device, dtype) for n in step.inputs if n in weights}
    reads = tuple(name for name in step.inputs if name and name not in placed)

    def operands(*tensors: Tensor) -> list[Tensor | None]:
        given = iter(tensors)
        return [(placed[n] if n in placed else next(given)) if n else None for n in step.inputs]

    return reads, operands


def bind_normalise(to: Binding) -> BoundStep:
    """fastgan.Normalise: see plan/rewrite/rules/normalise.py for its attributes."""
    step, act = to.step, to.act
    reads, operands = _operands(to, to.dtype)
    given = step.attributes
    over, epsilon, centre = given["over"], given["epsilon"], given["centre"]

    def standardise(x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        if over == "space" and centre:
            plain = all(p is None or p.dim() == 1 for p in (gamma, beta))
            if plain:
                return group_norm(x, given["groups"], gamma, beta, epsilon)
            x = group_norm(x, given["groups"], None, None, epsilon)
        elif over == "space":
            groups = x.unflatten(1, (given["groups"], -1)).flatten(2)
            square = groups.float().square().mean(2, keepdim=True)
            x = (groups * torch.rsqrt(square + epsilon).to(x.dtype)).view(x.shape)
        elif over == "last" and centre:
            return F.layer_norm(x, x.shape[-1:], gamma, beta, epsilon)
        elif over == "last":
            x = F.rms_norm(x, x.shape[-1:], gamma, epsilon)
            return x if beta is None else x + beta
        else:
            wide = x.float() if x.element_size() < 4 else x
            if centre:
                wide = wide - wide.mean(1, keepdim=True)
            inverse = torch.rsqrt(wide.square().mean(1, keepdim=True) + epsilon)
            x = (wide * inverse).to(x.dtype)
        if gamma is not None:
            x = x * _per_channel(gamma, x)
        return x if beta is None else x + _per_channel(beta, x)

    def call(*tensors: Tensor) -> Tensor:
        x, gamma, beta, residual = [*operands(*tensors), None, None, None][:4]
        assert x is not None
        y = standardise(x, gamma, beta)
        y = y if residual is None else y + residual
        return y if act is None else act(y)

    return BoundStep(step, call, reads)


def _per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """[C] or [N, C] as it broadcasts to x."""
    return parameter.reshape(-1, x.shape[1], *[1] * (x.dim() - 2))


def bind_activate(to: Binding) -> BoundStep:
    """fastgan.Activate: an activation by itself."""
    assert to.act is not None
    return BoundStep(to.step, to.act, (to.step.inputs[0],))


def bind_pointwise(to: Binding) -> BoundStep:
    """fastgan.Pointwise: its program, one instruction after the other."""
    reads, operands = _operands(to, to.dtype)
    program: tuple[Instruction, ...] = to.step.attributes["program"]

    def call(*tensors: Tensor) -> Tensor:
        given = operands(*tensors)
        kept: dict[int, Tensor] = {}
        value: Tensor | None = None
        for each in program:
            operand: Tensor | float | None = each.number
            if each.tensor >= 0:
                operand = given[each.tensor]
            elif each.kept >= 0:
                operand = kept[each.kept]
            value = _apply(each.operation, value, operand)
            if each.keep >= 0:
                kept[each.keep] = value
        assert value is not None
        return value

    return BoundStep(to.step, call, reads)


def bind_quantiser(to: Binding) -> BoundStep:
    """QuantizeLinear and DequantizeLinear: scales keep their digits in every precision, since a
    scale that is rounded moves all that it scales; what comes out is of the plan's type.
    """
    step, dtype = to.step, to.dtype
    function = quantize if step.op == "QuantizeLinear" else dequantize
    reads, operands = _operands(to, None)
    attributes = step.attributes

    def call(*tensors: Tensor) -> Tensor:
        y = function(*operands(*tensors), **attributes)
        return y.to(dtype) if dtype is not None and y.is_floating_point() else y

    return BoundStep(step, call, reads)


def _apply(operation: str, value: Tensor | None, operand: Tensor | float | None) -> Tensor:
    if operation == "load":
        assert isinstance(operand, Tensor)
        return operand
    assert value is not None
    assert operand is not None
    match operation:
        case "rsub":
            return operand - value
        case "rdiv":
            return operand / value
        case "minimum" | "maximum":
            if isinstance(operand, Tensor):
                of_two: Tensor = getattr(torch, operation)(value, operand)
                return of_two
            # As a number: a tensor of it would be copied to a GPU, which no graph captures.
            return value.clamp(**{"max" if operation == "minimum" else "min": operand})
        case "leaky_relu":
            return torch.where(value < 0, value * operand, value)
        case "elu":
            return torch.where(value < 0, operand * torch.expm1(value), value)
        case "add" | "sub" | "mul" | "div":
            two: Tensor = getattr(torch, operation)(value, operand)
            return two
        case "square":
            return value.square()
    return TABLE[operation].torch(value)


BIND: dict[str, Callable[[Binding], BoundStep]] = {
    "fastgan.Normalise": bind_normalise,
    "fastgan.Activate": bind_activate,
    "fastgan.Pointwise": bind_pointwise,
    "QuantizeLinear": bind_quantiser,
    "DequantizeLinear": bind_quantiser,
}
