"""Binds a step to torch's own ops: any device, any op of the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import ops
from fastgan.engine.library import addressing, fused
from fastgan.engine.library.executor import BoundStep, place
from fastgan.ops.convolution import conv, conv_transpose
from fastgan.plan import Epilogue, Step
from fastgan.plan.activations import TABLE


def _is_float(onnx_type: int) -> bool:
    return ops.elementwise.torch_dtype(onnx_type).is_floating_point


def _onnx_type(dtype: torch.dtype) -> int:
    return int(ops.elementwise.onnx_dtype(dtype))


#: Attributes that name the element type of an output.
_TYPE_ATTRIBUTES = frozenset(("to", "dtype", "output_datatype"))
_HOLE = object()
#: Types that a Cast rounds to, whatever is computed in.
_HALVES = {_onnx_type(half): half for half in (torch.float16, torch.bfloat16)}


def activation(
    epilogue: Epilogue, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Callable[[Tensor], Tensor] | None:
    """The activation of an epilogue as a function, or None where there is none.

    Its slopes are placed now: copied while it runs, they could not be captured.
    """
    if epilogue.activation == "none":
        return None
    function = TABLE[epilogue.activation].torch
    if epilogue.activation == "prelu":
        slopes = torch.tensor(epilogue.slopes).to(device, dtype)
        return lambda x: function(x, slopes.to(x))  # where it lies already
    if not epilogue.parameters:
        return function
    return lambda x: function(x, *epilogue.parameters)


def bind(
    step: Step,
    weights: Mapping[str, Tensor],
    opset: int,
    device: torch.device,
    dtype: torch.dtype | None,
) -> BoundStep:
    """The step on torch's op, with its weights placed and its constant inputs bound.

    dtype: the floating-point type computed in; None leaves every tensor in its own.
    """
    if step.op in fused.BIND:
        act = activation(step.epilogue, device, dtype)
        return fused.BIND[step.op](fused.Binding(step, weights, device, dtype, act))
    if step.op.startswith("fastgan."):
        return _bind_product(step, weights, device, dtype)
    op = ops.find("", step.op, opset)
    assert op is not None, f"{step.op} was planned but is not registered"
    reads = []
    bound: list[Any] = []
    for position, name in enumerate(step.inputs):
        if not name:
            bound.append(None)
        elif name not in weights:
            reads.append(name)
            bound.append(_HOLE)
        elif position in op.host:
            bound.append(weights[name].tolist())
        else:
            bound.append(place(weights[name], device, dtype))
    function, attributes = op.function, dict(step.attributes)
    half = _HALVES.get(attributes["to"]) if step.op == "Cast" else None
    if dtype is not None and half is not None and half is not dtype:
        return BoundStep(step, lambda x: x.to(half).to(dtype), tuple(reads))
    for name in _TYPE_ATTRIBUTES & attributes.keys():
        if dtype is not None and _is_float(attributes[name]):
            # The plan has one floating-point type; a cast to another only names it.
            attributes[name] = _onnx_type(dtype)
    if len(reads) == len(bound) and not attributes:
        return BoundStep(step, function, tuple(reads))

    def call(*tensors: Tensor) -> Any:
        given = iter(tensors)
        return function(*[next(given) if b is _HOLE else b for b in bound], **attributes)

    def make() -> Any:
        with device:  # what comes from nothing is to lie on the plan's device
            return call()

    return BoundStep(step, call if reads else make, tuple(reads))


def operands(
    step: Step, weights: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype | None
) -> tuple[tuple[str, ...], Callable[[Callable[..., Tensor]], Callable[..., Tensor]]]:
    """What a fused product reads beside its weight and bias.

    Returns:
        The buffers that it reads, and what makes of a function (x, residual, scale_in, scale_out)
        one of these buffers alone: a constant is bound, one left out is None.
    """
    x, _, _, *others = (*step.inputs, *[""] * 6)[:6]
    names = (x, *others)
    reads = tuple(name for name in names if name and name not in weights)
    if reads == (x,) and not any(others):
        return reads, lambda function: lambda x: function(x, None, None, None)
    bound = [
        (place(weights[name], device, dtype) if name in weights else _HOLE) if name else None
        for name in names
    ]

    def bind_constants(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*tensors: Tensor) -> Tensor:
            given = iter(tensors)
            return function(*[next(given) if b is _HOLE else b for b in bound])

        return call

    return reads, bind_constants


def _bind_product(
    step: Step, weights: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype | None
) -> BoundStep:
    weight = place(weights[step.inputs[1]], device, dtype)
    bias = place(weights[step.inputs[2]], device, dtype) if step.epilogue.bias else None
    act = activation(step.epilogue, device, dtype)
    attributes = dict(step.attributes)
    if step.op == "fastgan.Linear":
        shape = attributes.get("shape")
        matrix = weight.t().contiguous()

        def product(x: Tensor, bias: Tensor | None) -> Tensor:
            rows = F.linear(x, matrix, bias)
            return rows if shape is None else rows.reshape(-1, *shape)

    elif step.op == "fastgan.Conv":
        read, write = addressing.reader(step), addressing.writer(step)
        attributes = dict(addressing.without(step).attributes)

        def product(x: Tensor, bias: Tensor | None) -> Tensor:
            return write(conv(read(x), weight, bias, **attributes))

    else:

        def product(x: Tensor, bias: Tensor | None) -> Tensor:
            return conv_transpose(x, weight, bias, **attributes)

    def call(
        x: Tensor, residual: Tensor | None, scale_in: Tensor | None, scale_out: Tensor | None
    ) -> Tensor:
        if scale_in is not None:
            x = x * scale_in
        if scale_out is None:
            y = product(x, bias)
        else:
            y = product(x, None) * scale_out
            if bias is not None:
                y = y + bias.reshape(-1, *[1] * (y.dim() - 2))
        if residual is not None:
            y = y + residual
        return y if act is None else act(y)

    reads, bind_constants = operands(step, weights, device, dtype)
    return BoundStep(step, bind_constants(call), reads)
