"""Binds a step of a plan to a Triton kernel, or says why none covers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fastgan.backends.base import ImageFormat, Target
from fastgan.backends.executor import BoundStep
from fastgan.kernels import conv_transpose, linear
from fastgan.plan import Buffer, Step

_FORMATS = {"float32": "float32_nchw", "uint8": "uint8_nhwc"}


class FormatCall:
    """A bound kernel that can also write an image format itself.

    Args:
        launch: takes the step's tensors and the epilogue's fields as keywords.
    """

    def __init__(self, launch: Callable[..., Tensor]) -> None:
        self._launch = launch

    def __call__(self, *tensors: Tensor) -> Tensor:
        return self._launch(*tensors)

    def write(self, *tensors: Tensor, image: ImageFormat, flag: Tensor) -> Tensor:
        """Run with the result in the image format; sets `flag` where a value is not finite."""
        low, high = image.range
        return self._launch(
            *tensors, out_format=_FORMATS[image.format], low=low, high=high, flag=flag
        )


def bind(
    step: Step, weights: Mapping[str, Tensor], buffers: Mapping[str, Buffer], target: Target
) -> BoundStep | str:
    """The step on a kernel, or why no kernel covers it ("" where none would be expected)."""
    if step.op == "fastgan.Linear":
        return _bind_linear(step, weights, target)
    if step.op == "fastgan.ConvTranspose":
        return _bind_conv_transpose(step, weights, buffers, target)
    return ""


def _with_kernel(step: Step, kernel: str) -> Step:
    return replace(step, kernel=kernel)


def _options(step: Step, target: Target) -> dict[str, Any]:
    return {
        "activation": step.epilogue.activation,
        "slope": step.epilogue.slope,
        "precision": "tf32" if target.precision == "tf32" else "ieee",
    }


def _bind_linear(step: Step, weights: Mapping[str, Tensor], target: Target) -> BoundStep | str:
    shape = tuple(step.attributes.get("shape", ()))
    if len(shape) not in (0, 2, 3):
        return f"an image of {len(shape)} dimensions"
    matrix = weights[step.inputs[1]]
    # A signal [C, L] is an image of height 1; plain rows are images of one pixel.
    image = {0: (matrix.shape[1], 1, 1), 2: (*shape[:1], 1, *shape[1:]), 3: shape}[len(shape)]
    packed = linear.pack(matrix.to(target.device), target.dtype, image=image)
    bias = None
    if step.epilogue.bias:
        bias = linear.pack_bias(weights[step.inputs[2]].to(target.device), packed)
    options = _options(step, target)

    def run(x: Tensor) -> Tensor:
        y: Tensor = linear.launch(x.contiguous(), packed, bias, **options)
        return y if len(shape) == 3 else y.reshape(y.shape[0], *(shape or (-1,)))

    return BoundStep(_with_kernel(step, "linear"), run, (step.inputs[0],))


def _bind_conv_transpose(
    step: Step, weights: Mapping[str, Tensor], buffers: Mapping[str, Buffer], target: Target
) -> BoundStep | str:
    a = step.attributes
    if len(buffers[step.inputs[0]].shape) != 4:
        return "not two-dimensional"
    if a["group"] != 1 or any(d != 1 for d in a["dilations"]):
        return "grouped or dilated"
    packed = conv_transpose.pack(
        weights[step.inputs[1]].to(target.device),
        tuple(a["strides"]),
        tuple(a["pads"]),
        target.dtype,
        output_padding=tuple(a["output_padding"]),
    )
    bias = weights[step.inputs[2]].to(target.device).float() if step.epilogue.bias else None
    options = _options(step, target)

    def run(x: Tensor, **image: Any) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y: Tensor = conv_transpose.launch(x, packed, bias, **options, **image)
        return y

    return BoundStep(_with_kernel(step, "conv_transpose"), FormatCall(run), (step.inputs[0],))
