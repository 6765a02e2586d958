"""Binds a product to oneDNN's fused operators, as PyTorch ships them for its own compiler.

Weights are packed once, for the planned batch; activations stay channels-last; bias and activation
run inside the product. It serves fp32 and, where
`processor.has_bfloat16`, bf16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.engine.library import addressing, columns, modulated, phases
from fastgan.engine.library import operators as library
from fastgan.engine.library.executor import BoundStep, place
from fastgan.ops.convolution import of_one_column
from fastgan.plan import Buffer, Epilogue, Step
from fastgan.plan.activations import TABLE

#: Up to this many output channels a transposed convolution runs as one convolution of all phases:
#: oneDNN's own one leaves its vector units mostly idle on the last layer of a generator.
_FEW_CHANNELS = 4
#: Phases of a transposed convolution, its strides multiplied, that are made one convolution.
_MOST_PHASES = 1024

_PRODUCTS = ("fastgan.Linear", "fastgan.Conv", "fastgan.ConvTranspose")


def bind(
    step: Step, weights: Mapping[str, Tensor], buffers: Mapping[str, Buffer], dtype: torch.dtype
) -> BoundStep | None:
    """The step on oneDNN, or None where it does not cover it."""
    if step.op not in _PRODUCTS or dtype not in (torch.float32, torch.bfloat16):
        return None
    if step.inputs[0] not in buffers:
        return None
    if step.op != "fastgan.Linear" and _is_one_column(step, weights, buffers):
        return None
    if modulated.is_modulated(step, buffers):
        return _bind_modulated(step, weights, buffers, dtype)
    residual = step.epilogue.residual
    if residual and (step.op != "fastgan.Conv" or "shuffle" in step.attributes):
        return _bind_apart(step, weights, buffers, dtype)
    if not TABLE[step.epilogue.activation].onednn and not residual:
        return _bind_apart(step, weights, buffers, dtype)
    x = buffers[step.inputs[0]]
    if step.op == "fastgan.Linear":
        return _bind_linear(step, weights, x, dtype)
    pads, rank = addressing.without(step).attributes["pads"], len(x.shape) - 2
    if rank != 2 or tuple(pads[:rank]) != tuple(pads[rank:]):
        return None
    if step.op == "fastgan.Conv":
        return _bind_conv(step, weights, x, dtype)
    return _bind_conv_transpose(step, weights, x, buffers[step.outputs[0]], dtype)


def _is_one_column(
    step: Step, weights: Mapping[str, Tensor], buffers: Mapping[str, Buffer]
) -> bool:
    """`of_one_column` of the product, or of one of its phases."""
    kernel, shape = weights[step.inputs[1]].shape[2:], buffers[step.inputs[0]].shape
    strides = step.attributes["strides"]
    if step.op == "fastgan.ConvTranspose":
        taps = [-(-k // s) for k, s in zip(kernel, strides, strict=True)]
        return of_one_column(taps, shape[-1])
    pads, rank = addressing.without(step).attributes["pads"], len(kernel)
    room = addressing.read_shape(step, shape)[-1] + pads[rank - 1] + pads[-1] - 1
    return of_one_column(kernel, room // strides[-1] + 1)


def _bind_apart(
    step: Step, weights: Mapping[str, Tensor], buffers: Mapping[str, Buffer], dtype: torch.dtype
) -> BoundStep | None:
    """The product alone on oneDNN; residual and activation behind it."""
    alone = Epilogue(bias=step.epilogue.bias)
    bound = bind(replace(step, epilogue=alone), weights, buffers, dtype)
    if bound is None:
        return None
    product, act = bound.call, _behind(step.epilogue)

    def call(x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = product(x)
        assert isinstance(y, Tensor)
        y = y if residual is None else y + residual
        return y if act is None else act(y)

    residual = (step.inputs[3],) if step.epilogue.residual else ()
    return BoundStep(step, call, (step.inputs[0], *residual))


def _behind(epilogue: Epilogue) -> Callable[[Tensor], Tensor] | None:
    """The activation of what a product has just made."""
    return torch.relu_ if epilogue.activation == "relu" else library.activation(epilogue)


def _bind_modulated(
    step: Step, weights: Mapping[str, Tensor], buffers: Mapping[str, Buffer], dtype: torch.dtype
) -> BoundStep | None:
    """The product on oneDNN, the scales and what follows them in passes of their own."""
    product = modulated.product_of(step)
    plain = None
    if step.op == "fastgan.ConvTranspose":
        weight, _ = _parameters(product, weights, dtype)
        plain = phases.bind(product, weight, buffers[step.inputs[0]], buffers[step.outputs[0]])
    plain = plain or bind(product, weights, buffers, dtype)
    if plain is None or "shuffle" in step.attributes:
        return None
    return modulated.bind(step, plain.call, weights, dtype)


def _epilogue(step: Step) -> tuple[str, list[float]]:
    return step.epilogue.activation, list(step.epilogue.parameters)


def _parameters(
    step: Step, weights: Mapping[str, Tensor], dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    cpu = torch.device("cpu")
    weight = place(weights[step.inputs[1]], cpu, dtype)
    bias = place(weights[step.inputs[2]], cpu, dtype) if step.epilogue.bias else None
    return weight, bias


def _bind_linear(
    step: Step, weights: Mapping[str, Tensor], x: Buffer, dtype: torch.dtype
) -> BoundStep:
    weight, bias = _parameters(step, weights, dtype)
    shape = step.attributes.get("shape")
    if shape is not None:
        # Columns come as [C, *size]; the images are to lie channels-last, so permute them once.
        channels, size = shape[0], list(shape[1:])
        weight = weight.reshape(-1, channels, *size).movedim(1, -1).reshape(weight.shape)
        if bias is not None:
            bias = bias.reshape(channels, *size).movedim(0, -1).reshape(-1)
    one = x.shape[0] == 1 and weight.dtype == torch.float32
    rows = _one_row(step, weight, bias) if one else _rows(step, weight, bias, x.shape[0])
    if shape is None:
        return BoundStep(step, rows, (step.inputs[0],))
    to_channels_last = (0, len(size) + 1, *range(1, len(size) + 1))

    def images(x: Tensor) -> Tensor:
        return rows(x).view(-1, *size, channels).permute(to_channels_last)

    return BoundStep(step, images, (step.inputs[0],))


def _rows(
    step: Step, weight: Tensor, bias: Tensor | None, count: int
) -> Callable[[Tensor], Tensor]:
    """activation(x @ weight + bias) on oneDNN, packed for this many rows."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.t().contiguous(), count)
    attr, scalars = _epilogue(step)
    linear = torch.ops.mkldnn._linear_pointwise.default

    def run(x: Tensor) -> Tensor:
        y: Tensor = linear(x, packed, bias, attr, scalars, "")
        return y

    return run


