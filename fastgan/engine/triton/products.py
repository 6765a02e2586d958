"""The fused products on their kernels: linear, convolution and transposed convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fastgan.engine.triton.binding import Binding, Chooser, Shape4, as_four, as_image, channels_last
from fastgan.kernels import conv, conv_transpose, depthwise, linear, prologue_cost, to_image
from fastgan.kernels.e4m3 import E4M3, LARGEST
from fastgan.kernels.modulation import Modulation
from fastgan.kernels.types import Call, Config, Prepared
from fastgan.plan import Buffer, Plan, Step, cost


class ProductBinding(Binding):
    """A matrix product underneath."""

    dependent = True

    @property
    def waits(self) -> bool:
        # Scalar multiplications, of which the library reaches twice the share, says the compiler's
        # code; or three products in tf32, which nobody has measured yet.
        return self.target.precision == "fp32" and self.workspace.gpu.is_gpu


@dataclass(frozen=True)
class _Product:
    """Packed weights and a bias."""

    weight: Any
    bias: Tensor | None


#: Attributes of the products that the kernels know; another one is for the library op.
_KNOWN = {"strides", "pads", "dilations", "group", "output_padding", "shape"}
_ADDRESSING = {"pad_mode", "upsample", "shuffle", "shuffle_mode"}


class LinearBinding(ProductBinding):
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
    """What convolutions share: scales of samples, noise, statistics for a norm, 8-bit products."""

    #: The package that its kernel is in.
    runs: ModuleType

    def statistics_size(self, config: Config) -> int:
        """The float32 that the statistics of its result take, tiled like this; 0: it has none."""
        n, _, h, w = as_four(self.input)
        size: int = self.runs.statistics_size(self.packed.weight, n, h, w, config)
        return size

    def launches(
        self, tensors: list[Tensor], packed: _Product, options: dict[str, Any]
    ) -> Prepared:
        x, rounding = self.rounding(tensors[0])
        made = self.runs.prepare(x, packed.weight, packed.bias, **self.how, **options)
        return replace(made, calls=(*rounding, *made.calls))

    @property
    def factors(self) -> torch.dtype:
        """The type of its two factors."""
        return self.target.dtype if self.input_high is None else E4M3

    @property
    def how(self) -> dict[str, Any]:
        """How its product is taken."""
        scale = 1.0 if self.input_high is None else self.input_high / LARGEST
        return {"precision": self.precision, "x_scale": scale}

    def rounding(self, x: Tensor) -> tuple[Tensor, tuple[Call, ...]]:
        """The input in the type of the weights, and the launches that make it so."""
        if x.dtype == self.factors:
            return x, ()
        # Read by the launch that follows, and by no other: all layers have one piece of memory.
        codes = (
            self.workspace.scratch(x.numel()).view(E4M3).as_strided(x.shape, channels_last(x.shape))
        )
        prepared = to_image.prepare(x, out=codes, out_format="e4m3_nhwc", high=self.input_high)
        return codes, prepared.calls

    def fitting(self, configs: tuple[Config, ...]) -> tuple[Config, ...]:
        """Without those that spill: a scaled input takes registers, and so does walking on."""
        scaled = any(self.step.inputs[4:5])
        return tuple(c for c in configs if not (scaled and c.persistent and c.num_warps < 8))

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


class ConvBinding(ProductBinding, ConvolutionBinding):
    """fastgan.Conv: x [N, C, *size], weight [O, C, *kernel], one or two axes."""

    kernel, runs = "conv", conv

    def pack(self) -> _Product:
        a = self.step.attributes
        weight = conv.pack(
            _two_axes(self.weight(1)),
            self.factors,
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

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        shuffle = self.step.attributes.get("shuffle", 1)
        pixels = self.shape[0] * self.shape[2] * self.shape[3] // shuffle**2
        return self.fitting(
            conv.configs(self.packed.weight, pixels, self.factors, capability, self.precision)
        )

    def normalises(self, config: Config | None) -> bool:
        """Whether it applies a norm of its input itself, tiled like this; None: by the rule."""
        if config is not None:
            return config.normalises
        h, w = as_four(self.input)[2:]
        weight, taps = self.packed.weight, prod(self.packed.weight.kernel)
        tiles = -(-weight.c_out // self.default.block_n)
        return prologue_cost.pays(taps, tiles, prod(weight.output_size(h, w)), h * w)


class ConvTransposeBinding(ProductBinding, ConvolutionBinding):
    """fastgan.ConvTranspose: x [N, C, *size], weight [C, O, *kernel], one or two axes."""

    kernel, runs = "conv_transpose", conv_transpose

    def pack(self) -> _Product:
        a = self.step.attributes
        weight = conv_transpose.pack(
            _two_axes(self.weight(1)),
            _pair(a["strides"], 1),
            _pads(a["pads"]),
            self.factors,
            output_padding=_pair(a["output_padding"], 0),
        )
        return _Product(weight, self.bias())

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        stride = _pair(self.step.attributes["strides"], 1)
        n, _, h, w = self.shape
        pixels = n * -(-h // stride[0]) * -(-w // stride[1])
        return self.fitting(
            conv_transpose.configs(
                self.packed.weight, pixels, self.factors, capability, self.precision
            )
        )


class DepthwiseBinding(ConvolutionBinding):
    """fastgan.Conv or fastgan.ConvTranspose with a filter for each channel [C, 1, *kernel]."""

    kernel, runs = "depthwise", depthwise

    def pack(self) -> _Product:
        a, weight = self.step.attributes, _two_axes(self.weight(1))
        stride, pads = _pair(a["strides"], 1), _pads(a["pads"])
        if self.step.op == "fastgan.ConvTranspose":
            extra = _pair(a["output_padding"], 0)
            packed = depthwise.pack_transposed(weight, stride, pads, output_padding=extra)
        else:
            packed = depthwise.pack(
                weight,
                stride=stride,
                padding=pads,
                dilation=_pair(a["dilations"], 1),
                pad_mode=a.get("pad_mode", "zeros"),
                upsample=bool(a.get("upsample", 0)),
            )
        return _Product(packed, self.bias())

    def launches(
        self, tensors: list[Tensor], packed: _Product, options: dict[str, Any]
    ) -> Prepared:
        return depthwise.prepare(tensors[0], packed.weight, packed.bias, **options)

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        packed, (n, _, h, w) = self.packed.weight, self.shape
        pixels = n * -(-h // packed.phases[0]) * -(-w // packed.phases[1])
        return depthwise.configs(packed, pixels, capability)

    def statistics_size(self, config: Config) -> int:
        return 0  # it measures nothing: a norm behind it does so itself


def _two_axes(weight: Tensor) -> Tensor:
    return weight.unsqueeze(2) if weight.dim() == 3 else weight


def _pair(values: Any, absent: int) -> tuple[int, int]:
    values = tuple(values)
    return (absent, values[0]) if len(values) == 1 else (values[0], values[1])


def _pads(pads: Any) -> tuple[int, int, int, int]:
    pads = tuple(pads)
    return (0, pads[0], 0, pads[1]) if len(pads) == 2 else (pads[0], pads[1], pads[2], pads[3])


def _is_modulated(step: Step, buffers: Mapping[str, Buffer]) -> bool:
    """Whether a product has scales, or a residual other than a buffer of its result's shape."""
    if any(step.inputs[4:6]):
        return True
    if not step.epilogue.residual:
        return False
    residual = buffers.get(step.inputs[3])
    return residual is None or residual.shape != buffers[step.outputs[0]].shape


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
    depthwise = cost.is_depthwise(step.op, plan.weights[step.inputs[1]].shape, a["group"])
    if a["group"] != 1 and not depthwise:
        return None, f"{a['group']} groups"
    if depthwise and "shuffle" in a:
        return None, "depthwise, and shuffled"
    if _is_modulated(step, plan.buffers) and "shuffle" in a:
        return None, "modulated, and shuffled"
    if step.op == "fastgan.Conv":
        moved = _ADDRESSING & step.attributes.keys() - {"pad_mode"}
        if moved and rank == 1:
            return None, "pixels move along one axis"
        return (DepthwiseBinding if depthwise else ConvBinding), ""
    if any(d != 1 for d in a["dilations"]):
        return None, "dilated"
    if any(p < 0 for p in a["pads"]):
        return None, "cropped"
    return (DepthwiseBinding if depthwise else ConvTransposeBinding), ""


#: By operator, as `passes.CHOOSE`.
CHOOSE: dict[str, Chooser] = dict.fromkeys(
    ("fastgan.Linear", "fastgan.Conv", "fastgan.ConvTranspose"), _choose_product
)
