"""What is no product on its kernel: norms, elementwise chains and concatenations."""

from __future__ import annotations

from dataclasses import astuple
from math import prod
from typing import Any

from torch import Tensor

from fastgan.engine.triton.binding import Binding, Chooser, Shape4, as_image
from fastgan.images.format import ImageFormat
from fastgan.kernels import normalise, pointwise
from fastgan.kernels.layout import pitch
from fastgan.kernels.prologue import Normalised
from fastgan.kernels.statistics import Statistics
from fastgan.kernels.types import Call, Config, Prepared
from fastgan.plan import Plan, Step

#: The longest rows that a program of the normalisation holds in its registers.
_LONGEST_ROW = 16384


class NormaliseBinding(Binding):
    """fastgan.Normalise of signals and images, over space or each pixel's channels."""

    kernel = "normalise"

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
        return [
            _rows(tensor) if place in (1, 2) else as_image(tensor)
            for place, tensor in zip(self.places, tensors, strict=True)
        ]

    def launches(
        self,
        tensors: list[Tensor],
        packed: tuple[Tensor | None, Tensor | None],
        options: dict[str, Any],
    ) -> Prepared:
        a = self.step.attributes
        gamma, beta = self._parameters(tensors, packed)
        how = (
            {"groups": a["groups"]}
            if a["over"] == "space"
            else {"per_pixel": True, "subtract_mean": bool(a["centre"])}
        )
        return normalise.prepare(
            tensors[0], gamma, beta, epsilon=float(a["epsilon"]), **how, **options
        )

    def unapplied(
        self,
        tensors: list[Tensor],
        config: Config | None = None,
        statistics: Statistics | None = None,
    ) -> tuple[Normalised, tuple[Call, ...]]:
        """The norm for a convolution to apply, and the launches that make it.

        Args:
            tensors, config: see `prepare`.
            statistics: of the first of them, where they are known.
        """
        a, epilogue = self.step.attributes, self.step.epilogue
        gamma, beta = self._parameters(tensors, self.packed)
        return normalise.prepare_unapplied(
            tensors[0],
            gamma,
            beta,
            groups=a["groups"],
            epsilon=float(a["epsilon"]),
            activation=epilogue.activation,
            slope=epilogue.slope,
            statistics=statistics,
            config=config,
        )

    def _parameters(
        self, tensors: list[Tensor], packed: tuple[Tensor | None, Tensor | None]
    ) -> tuple[Tensor | None, Tensor | None]:
        """gamma and beta, wherever they are."""
        given = [self.operand(i + 1, tensors) for i in range(2)]
        gamma, beta = (c if g is None else g for c, g in zip(packed, given, strict=True))
        return gamma, beta

    def configs(self, capability: tuple[int, int]) -> tuple[Config, ...]:
        return normalise.configs(self.shape[1])


def _rows(parameter: Tensor) -> Tensor:
    """[C] or [N, C] with each row contiguous; a view where they are."""
    return parameter if parameter.stride(-1) == 1 else parameter.contiguous()


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

    def epilogue(self, tensors: list[Tensor]) -> dict[str, Any]:
        return {}

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

    def pack(self) -> None:
        return None

    def views(self, tensors: list[Tensor]) -> list[Tensor]:
        return [as_image(tensor) for tensor in tensors]

    def epilogue(self, tensors: list[Tensor]) -> dict[str, Any]:
        return {}

    def format_fields(self, image: ImageFormat | None) -> dict[str, Any]:
        return {}

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


#: By operator, what chooses the kernel of a step, or says why there is none ("" where none would be
#: expected).
CHOOSE: dict[str, Chooser] = {
    "fastgan.Normalise": _choose_norm,
    "fastgan.Pointwise": lambda step, plan: (PointwiseBinding, ""),
    "Concat": _choose_concat,
}
