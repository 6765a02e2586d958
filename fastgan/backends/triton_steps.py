"""Binds a step of a plan to a Triton kernel, or says why none covers it.

A kernel sees a tensor as an image [N, C, H, W] with channels last: a signal [N, C, L] is an image
of height 1, rows [N, K] are images of one pixel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from fastgan.backends import modulated
from fastgan.backends.base import ImageFormat, Target
from fastgan.backends.triton_workspace import Workspace
from fastgan.kernels import conv, conv_transpose, linear, normalise, pointwise, to_image
from fastgan.kernels.epilogue import ACTIVATIONS
from fastgan.kernels.layout import is_pitched, pitch
from fastgan.kernels.modulation import Modulation
from fastgan.kernels.types import Call, Config, Prepared
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
    """

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
    @abstractmethod
    def shape(self) -> Shape4: ...

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
    def packed(self) -> Any:
        """See `pack`; made once for all batch sizes of a model."""
        return self.workspace.packed(self._key, self._sources, self.pack)

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
            "slopes": self.slopes(),
            "out": out,
            **self.optional(self._given(tensors)),
            "flag": flag,
            "config": config,
        }
        if image is not None:
            options |= image_fields(image)
        return self.launches(tensors, self.packed, options)

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


@dataclass(frozen=True)
class _Product:
    """Packed weights and a bias."""

    weight: Any
    bias: Tensor | None


