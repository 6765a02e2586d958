"""Binds a step of a plan to a Triton kernel, or says why none covers it.

A kernel sees a tensor as an image [N, C, H, W] with channels last: a signal [N, C, L] is an image
of height 1, rows [N, K] are images of one pixel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from fastgan.backends import modulated
from fastgan.backends.base import ImageFormat, Target
from fastgan.backends.triton_workspace import Workspace
from fastgan.kernels import conv, conv_transpose, linear, normalise, to_image
from fastgan.kernels.epilogue import ACTIVATIONS
from fastgan.kernels.modulation import Modulation
from fastgan.kernels.types import Config, Prepared
from fastgan.plan import Plan, Step

#: What the kernels call the formats that `generate` takes.
FORMATS = {"float32": "float32_nchw", "uint8": "uint8_nhwc"}

#: What a fused product may have behind its bias.
_OPTIONAL = ("residual", "scale_in", "scale_out")

#: The longest rows that a program of the normalisation holds in its registers.
_LONGEST_ROW = 16384

Shape4 = tuple[int, int, int, int]


def image_fields(image: ImageFormat) -> dict[str, Any]:
    """The fields of a kernel's epilogue that stand for an image format."""
    low, high = image.range
    return {"out_format": FORMATS[image.format], "low": low, "high": high}


def as_image(x: Tensor) -> Tensor:
    """Rows, a signal or an image as [N, C, H, W], channels last; a view if it lies so already."""
    if x.dim() < 4:
        x = x.contiguous()[:, :, None, None] if x.dim() == 2 else x.unsqueeze(2)
    x = x.contiguous(memory_format=torch.channels_last)
    return x.as_strided(x.shape, channels_last(tuple(x.shape)), x.storage_offset())


