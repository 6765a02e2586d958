"""A product's step as csrc/packing takes it, which packs its weights for the processor at hand."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastgan.host import forks
from fastgan.host.native import _native
from fastgan.plan import Plan, Step
from fastgan.plan.weights import identity_of, meta_of


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
        """As `Axis` of csrc/packing/axis.h has them."""
        return [
            int(self.transposed), self.inputs, self.outputs, self.kernel, self.stride, self.pad,
            self.dilation, self.repeats,
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant of a plan, in fp32, row by row.

    Attributes:
        meta: the tensor without its numbers.
    """

    meta: Tensor
    _weights: Mapping[str, Tensor]
    _name: str

    @staticmethod
    def of(weights: Mapping[str, Tensor], name: str) -> Constant:
        """The one of this name."""
        return Constant(meta_of(weights, name).float().contiguous(), weights, name)

    def load(self) -> Tensor:
        """The tensor; one that was read for this is gone when it is."""
        return self._weights[self._name].float().contiguous()

    def identity(self) -> Hashable:
        """Equal for equal numbers of a model."""
        return identity_of(self._weights, self._name)


class Shared:
    """The packed weights of a model, each once for all that runs it here, and as long as that does.

    Attributes:
        native: a `_native.runtime.Weights`.
    """

    def __init__(self) -> None:
        self.native = _native.runtime.Weights(1)
        self._numbers: dict[Hashable, int] = {}
        self._lock = forks.renewed(threading.Lock())

    def number(self, constant: Constant) -> int:
        """Which numbers a constant has."""
        identity = constant.identity()
        with self._lock:
            return self._numbers.setdefault(identity, 1 + len(self._numbers))

    def pack(self, product: Product, most_minimal: int, bf16: bool) -> Any:
        """A product's weights, packed unless they are: a `_native.runtime.Packing`."""
        bare = product.native(_native.runtime, (None, None), self)
        found = self.native.found(bare, most_minimal, bf16)
        if found is not None:
            return found
        tensors = product.loaded()
        own = product.native(_native.runtime, tensors, self)
        return self.native.pack(own, most_minimal, bf16, torch.get_num_threads())


@dataclass(frozen=True, slots=True)
class Product:
    """What a step computes, as `Product` of csrc/packing/product.h has it.

    Attributes:
        axes: height and width.
        weight: [ky, kx, C_in, by, bx, C_out], by and bx being the output pixels that each one of
            the axes' outputs makes: one but for a pixel shuffle. Without its numbers (meta).
        bias: a vector for each of these pixels, [by, bx, C_out]; of a linear map instead [H, W, C].
        linear: whether all outputs must be one patch, since each has its own bias.
        depthwise: whether each output is of the channel of its number alone; the weight is the same
            for all C_in, by a stride of 0.
        constants: what weight and bias are views of.
    """

    axes: tuple[Axis, Axis]
    weight: Tensor
    bias: Tensor | None
    linear: bool
    depthwise: bool
    constants: tuple[Constant, Constant | None]

    def taps(self, native: Any) -> int:
        """The most inputs that outputs which are made together read, by `_native.runtime`."""
        return int(self.native(native, (None, None), None).most_taps)

    def native(self, native: Any, tensors: Sequence[Tensor | None], shared: Shared | None) -> Any:
        """A `_native.runtime.Product`.

        Args:
            native: the module.
            tensors: the numbers of `constants`, to which it points; None where they are not here.
            shared: knows numbers wherever they lie.
        """
        weight, bias = (0 if tensor is None else tensor.data_ptr() for tensor in tensors)
        numbers = [0 if c is None or shared is None else shared.number(c) for c in self.constants]
        rows, columns = self.axes
        _, _, channels, *block, outputs = self.weight.shape
        return native.Product(
            rows=rows.numbers,
            columns=columns.numbers,
            linear=self.linear,
            depthwise=self.depthwise,
            channels=channels,
            outputs=outputs,
            block=block,
            weight=weight,
            strides=self.weight.stride(),
            bias=bias,
            bias_strides=(0, 0, 0) if self.bias is None else self.bias.stride(),
            numbers=numbers,
        )

    def loaded(self) -> tuple[Tensor, Tensor | None]:
        """The numbers of `constants`."""
        weight, bias = self.constants
        return weight.load(), None if bias is None else bias.load()


def product(step: Step, plan: Plan, shape: Sequence[int], out: Sequence[int]) -> Product:
    """What a step computes.

    Args:
        step: a Linear, Conv or ConvTranspose on rows, sequences or images, of one group; or a
            depthwise Conv.
        plan: has its weights.
        shape, out: of its input and its output.
    """
    biased = Constant.of(plan.weights, step.inputs[2]) if step.epilogue.bias else None
    constants = (Constant.of(plan.weights, step.inputs[1]), biased)
    weight, bias = constants[0].meta, None if biased is None else biased.meta
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
        return Product(axes, taps[:, :, :, None, None], bias, True, False, constants)
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
    return Product((axis(rank - 2), axis(rank - 1)), taps, bias, False, depthwise, constants)