class LinearBinding(Binding):
    """fastgan.Linear: x [N, K] by weight [K, M], to rows or to an image."""

    kernel, formats, pitched = "linear", False, False

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

    def views(self, tensors: list[Tensor]) -> list[Tensor]:
        last = torch.channels_last  # its rows are whole: no part of a wider image
        residuals = (as_image(t).contiguous(memory_format=last) for t in tensors[1:])
        return [self.view(tensors[0]), *residuals]

    def slopes(self) -> Tensor | None:
        found = super().slopes()
        return None if found is None else linear.pack_bias(found, self.packed.weight)

    def launches(
        self, tensors: list[Tensor], packed: _Product, options: dict[str, Any]
    ) -> Prepared:
        return linear.prepare(
            tensors[0], packed.weight, packed.bias, precision=self.precision, **options
        )

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

    def slopes(self) -> Tensor | None:
        # A shuffle's squares of the kernel's channels are one channel each of the output.
        found, block = super().slopes(), self.step.attributes.get("shuffle", 1)
        if found is None or block == 1:
            return found
        crd = self.step.attributes.get("shuffle_mode", "CRD") == "CRD"
        return found.repeat_interleave(block**2) if crd else found.repeat(block**2)

    def launches(
        self, tensors: list[Tensor], packed: _Product, options: dict[str, Any]
    ) -> Prepared:
        return conv.prepare(
            tensors[0], packed.weight, packed.bias, precision=self.precision, **options
        )

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

    def launches(
        self, tensors: list[Tensor], packed: _Product, options: dict[str, Any]
    ) -> Prepared:
        return conv_transpose.prepare(
            tensors[0], packed.weight, packed.bias, precision=self.precision, **options
        )

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        stride = _pair(self.step.attributes["strides"], 1)
        n, _, h, w = self.shape
        pixels = n * -(-h // stride[0]) * -(-w // stride[1])
        return conv_transpose.configs(
            self.packed.weight, pixels, self.target.dtype, capability, self.precision
        )


class NormaliseBinding(Binding):
    """fastgan.Normalise of signals and images, over space or each pixel's channels."""

    kernel = "normalise"

    @property
    def shape(self) -> Shape4:
        return _four(self.output)

    @property
    def formats(self) -> bool:  # type: ignore[override]
        return self.step.attributes["over"] == "space"

    def pack(self) -> tuple[Tensor | None, Tensor | None]:
        """gamma and beta where they are constant."""
        names = [*self.step.inputs, "", ""][1:3]
        constant = [bool(name) and name not in self.reads for name in names]
        gamma, beta = (self.weight(i + 1).float() if c else None for i, c in enumerate(constant))
        return gamma, beta

    def views(self, tensors: list[Tensor]) -> list[Tensor]:
        parameters = {1, 2}
        return [
            tensor.contiguous() if place in parameters else as_image(tensor)
            for place, tensor in zip(self.places, tensors, strict=True)
        ]

    def launches(
        self,
        tensors: list[Tensor],
        packed: tuple[Tensor | None, Tensor | None],
        options: dict[str, Any],
    ) -> Prepared:
        a = self.step.attributes
        given = [self.operand(i + 1, tensors) for i in range(2)]
        gamma, beta = (c if g is None else g for c, g in zip(packed, given, strict=True))
        how = (
            {"groups": a["groups"]}
            if a["over"] == "space"
            else {"per_pixel": True, "subtract_mean": bool(a["centre"])}
        )
        return normalise.prepare(
            tensors[0], gamma, beta, epsilon=float(a["epsilon"]), **how, **options
        )

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        return normalise.configs(self.shape[1])


class RowsBinding(NormaliseBinding):
    """fastgan.Normalise over the last axis: each row is the channels of one pixel."""

    pitched = False

    @property
    def shape(self) -> Shape4:
        return (prod(self.input[:-1]), self.input[-1], 1, 1)

    def views(self, tensors: list[Tensor]) -> list[Tensor]:
        return [as_image(tensor.contiguous().view(self.shape)) for tensor in tensors]

    def present(self, out: Tensor) -> Tensor:
        return out.view(self.output)


class PointwiseBinding(Binding):
    """fastgan.Pointwise of rows, signals and images."""

    kernel = "pointwise"

    @property
    def shape(self) -> Shape4:
        return _four(self.output)

    def pack(self) -> dict[str, Tensor]:
        """The constant operands as images, by name."""
        names = [name for name in self.step.inputs if name not in self.reads]
        place = (self.target.device, self.target.dtype)
        pairs = zip(names, self._sources, strict=True)
        return {name: self._image(source.to(*place)) for name, source in pairs}

    def _image(self, x: Tensor) -> Tensor:
        """[N, C, H, W] with axes of length 1 where it broadcasts; always a view."""
        x = x[(None,) * (len(self.output) - x.dim())]
        return x.unsqueeze(2) if x.dim() == 3 else x[(..., *[None] * (4 - x.dim()))]

    def views(self, tensors: list[Tensor]) -> list[Tensor]:
        return [self._image(tensor) for tensor in tensors]

    def prepare(
        self,
        tensors: list[Tensor],
        out: Tensor,
        config: Config | None = None,
        image: ImageFormat | None = None,
        flag: Tensor | None = None,
    ) -> Prepared:
        options: dict[str, Any] = {"out": out, "flag": flag, "config": config}
        if image is not None:
            options |= image_fields(image)
        return self.launches(tensors, self.packed, options)

    def launches(
        self, tensors: list[Tensor], packed: dict[str, Tensor], options: dict[str, Any]
    ) -> Prepared:
        given = packed | dict(zip(self.reads, tensors, strict=True))
        steps = [pointwise.Step(*astuple(each)) for each in self.step.attributes["program"]]
        return pointwise.prepare([given[name] for name in self.step.inputs], steps, **options)

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        return pointwise.configs()


class ConcatBinding(Binding):
    """Concat along the channels: copies only what its maker did not write in its place."""

    kernel, formats, tunable = "pointwise", False, False

    @property
    def shape(self) -> Shape4:
        return _four(self.output)

    def pack(self) -> None:
        return None

    def views(self, tensors: list[Tensor]) -> list[Tensor]:
        return [as_image(tensor) for tensor in tensors]

    def prepare(
        self,
        tensors: list[Tensor],
        out: Tensor,
        config: Config | None = None,
        image: ImageFormat | None = None,
        flag: Tensor | None = None,
    ) -> Prepared:
        return self.launches(tensors, None, {"flag": flag, "config": config, "out": out})

    def launches(self, tensors: list[Tensor], packed: None, options: dict[str, Any]) -> Prepared:
        out, first = options.pop("out"), 0
        calls: list[Call] = []
        for tensor in tensors:
            place = out[:, first : first + tensor.shape[1]]
            first += tensor.shape[1]
            if (tensor.data_ptr(), pitch(tensor, "x")) != (place.data_ptr(), pitch(place, "out")):
                copy = [pointwise.Step("load", tensor=0)]
                calls += pointwise.prepare([tensor], copy, out=place, **options).calls
        return Prepared(out, tuple(calls))

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        return pointwise.configs()


# The choice ---------------------------------------------------------------------------------------

_PRODUCTS = ("fastgan.Linear", "fastgan.Conv", "fastgan.ConvTranspose")

#: Attributes of the products that the kernels know; another one is for the library op.
_KNOWN = {"strides", "pads", "dilations", "group", "output_padding", "shape"}
_ADDRESSING = {"pad_mode", "upsample", "shuffle", "shuffle_mode"}


def bind(step: Step, plan: Plan, target: Target, workspace: Workspace) -> Binding | str:
    """The step on a kernel, or why no kernel covers it ("" where none would be expected)."""
    kind, refusal = _choose(step, plan)
    if kind is None:
        return refusal
    if step.op in _PRODUCTS and step.inputs[0] in plan.weights:
        return "an input is constant"
    if step.epilogue.activation not in ACTIVATIONS:
        return f"activation {step.epilogue.activation}"
    return kind(step, plan, target, workspace)


def _choose(step: Step, plan: Plan) -> tuple[type[Binding] | None, str]:
    if step.op == "fastgan.Normalise":
        return _choose_norm(step, plan)
    if step.op == "fastgan.Pointwise":
        return PointwiseBinding, ""
    if step.op == "Concat":
        return _choose_concat(step, plan)
    return _choose_product(step, plan) if step.op in _PRODUCTS else (None, "")


def _choose_norm(step: Step, plan: Plan) -> tuple[type[Binding] | None, str]:
    shape, over = plan.buffers[step.inputs[0]].shape, step.attributes["over"]
    if over == "space" and not step.attributes["centre"]:
        return None, "over space without a mean"
    if over != "space" and shape[-1 if over == "last" else 1] > _LONGEST_ROW:
        return None, f"rows of {shape[-1 if over == 'last' else 1]}"
    if over == "last":
        return RowsBinding, ""
    return (NormaliseBinding, "") if len(shape) in (3, 4) else (None, f"{len(shape) - 2} axes")


def _choose_concat(step: Step, plan: Plan) -> tuple[type[Binding] | None, str]:
    output = plan.buffers[step.outputs[0]]
    rank = len(output.shape)
    if rank not in (3, 4) or step.attributes["axis"] % rank != 1:
        return None, ""
    if not output.dtype.is_floating_point or any(n not in plan.buffers for n in step.inputs):
        return None, ""
    return ConcatBinding, ""


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
    height, width = [1, 1, *size][-2:]
    return n, c, height, width


def _two_axes(weight: Tensor) -> Tensor:
    return weight.unsqueeze(2) if weight.dim() == 3 else weight


def _pair(values: Any, absent: int) -> tuple[int, int]:
    values = tuple(values)
    return (absent, values[0]) if len(values) == 1 else (values[0], values[1])


def _pads(pads: Any) -> tuple[int, int, int, int]:
    pads = tuple(pads)
    return (0, pads[0], 0, pads[1]) if len(pads) == 2 else (pads[0], pads[1], pads[2], pads[3])