def channels_last(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The strides of [N, C, H, W] with channels last, those of axes of length 1 included."""
    _, c, h, w = shape
    return (h * w * c, 1, w * c, c)


class Binding(ABC):
    """A step on a kernel, for one set of shapes.

    Attributes:
        step: with the kernel's name.
        reads: the buffers that it takes: its input, then a residual and scales where they depend
            on data.
        shape: its result as the kernel sees it, [N, C, H, W].
        formats: whether the kernel can write image formats itself.
    """

    formats = True

    def __init__(self, step: Step, plan: Plan, target: Target, workspace: Workspace) -> None:
        self.step = replace(step, kernel=self.kernel)
        self.target, self.workspace = target, workspace
        self.input = plan.buffers[step.inputs[0]].shape
        self.output = plan.buffers[step.outputs[0]].shape
        given = dict(zip(_OPTIONAL, step.inputs[3:], strict=False))
        #: What each buffer of `reads` behind the input is, and which of them are constant.
        self.roles = tuple(role for role, name in given.items() if name in plan.buffers)
        self.reads = (step.inputs[0], *(given[role] for role in self.roles))
        self.read_shapes = tuple(plan.buffers[name].shape for name in self.reads)
        self.constants = {r: plan.weights[n] for r, n in given.items() if n in plan.weights}
        self._sources = tuple(plan.weights[n] for n in step.inputs if n in plan.weights)
        self._key = (step.op, step.inputs, str(dict(step.attributes)), target)

    #: The kernel's name in the table.
    kernel: str

    @property
    @abstractmethod
    def shape(self) -> Shape4: ...

    @abstractmethod
    def pack(self) -> Any:
        """The weights on the device as the kernel reads them."""

    @abstractmethod
    def launches(self, x: Tensor, packed: Any, options: dict[str, Any]) -> Prepared:
        """The launches on an input as `view` makes it."""

    @abstractmethod
    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        """The configurations worth trying, the default first."""

    @property
    def packed(self) -> Any:
        """See `pack`; made once for all batch sizes of a model."""
        return self.workspace.packed(self._key, self._sources, self.pack)

    def view(self, x: Tensor) -> Tensor:
        """The input as the kernel takes it; a view where it lies so already."""
        return as_image(x)

    def views(self, tensors: list[Tensor]) -> list[Tensor]:
        """The buffers of `reads` as the kernel takes them."""
        return [self.view(tensors[0]), *map(as_image, tensors[1:])]

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
    ) -> Prepared:
        """The launches on these tensors, into `out`.

        Args:
            tensors: those of `reads`, as `views` makes them.
            out: of `shape`, channels last; in the image's format where there is one.
            config: how it is tiled; the default if None.
            image: the format to write.
            flag: int32 [1], set to 1 where a value is not finite.
        """
        epilogue = self.step.epilogue
        options: dict[str, Any] = {
            "activation": epilogue.activation,
            "slope": epilogue.slope,
            "out": out,
            **self.optional(dict(zip(self.roles, tensors[1:], strict=True))),
            "flag": flag,
            "config": config,
        }
        if image is not None:
            options |= image_fields(image)
        return self.launches(tensors[0], self.packed, options)

    def optional(self, given: Mapping[str, Tensor]) -> dict[str, Any]:
        """The arguments for what a step may have beside its input, by role."""
        return {"residual": given.get("residual")}

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the first constant input, as the model has it."""
        return tuple(self._sources[0].shape)

    @property
    def precision(self) -> str:
        """What the kernels call the precision of a product."""
        return "tf32" if self.target.precision == "tf32" else "ieee"

    def weight(self, position: int) -> Tensor:
        """A constant input on the device, in its own type."""
        constants = [n for n in self.step.inputs if n]
        return self._sources[constants.index(self.step.inputs[position]) - 1].to(self.target.device)

    def bias(self) -> Tensor | None:
        """The bias of a product."""
        return self.weight(2).float() if self.step.epilogue.bias else None


@dataclass(frozen=True)
class _Product:
    """Packed weights and a bias."""

    weight: Any
    bias: Tensor | None


class LinearBinding(Binding):
    """fastgan.Linear: x [N, K] by weight [K, M], to rows or to an image."""

    kernel, formats = "linear", False

    @property
    def shape(self) -> Shape4:
        return (self.input[0], *self._image)

    @property
    def _image(self) -> tuple[int, int, int]:
        rest = self.output[1:]
        if len(rest) == 3:
            return (rest[0], rest[1], rest[2])
        return (rest[0], 1, rest[1] if len(rest) == 2 else 1)

    def pack(self) -> _Product:
        weight = linear.pack(self.weight(1), self.target.dtype, image=self._image)
        bias = self.bias()
        return _Product(weight, None if bias is None else linear.pack_bias(bias, weight))

    def view(self, x: Tensor) -> Tensor:
        return x.contiguous()

    def launches(self, x: Tensor, packed: _Product, options: dict[str, Any]) -> Prepared:
        return linear.prepare(x, packed.weight, packed.bias, precision=self.precision, **options)

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        return linear.configs(
            self.packed.weight, self.input[0], self.target.dtype, capability, self.precision
        )


class ConvolutionBinding(Binding):
    """What the two convolutions share: scales of samples, and noise."""

    def optional(self, given: Mapping[str, Tensor]) -> dict[str, Any]:
        given = {**given, **self._placed}
        scales = {
            role: given[role].reshape(given[role].shape[0], -1)
            for role in ("scale_in", "scale_out")
            if role in given
        }
        residual = given.get("residual")
        if residual is None or tuple(residual.shape) == self.shape:
            return {"residual": residual, "modulation": Modulation(**scales)}
        # One map for all channels: [N or 1, 1, H, W].
        return {"modulation": Modulation(**scales, noise=residual[:, 0])}

    @cached_property
    def _placed(self) -> dict[str, Tensor]:
        """The constants among them, on the device."""
        place, dtype = self.target.device, self.target.dtype
        return {role: as_image(t.to(place, dtype)) for role, t in self.constants.items()}


class ConvBinding(ConvolutionBinding):
    """fastgan.Conv: x [N, C, *size], weight [O, C, *kernel], one or two axes."""

    kernel = "conv"

    @property
    def shape(self) -> Shape4:
        return _four(self.output)

    def pack(self) -> _Product:
        a = self.step.attributes
        weight = conv.pack(
            _two_axes(self.weight(1)),
            self.target.dtype,
            stride=_pair(a["strides"], 1),
            padding=_pads(a["pads"]),
            dilation=_pair(a["dilations"], 1),
            pad_mode=a.get("pad_mode", "zeros"),
            upsample=bool(a.get("upsample", 0)),
            shuffle=a.get("shuffle", 1),
            shuffle_mode=a.get("shuffle_mode", "CRD"),
        )
        return _Product(weight, self.bias())

    def launches(self, x: Tensor, packed: _Product, options: dict[str, Any]) -> Prepared:
        return conv.prepare(x, packed.weight, packed.bias, precision=self.precision, **options)

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        shuffle = self.step.attributes.get("shuffle", 1)
        pixels = self.shape[0] * self.shape[2] * self.shape[3] // shuffle**2
        return conv.configs(
            self.packed.weight, pixels, self.target.dtype, capability, self.precision
        )


class ConvTransposeBinding(ConvolutionBinding):
    """fastgan.ConvTranspose: x [N, C, *size], weight [C, O, *kernel], one or two axes."""

    kernel = "conv_transpose"

    @property
    def shape(self) -> Shape4:
        return _four(self.output)

    def pack(self) -> _Product:
        a = self.step.attributes
        weight = conv_transpose.pack(
            _two_axes(self.weight(1)),
            _pair(a["strides"], 1),
            _pads(a["pads"]),
            self.target.dtype,
            output_padding=_pair(a["output_padding"], 0),
        )
        return _Product(weight, self.bias())

    def launches(self, x: Tensor, packed: _Product, options: dict[str, Any]) -> Prepared:
        return conv_transpose.prepare(
            x, packed.weight, packed.bias, precision=self.precision, **options
        )

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        stride = _pair(self.step.attributes["strides"], 1)
        n, _, h, w = self.shape
        pixels = n * -(-h // stride[0]) * -(-w // stride[1])
        return conv_transpose.configs(
            self.packed.weight, pixels, self.target.dtype, capability, self.precision
        )


class NormaliseBinding(Binding):
    """InstanceNormalization and GroupNormalization of signals and images."""

    kernel = "normalise"

    @property
    def shape(self) -> Shape4:
        return _four(self.output)

    @property
    def groups(self) -> int:
        """How many groups of channels are normalised together; 0: each channel by itself."""
        return int(self.step.attributes.get("num_groups", 0))

    def pack(self) -> tuple[Tensor, Tensor]:
        # GroupNormalization had parameters per group before opset 21.
        gamma, beta = (self.weight(i).float() for i in (1, 2))
        repeats = self.input[1] // gamma.numel()
        return gamma.repeat_interleave(repeats), beta.repeat_interleave(repeats)

    def launches(
        self, x: Tensor, packed: tuple[Tensor, Tensor], options: dict[str, Any]
    ) -> Prepared:
        epsilon = float(self.step.attributes.get("epsilon", 1e-5))
        return normalise.prepare(x, *packed, groups=self.groups, epsilon=epsilon, **options)

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        return normalise.configs(self.shape[1])


class LayerNormBinding(Binding):
    """LayerNormalization over the last axis: each row is the channels of one pixel."""

    kernel, formats = "normalise", False

    @property
    def shape(self) -> Shape4:
        return (prod(self.input[:-1]), self.input[-1], 1, 1)

    def pack(self) -> tuple[Tensor, Tensor | None]:
        return self.weight(1).float(), self.weight(2).float() if len(self._sources) > 1 else None

    def view(self, x: Tensor) -> Tensor:
        return as_image(x.contiguous().view(self.shape))

    def launches(
        self, x: Tensor, packed: tuple[Tensor, Tensor | None], options: dict[str, Any]
    ) -> Prepared:
        epsilon = float(self.step.attributes.get("epsilon", 1e-5))
        return normalise.prepare(x, *packed, per_pixel=True, epsilon=epsilon, **options)

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        return normalise.configs(self.shape[1])


# The choice ---------------------------------------------------------------------------------------

#: Attributes of the products that the kernels know; another one is for the library op.
_KNOWN = {"strides", "pads", "dilations", "group", "output_padding", "shape"}
_ADDRESSING = {"pad_mode", "upsample", "shuffle", "shuffle_mode"}


def bind(step: Step, plan: Plan, target: Target, workspace: Workspace) -> Binding | str:
    """The step on a kernel, or why no kernel covers it ("" where none would be expected)."""
    kind, refusal = _choose(step, plan)
    if kind is None:
        return refusal
    if step.inputs[0] in plan.weights:
        return "an input is constant"
    if step.epilogue.activation not in ACTIVATIONS:
        return f"activation {step.epilogue.activation}"
    return kind(step, plan, target, workspace)


def _choose(step: Step, plan: Plan) -> tuple[type[Binding] | None, str]:
    if step.op.startswith("fastgan."):
        return _choose_product(step, plan)
    if step.op not in ("InstanceNormalization", "GroupNormalization", "LayerNormalization"):
        return None, ""
    shape = plan.buffers[step.inputs[0]].shape
    if len(step.outputs) > 1:
        return None, "the statistics are outputs too"
    if not all(name in plan.weights for name in step.inputs[1:] if name):
        return None, "its scale or bias depends on data"
    if step.op == "LayerNormalization":
        if step.attributes.get("axis", -1) not in (-1, len(shape) - 1):
            return None, "over more than the last axis"
        if plan.weights[step.inputs[1]].shape != shape[-1:] or shape[-1] > _LONGEST_ROW:
            return None, f"rows of {shape[-1]}"
        return LayerNormBinding, ""
    return (NormaliseBinding, "") if len(shape) in (3, 4) else (None, f"{len(shape) - 2} axes")


def _choose_product(step: Step, plan: Plan) -> tuple[type[Binding] | None, str]:
    known = _KNOWN | _ADDRESSING if step.op == "fastgan.Conv" else _KNOWN
    unknown = sorted(step.attributes.keys() - known)
    if unknown:
        return None, f"{unknown[0]} is not in the kernel"
    if step.inputs[0] not in plan.buffers:
        return None, "an input is constant"
    rank = len(plan.buffers[step.inputs[0]].shape) - 2
    a = step.attributes
    if step.op == "fastgan.Linear":
        if rank != 0 or len(a.get("shape") or ()) > 3:
            return None, f"an image of {len(a.get('shape') or ()) - 1} axes"
        return LinearBinding, ""
    if step.op not in ("fastgan.Conv", "fastgan.ConvTranspose"):
        return None, ""
    if rank not in (1, 2):
        return None, f"{rank} axes"
    if a["group"] != 1:
        return None, f"{a['group']} groups"
    if modulated.is_modulated(step, plan.buffers) and "shuffle" in a:
        return None, "modulated, and shuffled"
    if step.op == "fastgan.Conv":
        moved = _ADDRESSING & step.attributes.keys() - {"pad_mode"}
        return (None, "pixels move along one axis") if moved and rank == 1 else (ConvBinding, "")
    if any(d != 1 for d in a["dilations"]):
        return None, "dilated"
    if any(p < 0 for p in a["pads"]):
        return None, "cropped"
    return ConvTransposeBinding, ""


def image_of(x: Tensor, out: Tensor, image: ImageFormat, flag: Tensor | None) -> Prepared:
    """The launch that writes a finished result [N, C, H, W], of any strides, as images."""
    return to_image.prepare(x, out=out, flag=flag, **image_fields(image))


def _four(shape: tuple[int, ...]) -> Shape4:
    n, c, *size = shape
    return (n, c, 1, size[0]) if len(size) == 1 else (n, c, size[0], size[1])


def _two_axes(weight: Tensor) -> Tensor:
    return weight.unsqueeze(2) if weight.dim() == 3 else weight


def _pair(values: Any, absent: int) -> tuple[int, int]:
    values = tuple(values)
    return (absent, values[0]) if len(values) == 1 else (values[0], values[1])


def _pads(pads: Any) -> tuple[int, int, int, int]:
    pads = tuple(pads)
    return (0, pads[0], 0, pads[1]) if len(pads) == 2 else (pads[0], pads[1], pads[2], pads[3])
