"""A product's step as a layer of csrc/direct.h: its phases, and its weights packed for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.engine.native.geometry import (
    Axis,
    AxisPhase,
    patches,
    phases,
)
from fastgan.plan import Plan, Step

#: Periods of a patch along an axis that are tried.
_PERIODS = (1, 2, 3, 4)

#: A patch is stored in pieces, so it is to save this share of the arithmetic at least.
_SAVES = 0.2

#: What a multiply-add costs where a block has one vector instead of two, which share each input.
_ONE_VECTOR = 1.2


@dataclass(frozen=True, slots=True)
class Path:
    """An instruction set that there is native code for: a row of `_native.program_paths()`.

    Attributes:
        width: floats to a vector.
        pack: elements to a lane: 1 of fp32, 2 of bf16.
    """

    name: str
    width: int
    pack: int

    @property
    def dtype(self) -> torch.dtype:
        """What products take; sums are in fp32."""
        return torch.float32 if self.pack == 1 else torch.bfloat16


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
class PackedPhase:
    """A phase of a layer, as `Phase` of csrc/direct.h has it.

    Attributes:
        weights: packed for it.
        pixels: rows and columns.
        first_out: where its first patch begins.
        taps: the inputs that each of its pixels reads, (dy, dx).
        minimal: the M of `winograd.py`, or 0.
    """

    weights: Tensor
    pixels: list[int]
    first_out: list[int]
    taps: list[tuple[int, int]]
    minimal: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """How a layer is computed, as `Layer` of csrc/direct.h has it.

    Attributes:
        input, output: height, width, channels.
        bias: by lanes, or None.
        vectors: of a block of lanes.
        in_step, out_step: between the pixels of a phase, and their patches.
        patch: output pixels of one pixel.
        phases: in order.
    """

    input: list[int]
    output: list[int]
    bias: Tensor | None
    vectors: int
    in_step: list[int]
    out_step: list[int]
    patch: list[int]
    phases: list[PackedPhase]

    @property
    def tensors(self) -> list[Tensor]:
        """What it points to, to be kept as long as it is used."""
        return [phase.weights for phase in self.phases] + ([] if self.bias is None else [self.bias])


@dataclass(frozen=True, slots=True)
class _Product:
    """What a step computes, before its outputs fall into phases.

    Attributes:
        axes: height and width.
        weight: [ky, kx, C_in, by, bx, C_out], by and bx being the output pixels that each one of
            the axes' outputs makes: one but for a pixel shuffle.
        bias: a vector for each of these pixels, [by, bx, C_out]; of a linear map instead [H, W, C].
        linear: whether all outputs must be one patch, since each has its own bias.
    """

    axes: tuple[Axis, Axis]
    weight: Tensor
    bias: Tensor | None
    linear: bool = False

    @property
    def block(self) -> tuple[int, int]:
        return self.weight.shape[3], self.weight.shape[4]


@dataclass(frozen=True, slots=True)
class _Geometry:
    """How a layer's outputs are made.

    Attributes:
        rows, columns: the phases along each axis; a phase of the layer is a pair of them.
        patch: outputs along each axis that a pixel makes.
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


def pack(native: Any, step: Step, plan: Plan, path: Path, planar: bool) -> Packed:
    """The layer of a step for one instruction set.

    Args:
        native: the module `fastgan._native`.
        step: a Linear, Conv or ConvTranspose on rows or on images of two axes, of one group.
        planar: write [C, H, W] instead of [H, W, C].
    """
    shape, out = plan.buffers[step.inputs[0]].shape, plan.buffers[step.outputs[0]].shape
    made = layout(step, plan, path, shape, out)
    layer = native.Layer(
        input=made.input,
        output=made.output,
        planar=planar,
        after=getattr(native.After, step.epilogue.activation),
        slope=step.epilogue.slope,
        bias=0 if made.bias is None else made.bias.data_ptr(),
        vectors=made.vectors,
        in_step=made.in_step,
        out_step=made.out_step,
        patch=made.patch,
        phases=[
            native.Phase(
                weights=phase.weights.data_ptr(),
                pixels=phase.pixels,
                first_out=phase.first_out,
                taps=phase.taps,
            )
            for phase in made.phases
        ],
    )
    return Packed(layer, made.tensors)


def layout(step: Step, plan: Plan, path: Path, shape: Sequence[int], out: Sequence[int]) -> Layout:
    """How a step is computed with one instruction set.

    Args:
        step: a Linear, Conv or ConvTranspose on rows, sequences or images, of one group.
        plan: has its weights.
        shape, out: of its input and its output.
    """
    made = _product(step, plan, shape, out)
    geometry = _geometry(made, path.width)
    lanes = geometry.vectors * path.width
    (by, bx), (height, width) = made.block, geometry.patch
    found = [
        PackedPhase(
            weights=_weights(y, x, made, geometry, path, lanes),
            pixels=[y.count, x.count],
            first_out=[by * y.output, bx * x.output],
            taps=list(product(y.reads, x.reads)),
        )
        for y, x in product(geometry.rows, geometry.columns)
    ]
    terms = made.bias
    if terms is not None:
        if not made.linear:
            terms = terms[None, :, None].expand(height, by, width, bx, -1)
        terms = F.pad(terms.reshape(-1), (0, -geometry.lanes % lanes)).contiguous()
    y, x = geometry.rows[0], geometry.columns[0]
    rows, columns = made.axes
    return Layout(
        input=[rows.inputs, columns.inputs, made.weight.shape[2]],
        output=[by * rows.outputs, bx * columns.outputs, made.weight.shape[5]],
        bias=terms,
        vectors=geometry.vectors,
        in_step=[y.input_step, x.input_step],
        out_step=[by * y.output_step, bx * x.output_step],
        patch=[by * height, bx * width],
        phases=found,
    )


