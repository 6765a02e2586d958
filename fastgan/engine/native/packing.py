"""A product's step as csrc/packing takes it, which packs its weights for the processor at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastgan.plan import Plan, Step


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a convolution.

    Attributes:
        transposed: whether it is a transposed one.
        inputs, outputs: sizes; outputs beyond the last tap read nothing.
        kernel, stride, pad, dilation: pad is that before the first input.
        repeats: how often a convolution (no transposed one) reads each input.
    """

    transposed: bool
    inputs: int
    outputs: int
    kernel: int
    stride: int
    pad: int
    dilation: int
    repeats: int = 1

    @property
    def numbers(self) -> list[int]:
        """As `Axis` of csrc/packing/geometry.h has them."""
        return [
            int(self.transposed), self.inputs, self.outputs, self.kernel, self.stride, self.pad,
            self.dilation, self.repeats,
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Product:
    """What a step computes, as `Product` of csrc/packing/packing.h has it.

    Attributes:
        axes: height and width.
        weight: [ky, kx, C_in, by, bx, C_out], by and bx being the output pixels that each one of
            the axes' outputs makes: one but for a pixel shuffle.
        bias: a vector for each of these pixels, [by, bx, C_out]; of a linear map instead [H, W, C].
        linear: whether all outputs must be one patch, since each has its own bias.
        depthwise: whether each output is of the channel of its number alone; the weight is the same
            for all C_in, by a stride of 0.
        tensors: what weight and bias are views of, in fp32, row by row.
    """

    axes: tuple[Axis, Axis]
    weight: Tensor
    bias: Tensor | None
    linear: bool
    depthwise: bool
    tensors: tuple[Tensor, Tensor | None]

    def taps(self, native: Any) -> int:
        """The most inputs that outputs which are made together read, by `_native.runtime`."""
        rows, columns = self.axes
        _, _, channels, *block, outputs = self.weight.shape
        found: int = native.taps(
            rows=rows.numbers,
            columns=columns.numbers,
            linear=self.linear,
            channels=channels,
            outputs=outputs,
            block=block,
        )
        return found


def product(step: Step, plan: Plan, shape: Sequence[int], out: Sequence[int]) -> Product:
    """What a step computes.

    Args:
        step: a Linear, Conv or ConvTranspose on rows, sequences or images, of one group; or a
            depthwise Conv.
        plan: has its weights.
        shape, out: of its input and its output.
    """
    weight = own = plan.weights[step.inputs[1]].float().contiguous()
    bias = plan.weights[step.inputs[2]].float().contiguous() if step.epilogue.bias else None
    tensors = (own, bias)
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
        return Product(axes, taps[:, :, :, None, None], bias, True, False, tensors)
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
    depthwise = a["group"] > 1
    if depthwise:
        taps = taps.expand(-1, -1, a["group"], -1)
    # The channels of a pixel shuffle are [C, by, bx] ("CRD") or [by, bx, C].
    last = a.get("shuffle_mode") == "CRD"
    sizes = (out[1], shuffle, shuffle) if last else (shuffle, shuffle, out[1])
    taps = taps.unflatten(3, sizes)
    bias = None if bias is None else bias.unflatten(0, sizes)
    if last:
        taps = taps.movedim(3, -1)
        bias = None if bias is None else bias.movedim(0, -1)
    return Product((axis(rank - 2), axis(rank - 1)), taps, bias, False, depthwise, tensors)
