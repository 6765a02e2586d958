"""A step of a plan on a Triton kernel: what all of them share.

A kernel sees a tensor as an image [N, C, H, W] with channels last: a signal [N, C, L] is an image
of height 1, rows [N, K] are images of one pixel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fastgan.engine.base import Target
from fastgan.engine.triton.workspace import Workspace
from fastgan.images.format import ImageFormat
from fastgan.kernels import to_image
from fastgan.kernels.e4m3 import E4M3
from fastgan.kernels.layout import is_pitched, pitch
from fastgan.kernels.types import Call, Config, Prepared, capability_of
from fastgan.plan import Plan, Step

#: What the kernels call the formats that `generate` takes.
FORMATS = {"float32": "float32_nchw", "uint8": "uint8_nhwc"}

#: What a fused product may have behind its bias.
_OPTIONAL = ("residual", "scale_in", "scale_out")

Shape4 = tuple[int, int, int, int]


def image_fields(image: ImageFormat) -> dict[str, Any]:
    """The fields of a kernel's epilogue that stand for an image format."""
    low, high = image.range
    return {"out_format": FORMATS[image.format], "low": low, "high": high}


def room_for(shape: Shape4, image: ImageFormat, device: torch.device) -> Tensor:
    """Memory for images of a format, of a result [N, C, H, W]."""
    n, c, h, w = shape
    if image.format == "uint8":
        return torch.empty((n, h, w, c), dtype=torch.uint8, device=device)
    return torch.empty(shape, dtype=torch.float32, device=device)


def as_image(x: Tensor) -> Tensor:
    """Rows, a signal or an image as [N, C, H, W], channels last; a view if it lies so already."""
    if x.dim() < 4:
        x = x.contiguous()[:, :, None, None] if x.dim() == 2 else x.unsqueeze(2)
    if not is_pitched(x):
        x = x.contiguous(memory_format=torch.channels_last)
    strides = channels_last(tuple(x.shape), pitch(x, "x"))
    return x.as_strided(x.shape, strides, x.storage_offset())


def channels_last(shape: tuple[int, ...], wide: int = 0) -> tuple[int, int, int, int]:
    """The strides of [N, C, H, W] with channels last, those of axes of length 1 included.

    wide: the channels of the image that it is a part of; 0: its own.
    """
    _, c, h, w = shape
    c = wide or c
    return (h * w * c, 1, w * c, c)


