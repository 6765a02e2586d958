"""A product's step as a layer of csrc/direct.h: its phases, and its weights packed for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.backends.direct_geometry import Axis, AxisPhase, patches, phases
from fastgan.plan import Plan, Step

#: Periods of a patch along an axis that are tried.
_PERIODS = (1, 2, 3, 4)

#: A patch is stored in pieces, so it is to save this share of the arithmetic at least.
_SAVES = 0.2

#: What a multiply-add costs where a block has one vector instead of two, which share each input.
_ONE_VECTOR = 1.2


@dataclass(frozen=True, slots=True)
class Packed:
    """A layer, and what it points to.

    Attributes:
        layer: a `_native.Layer`.
        tensors: its weights and bias, to be kept as long as it is used.
    """

    layer: Any
    tensors: list[Tensor]


@dataclass(frozen=True, slots=True)
class _Geometry:
    """How a layer's outputs are made.

    Attributes:
        rows, columns: the phases along each axis; a phase of the layer is a pair of them.
        patch: height and width.
        lanes: output channels of a whole patch.
        vectors: of a block of lanes.
    """

    rows: list[AxisPhase]
    columns: list[AxisPhase]
    patch: tuple[int, int]
    lanes: int
    vectors: int

    def cost(self, width: int) -> float:
        """Vectors of products for each input channel, weighted by what they cost."""
        taps = math.prod(
            sum(phase.count * len(phase.reads) for phase in axis)
            for axis in (self.rows, self.columns)
        )
        blocks = -(-self.lanes // (self.vectors * width))
        return taps * blocks * self.vectors * (_ONE_VECTOR if self.vectors == 1 else 1.0)


def pack(native: Any, step: Step, plan: Plan, width: int, planar: bool) -> Packed:
    """The layer of a step on vectors of `width` floats.

    Args:
        native: the module `fastgan._native`.
        step: a Linear, Conv or ConvTranspose on rows or on images of two axes, of one group.
        planar: write [C, H, W] instead of [H, W, C].
    """
    shape, out = plan.buffers[step.inputs[0]].shape, plan.buffers[step.outputs[0]].shape
    axes, weight = _product(step, plan.weights[step.inputs[1]].float(), shape, out)
    geometry = _geometry(axes, out[1], width, step.op == "fastgan.Linear")
    lanes, block = geometry.lanes, geometry.vectors * width
    kernel_width, tensors, made = axes[1].kernel, [], []
    for y, x in product(geometry.rows, geometry.columns):
        tensors.append(_weights(y, x, weight, kernel_width, lanes, block))
        made.append(
            native.Phase(
                weights=tensors[-1].data_ptr(),
                pixels=[y.count, x.count],
                first_out=[y.output, x.output],
                taps=list(product(y.reads, x.reads)),
            )
        )
    bias = 0
    if step.epilogue.bias:
        terms = plan.weights[step.inputs[2]].float()
        if "shape" in step.attributes:  # one for each column
            terms = terms.reshape(out[1], -1).t().reshape(-1)
        terms = terms.repeat(lanes // terms.numel())
        tensors.append(F.pad(terms, (0, -lanes % block)).contiguous())
        bias = tensors[-1].data_ptr()
    y, x = geometry.rows[0], geometry.columns[0]
    layer = native.Layer(
        input=[axes[0].inputs, axes[1].inputs, shape[1]],
        output=[axes[0].outputs, axes[1].outputs, out[1]],
        planar=planar,
        after=getattr(native.After, step.epilogue.activation),
        slope=step.epilogue.slope,
        bias=bias,
        vectors=geometry.vectors,
        in_step=[y.input_step, x.input_step],
        out_step=[y.output_step, x.output_step],
        patch=geometry.patch,
        phases=made,
    )
    return Packed(layer, tensors)


def _product(
    step: Step, weight: Tensor, shape: tuple[int, ...], out: tuple[int, ...]
) -> tuple[tuple[Axis, Axis], Tensor]:
    """Its axes, and its weight as [ky * kx, C_in, C_out]."""
    if step.op == "fastgan.Linear":
        # A transposed convolution of one pixel; the weight's columns are [C, H, W].
        channels, *size = (*out[1:], 1, 1)[:3]
        y, x = (Axis(True, 1, n, n, n, 0, 1) for n in size)
        taps = weight.reshape(shape[1], channels, -1).permute(2, 0, 1)
        return (y, x), taps
    a, transposed = step.attributes, step.op == "fastgan.ConvTranspose"
    y, x = (
        Axis(
            transposed,
            shape[2 + i],
            out[2 + i],
            weight.shape[2 + i],
            a["strides"][i],
            a["pads"][i],
            a["dilations"][i],
        )
        for i in (0, 1)
    )
    taps = weight.permute(2, 3, 0, 1) if transposed else weight.permute(2, 3, 1, 0)
    return (y, x), taps.flatten(0, 1)


def _geometry(axes: tuple[Axis, Axis], channels: int, width: int, linear: bool) -> _Geometry:
    """The cheapest way: pixel by pixel, or where that is much work for nothing, in patches."""
    if linear:  # one patch, since each of its columns has its own bias
        return _patched(axes, channels, (1, 1), width)
    plain = _best(phases(axes[0]), phases(axes[1]), (1, 1), channels, width)
    made = [_patched(axes, channels, n, width) for n in product(_PERIODS, _PERIODS)]
    cheapest = min(made, key=lambda geometry: geometry.cost(width))
    return cheapest if cheapest.cost(width) < (1 - _SAVES) * plain.cost(width) else plain


def _patched(
    axes: tuple[Axis, Axis], channels: int, periods: tuple[int, int], width: int
) -> _Geometry:
    rows, columns = ([patches(axis, n)] for axis, n in zip(axes, periods, strict=True))
    patch = (periods[0] * axes[0].period, periods[1] * axes[1].period)
    return _best(rows, columns, patch, channels, width)


def _best(
    rows: list[AxisPhase],
    columns: list[AxisPhase],
    patch: tuple[int, int],
    channels: int,
    width: int,
) -> _Geometry:
    """With the number of vectors to a block that costs less."""
    lanes = patch[0] * patch[1] * channels
    made = [_Geometry(rows, columns, patch, lanes, vectors) for vectors in (2, 1)]
    return min(made, key=lambda geometry: geometry.cost(width))


def _weights(
    y: AxisPhase, x: AxisPhase, weight: Tensor, kernel_width: int, lanes: int, block: int
) -> Tensor:
    """A phase's weights, [blocks, taps, C_in, lanes of a block]; lanes are [patch, C_out]."""
    none, c_in, c_out = weight.shape
    taps = [
        [none if ky < 0 or kx < 0 else ky * kernel_width + kx for ky, kx in product(*pair)]
        for pair in product(y.reads.values(), x.reads.values())
    ]
    index = torch.tensor(taps, dtype=torch.int64).reshape(len(taps), lanes // c_out)
    chosen = F.pad(weight, (0, 0, 0, 0, 0, 1))[index]  # [taps, places, C_in, C_out]
    rows = chosen.transpose(1, 2).reshape(len(taps), c_in, lanes)
    blocks = -(-lanes // block)
    padded = F.pad(rows, (0, blocks * block - lanes)).reshape(len(taps), c_in, blocks, block)
    return padded.permute(2, 0, 1, 3).contiguous()
