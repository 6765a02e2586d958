"""Scales of samples, and noise, around a convolution that a library runs without them, on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fastgan.backends import library
from fastgan.backends.executor import BoundStep, place
from fastgan.plan import Buffer, Epilogue, Step


def is_modulated(step: Step, buffers: Mapping[str, Buffer]) -> bool:
    """Whether a product has scales, or a residual other than a buffer of its result's shape."""
    if any(step.inputs[4:6]):
        return True
    if not step.epilogue.residual:
        return False
    residual = buffers.get(step.inputs[3])
    return residual is None or residual.shape != buffers[step.outputs[0]].shape


def product_of(step: Step) -> Step:
    """The same step without scales and all that follows the product."""
    return replace(step, inputs=step.inputs[:2], epilogue=Epilogue())


def bind(
    step: Step,
    product: Callable[..., Any],
    weights: Mapping[str, Tensor],
    dtype: torch.dtype,
) -> BoundStep:
    """The step around its product, whose result must be memory of its own: it is written to."""
    cpu = torch.device("cpu")
    bias = None
    if step.epilogue.bias:
        bias = place(weights[step.inputs[2]], cpu, dtype)
        bias = bias.reshape(-1, *[1] * (len(step.attributes["pads"]) // 2))
    act = library.activation(step.epilogue)

    def call(
        x: Tensor, residual: Tensor | None, scale_in: Tensor | None, scale_out: Tensor | None
    ) -> Tensor:
        y = product(x if scale_in is None else x * scale_in)
        if scale_out is not None:
            y *= scale_out
        if residual is not None:
            y += residual
        if bias is not None:
            y += bias
        return y if act is None else act(y)

    reads, bind_constants = library.operands(step, weights, cpu, dtype)
    return BoundStep(step, bind_constants(call), reads)