def _one_row(step: Step, weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The same for a single row in fp32: the BLAS's matrix-vector product starts much sooner.

    One dot product per output, so that equal columns give equal outputs.
    """
    act = library.activation(step.epilogue)
    matrix = weight.t().contiguous()

    def run(x: Tensor) -> Tensor:
        y = F.linear(x, matrix, bias)
        return y if act is None else act(y)

    return run


def _bind_conv(
    step: Step, weights: Mapping[str, Tensor], x: Buffer, dtype: torch.dtype
) -> BoundStep:
    weight, bias = _parameters(step, weights, dtype)
    plain, a = addressing.is_plain(step), addressing.without(step).attributes
    padding, strides = list(a["pads"][:2]), list(a["strides"])
    dilations, group = list(a["dilations"]), a["group"]
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        weight, padding, strides, dilations, group, list(addressing.read_shape(step, x.shape))
    )
    attr, scalars = _epilogue(step)
    run = torch.ops.mkldnn._convolution_pointwise.default

    def call(x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y: Tensor = run(x, packed, bias, padding, strides, dilations, group, attr, scalars, "")
        return y

    if step.epilogue.residual:
        return _bind_sum(step, packed, bias)
    if plain:
        return BoundStep(step, call, (step.inputs[0],))
    read, write = addressing.reader(step), addressing.writer(step)
    return BoundStep(step, lambda x: write(call(read(x))), (step.inputs[0],))


def _bind_sum(step: Step, packed: Tensor, bias: Tensor | None) -> BoundStep:
    """A convolution that adds a residual; behind the sum oneDNN fuses relu alone, losing NaN."""
    a, act = addressing.without(step).attributes, _behind(step.epilogue)
    geometry = (list(a["pads"][:2]), list(a["strides"]), list(a["dilations"]), a["group"])
    read = addressing.reader(step)
    run = torch.ops.mkldnn._convolution_pointwise.binary

    def call(x: Tensor, residual: Tensor) -> Tensor:
        x = read(x).contiguous(memory_format=torch.channels_last)
        residual = residual.contiguous(memory_format=torch.channels_last)
        y: Tensor = run(x, residual, packed, bias, *geometry, "add", 1.0, None, [], None)
        return y if act is None else act(y)

    return BoundStep(step, call, (step.inputs[0], step.inputs[3]))


def _bind_conv_transpose(
    step: Step, weights: Mapping[str, Tensor], x: Buffer, y: Buffer, dtype: torch.dtype
) -> BoundStep | None:
    weight, bias = _parameters(step, weights, dtype)
    a = step.attributes
    padding, extra, strides = list(a["pads"][:2]), list(a["output_padding"]), list(a["strides"])
    dilations, group = list(a["dilations"]), a["group"]
    if any(e >= s for e, s in zip(extra, strides, strict=True)):
        return None
    few = weight.shape[1] <= _FEW_CHANNELS and 1 < math.prod(strides) <= _MOST_PHASES
    if few and group == max(dilations) == 1:
        return phases.bind_as_one(step, weight, bias, x, y)
    if columns.pays(step, weight):
        return columns.bind(step, weight, bias, x, y)
    packed = torch.ops.mkldnn._reorder_convolution_transpose_weight(
        weight, padding, extra, strides, dilations, group, list(x.shape)
    )
    attr, scalars = _epilogue(step)
    run = torch.ops.mkldnn._convolution_transpose_pointwise.default

    def call(x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y: Tensor = run(
            x, packed, bias, padding, extra, strides, dilations, group, attr, scalars, ""
        )
        return y

    return BoundStep(step, call, (step.inputs[0],))