class Binding(ABC):
    """A step on a kernel, for one set of shapes.

    Attributes:
        step: with the kernel's name.
        reads: the buffers that it takes, in the order of the step's inputs.
        read_shapes: of those, as planned.
        shape: its result as the kernel sees it, [N, C, H, W].
        formats: whether the kernel can write image formats itself.
        pitched: whether it can write some channels of a wider image.
        tunable: whether it has tilings to choose from, and the library op beside them.
        dependent: whether its launch may begin before the one before it has ended.
        input_high, output_high: the values that 448, e4m3's largest, stands for in its first input
            and in its result. None where that is in 16 bits; NaN before they are known.
        rounds: whether its first input lies in 16 bits, and is rounded by a launch before its own.
    """

    input_high: float | None = None
    output_high: float | None = None
    rounds = dependent = False
    formats = pitched = tunable = True

    def __init__(self, step: Step, plan: Plan, target: Target, workspace: Workspace) -> None:
        self.step = replace(step, kernel=self.kernel)
        self.places = tuple(i for i, name in enumerate(step.inputs) if name in plan.buffers)
        self.reads = tuple(step.inputs[i] for i in self.places)
        self.read_shapes = tuple(plan.buffers[name].shape for name in self.reads)
        self.target, self.workspace = target, workspace
        self.input = self.read_shapes[0]
        self.output = plan.buffers[step.outputs[0]].shape
        given = dict(zip(_OPTIONAL, step.inputs[3:], strict=False))
        #: What a product has beside its weight and bias, where it is constant.
        self.constants = {r: plan.weights[n] for r, n in given.items() if n in plan.weights}
        self._sources = tuple(plan.weights[n] for n in step.inputs if n in plan.weights)
        self._key = (step.op, step.inputs, str(dict(step.attributes)), target)

    #: The kernel's name in the table.
    kernel: str

    @property
    def waits(self) -> bool:
        """Whether the library op runs until this kernel was measured to be faster."""
        return False

    @property
    def labelled(self) -> Step:
        """The step with its kernel's name, and the type of its factors where that is another."""
        return (
            self.step
            if self.input_high is None
            else replace(self.step, kernel=f"{self.kernel} e4m3")
        )

    @property
    def shape(self) -> Shape4:
        """Its result's, as the kernel sees it."""
        return as_four(self.output)

    @abstractmethod
    def pack(self) -> Any:
        """The weights on the device as the kernel reads them."""

    @abstractmethod
    def launches(self, tensors: list[Tensor], packed: Any, options: dict[str, Any]) -> Prepared:
        """The launches on tensors as `views` makes them."""

    @abstractmethod
    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        """The configurations worth trying, the default first."""

    @property
    def default(self) -> Config:
        """The configuration that it has unless one was measured."""
        return self.configs(capability_of(self.target.device))[0]

    @property
    def packed(self) -> Any:
        """See `pack`; made once for all batch sizes of a model."""
        key = (*self._key, self.input_high is not None)
        return self.workspace.packed(key, self._sources, self.pack)

    def view(self, x: Tensor) -> Tensor:
        """The input as the kernel takes it; a view where it lies so already."""
        return as_image(x)

    def views(self, tensors: list[Tensor]) -> list[Tensor]:
        """The buffers of `reads` as the kernel takes them."""
        return [self.view(tensors[0]), *map(as_image, tensors[1:])]

    def operand(self, position: int, tensors: list[Tensor]) -> Tensor | None:
        """The buffer among these that is the step's input number `position`, or None."""
        return tensors[self.places.index(position)] if position in self.places else None

    def present(self, out: Tensor) -> Tensor:
        """The kernel's result [N, C, H, W] in the shape that the plan knows, without a copy."""
        if len(self.output) == 3 and out.shape[2] == 1:
            return out.squeeze(2)
        return out if tuple(out.shape) == self.output else out.view(self.output)

    def prepare(
        self,
        tensors: list[Tensor],
        out: Tensor,
        config: Config | None = None,
        image: ImageFormat | None = None,
        flag: Tensor | None = None,
        **norm: Any,
    ) -> Prepared:
        """The launches on these tensors, into `out`.

        Args:
            tensors: those of `reads`, as `views` makes them.
            out: of `shape`, channels last; in the image's format where there is one.
            config: how it is tiled; the default if None.
            image: the format to write.
            flag: int32 [1], set to 1 where a value is not finite.
            norm: what the kernel takes for, or from, a step that it shares a norm with.
        """
        options = {"out": out, "flag": flag, "config": config, **norm}
        options |= self.epilogue(tensors) | self.format_fields(image)
        return self.launches(tensors, self.packed, options)

    def launched(self, config: Config, image: ImageFormat | None) -> tuple[Call, ...]:
        """Its launches for a compiler, on tensors without memory."""
        place, dtype = torch.device("meta"), self.target.dtype
        kinds = [dtype if self.input_high is None or self.rounds else E4M3]
        kinds += [dtype] * (len(self.read_shapes) - 1)
        tensors = [
            torch.empty_strided(shape, channels_last(shape), dtype=kind, device=place)
            if len(shape) == 4
            else torch.empty(shape, dtype=kind, device=place)
            for shape, kind in zip(self.read_shapes, kinds, strict=True)
        ]
        if image is not None:
            out = room_for(self.shape, image, place)
        else:
            written = dtype if self.output_high is None else E4M3
            strides = channels_last(self.shape)
            out = torch.empty_strided(self.shape, strides, dtype=written, device=place)
        return self.prepare(self.views(tensors), out, config, image).calls

    def epilogue(self, tensors: list[Tensor]) -> dict[str, Any]:
        """What the kernel is told to do behind its own work."""
        epilogue = self.step.epilogue
        return {
            "activation": epilogue.activation,
            "slope": epilogue.slope,
            "slopes": self.slopes(),
            **self.optional(self._given(tensors)),
        }

    def format_fields(self, image: ImageFormat | None) -> dict[str, Any]:
        """The fields of its epilogue that say what it writes."""
        if image is not None:
            return image_fields(image)
        if self.output_high is not None:
            return {"out_format": "e4m3_nhwc", "high": self.output_high}
        return {}

    @property
    def eight_bit(self) -> bool:
        """Whether it reads or writes in 8 bits."""
        return self.input_high is not None or self.output_high is not None

    def slopes(self) -> Tensor | None:
        """Those of a PReLU, one for each of the kernel's channels."""
        given = self.step.epilogue.slopes
        return torch.tensor(given, device=self.target.device) if given else None

    def _given(self, tensors: list[Tensor]) -> dict[str, Tensor]:
        """What a step has beside its input, weight and bias, by role."""
        pairs = zip(self.places, tensors, strict=True)
        return {_OPTIONAL[place - 3]: tensor for place, tensor in pairs if place >= 3}

    def optional(self, given: Mapping[str, Tensor]) -> dict[str, Any]:
        """The arguments for what a step may have beside its input, by role."""
        return {"residual": given.get("residual")}

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the first constant input, as the model has it."""
        return tuple(self._sources[0].shape) if self._sources else ()

    @property
    def precision(self) -> str:
        """What the kernels call the precision of a product."""
        return "tf32" if self.target.precision == "tf32" else "ieee"

    def weight(self, position: int) -> Tensor:
        """A constant input on the device, in its own type."""
        before = (i for i, name in enumerate(self.step.inputs[:position]) if name)
        index = sum(i not in self.places for i in before)
        return self._sources[index].to(self.target.device)

    def bias(self) -> Tensor | None:
        """The bias of a product."""
        return self.weight(2).float() if self.step.epilogue.bias else None


def as_four(shape: tuple[int, ...]) -> Shape4:
    """A shape as the kernels see it: [N, C, H, W]."""
    n, c, *size = shape
    height, width = [1, 1, *size][-2:]
    return n, c, height, width


def image_of(x: Tensor, out: Tensor, image: ImageFormat, flag: Tensor | None) -> Prepared:
    """The launch that writes a finished result [N, C, H, W], of any strides, as images."""
    return to_image.prepare(x, out=out, flag=flag, **image_fields(image))


#: Chooses the kind of binding for a step of a plan, or says why there is none.
Chooser = Callable[[Step, Plan], "tuple[type[Binding] | None, str]"]
