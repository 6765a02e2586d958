"""Binds a product to oneDNN's fused operators, as PyTorch ships them for its own compiler.

Weights are packed once, for the planned batch; activations stay channels-last; bias and activation
run inside the product. It serves fp32 and bf16 (AVX512-BF16, AMX) on x86 CPUs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastgan.backends.executor import BoundStep
from fastgan.backends.library import place
from fastgan.plan import Buffer, Step

#: Activations that oneDNN fuses, by our name for them.
_FUSED = {"none", "relu", "leaky_relu", "tanh", "sigmoid"}


def available() -> bool:
    """Whether this torch has oneDNN's fused operators."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(
        torch.ops.mkldnn, "_convolution_transpose_pointwise"
    )


def bfloat16_available() -> bool:
    """Whether the CPU has bf16 instructions that oneDNN uses."""
    return available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def bind(
    step: Step,
    weights: Mapping[str, Tensor],
    buffers: Mapping[str, Buffer],
    dtype: torch.dtype,
) -> BoundStep | None:
    """The step on oneDNN, or None where it does not cover it."""
    if not step.op.startswith("fastgan.") or step.epilogue.residual:
        return None
    if step.epilogue.activation not in _FUSED or dtype not in (torch.float32, torch.bfloat16):
        return None
    x = buffers[step.inputs[0]]
    if step.op == "fastgan.Linear":
        return _bind_linear(step, weights, x, dtype)
    pads, rank = step.attributes["pads"], len(x.shape) - 2
    if rank != 2 or tuple(pads[:rank]) != tuple(pads[rank:]):
        return None
    if step.op == "fastgan.Conv":
        return _bind_conv(step, weights, x, dtype)
    return _bind_conv_transpose(step, weights, x, dtype)


def _epilogue(step: Step) -> tuple[str, list[float]]:
    scalars = [step.epilogue.slope] if step.epilogue.activation == "leaky_relu" else []
    return step.epilogue.activation, scalars


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
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.t().contiguous(), x.shape[0])
    attr, scalars = _epilogue(step)
    linear = torch.ops.mkldnn._linear_pointwise.default

    def rows(x: Tensor) -> Tensor:
        y: Tensor = linear(x, packed, bias, attr, scalars, "")
        return y

    if shape is None:
        return BoundStep(step, rows, (step.inputs[0],))
    to_channels_last = (0, len(size) + 1, *range(1, len(size) + 1))

    def images(x: Tensor) -> Tensor:
        return rows(x).view(-1, *size, channels).permute(to_channels_last)

    return BoundStep(step, images, (step.inputs[0],))


def _bind_conv(
    step: Step, weights: Mapping[str, Tensor], x: Buffer, dtype: torch.dtype
) -> BoundStep:
    weight, bias = _parameters(step, weights, dtype)
    a = step.attributes
    padding, strides = list(a["pads"][:2]), list(a["strides"])
    dilations, group = list(a["dilations"]), a["group"]
    packed = torch.ops.mkldnn._reorder_convolution_weight(
        weight, padding, strides, dilations, group, list(x.shape)
    )
    attr, scalars = _epilogue(step)
    run = torch.ops.mkldnn._convolution_pointwise.default

    def call(x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y: Tensor = run(x, packed, bias, padding, strides, dilations, group, attr, scalars, "")
        return y

    return BoundStep(step, call, (step.inputs[0],))


def _bind_conv_transpose(
    step: Step, weights: Mapping[str, Tensor], x: Buffer, dtype: torch.dtype
) -> BoundStep | None:
    weight, bias = _parameters(step, weights, dtype)
    a = step.attributes
    padding, extra, strides = list(a["pads"][:2]), list(a["output_padding"]), list(a["strides"])
    dilations, group = list(a["dilations"]), a["group"]
    if any(e >= s for e, s in zip(extra, strides, strict=True)):
        return None
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