def _product(step: Step, plan: Plan, shape: Sequence[int], out: Sequence[int]) -> _Product:
    weight = plan.weights[step.inputs[1]].float()
    bias = plan.weights[step.inputs[2]].float() if step.epilogue.bias else None
    if step.op == "fastgan.Linear":
        # A transposed convolution of one pixel; columns are [C, H, W], of a sequence [C, W].
        channels, *size = out[1:]
        height, width = (1, 1, *size)[-2:]
        axes = (
            Axis(True, 1, height, height, height, 0, 1),
            Axis(True, 1, width, width, width, 0, 1),
        )
        taps = weight.reshape(shape[1], channels, height, width).permute(2, 3, 0, 1)
        bias = None if bias is None else bias.reshape(channels, height, width).permute(1, 2, 0)
        return _Product(axes, taps[:, :, :, None, None], bias, linear=True)
    a, transposed = step.attributes, step.op == "fastgan.ConvTranspose"
    shuffle = a.get("shuffle") or 1
    if len(shape) == 3:  # a sequence is an image of one row
        weight = weight.unsqueeze(2)

    def axis(i: int) -> Axis:
        if i < 0:
            return Axis(transposed, inputs=1, outputs=1, kernel=1, stride=1, pad=0, dilation=1)
        return Axis(
            transposed,
            inputs=shape[2 + i],
            outputs=out[2 + i] // shuffle,
            kernel=weight.shape[i - rank],
            stride=a["strides"][i],
            pad=a["pads"][i],
            dilation=a["dilations"][i],
            repeats=2 if a.get("upsample") else 1,
        )

    rank = len(shape) - 2
    taps = weight.permute(2, 3, 0, 1) if transposed else weight.permute(2, 3, 1, 0)
    # The channels of a pixel shuffle are [C, by, bx] ("CRD") or [by, bx, C].
    last = a.get("shuffle_mode") == "CRD"
    sizes = (out[1], shuffle, shuffle) if last else (shuffle, shuffle, out[1])
    taps = taps.unflatten(3, sizes)
    bias = None if bias is None else bias.unflatten(0, sizes)
    if last:
        taps = taps.movedim(3, -1)
        bias = None if bias is None else bias.movedim(0, -1)
    return _Product((axis(rank - 2), axis(rank - 1)), taps, bias)


def _geometry(made: _Product, width: int) -> _Geometry:
    """The cheapest way: pixel by pixel, or where that is much work for nothing, in patches."""
    if made.linear:
        return _patched(made, (1, 1), width)
    plain = _best(made, [phases(axis) for axis in made.axes], (1, 1), width)
    patched = [_patched(made, n, width) for n in product(_PERIODS, _PERIODS)]
    cheapest = min(patched, key=lambda geometry: geometry.cost(width))
    return cheapest if cheapest.cost(width) < (1 - _SAVES) * plain.cost(width) else plain


def _patched(made: _Product, periods: tuple[int, int], width: int) -> _Geometry:
    axes = [[patches(axis, n)] for axis, n in zip(made.axes, periods, strict=True)]
    patch = (periods[0] * made.axes[0].period, periods[1] * made.axes[1].period)
    return _best(made, axes, patch, width)


def _best(
    made: _Product, axes: list[list[AxisPhase]], patch: tuple[int, int], width: int
) -> _Geometry:
    """With the number of vectors to a block that costs less."""
    lanes = patch[0] * patch[1] * made.weight[0, 0, 0].numel()
    rows, columns = axes
    choices = [_Geometry(rows, columns, patch, lanes, vectors) for vectors in (2, 1)]
    return min(choices, key=lambda geometry: geometry.cost(width))


def _weights(
    y: AxisPhase, x: AxisPhase, made: _Product, geometry: _Geometry, path: Path, block: int
) -> Tensor:
    """A phase's weights, [blocks, taps, C_in / pack, lanes of a block, pack].

    Lanes are a patch's [by * height, bx * width, C_out]; they and the channels are filled up with
    zeros.
    """
    height, width = geometry.patch
    taps = _met(_met(made.weight, 1, x, width), 0, y, height)
    # [dy, py, dx, px, C_in, by, bx, C_out]
    lanes = taps.permute(0, 2, 4, 1, 5, 3, 6, 7).flatten(3).flatten(0, 1)
    lanes = F.pad(lanes, (0, -geometry.lanes % block, 0, -lanes.shape[1] % path.pack))
    count, channels = lanes.shape[:2]
    split = lanes.to(path.dtype).reshape(
        count, channels // path.pack, path.pack, lanes.shape[2] // block, block
    )
    return split.permute(3, 0, 1, 4, 2).contiguous()


def _met(weight: Tensor, dim: int, phase: AxisPhase, patch: int) -> Tensor:
    """The weight with [reads, outputs of the patch] instead of its taps along an axis.

    What no tap meets is zero; where several meet they are added up. (A product with a matrix of
    ones and zeros would spread a NaN.)
    """
    nothing = weight.shape[dim]
    padded = torch.cat([weight, torch.zeros_like(weight.narrow(dim, 0, 1))], dim)
    places = [taps for read in phase.reads.values() for taps in read]
    most = max((len(taps) for taps in places), default=1)
    index = torch.full((most, len(places)), nothing)
    for at, taps in enumerate(places):
        index[: len(taps), at] = torch.tensor(taps, dtype=torch.int64)
    chosen = padded.index_select(dim, index.flatten())
    return chosen.unflatten(dim, (most, len(phase.reads), patch)).sum(dim)
