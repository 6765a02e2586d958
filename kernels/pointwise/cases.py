"""The row of `pointwise` in the kernels' table: its problems, reference and configs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .. import cases
from ..epilogue import PLAIN, Epilogue
from ..types import Config, Inputs
from . import MOST_TENSORS, Step, configs


@dataclass(frozen=True)
class Case:
    """`tensors`: which axes of [N, C, H, W] each has, "nchw" for all of them."""

    batch: int
    rest: tuple[int, int, int]  # C, H, W
    steps: tuple[Step, ...]
    tensors: tuple[str, ...] = ("nchw",)
    dtype: torch.dtype = torch.float32
    epilogue: Epilogue = PLAIN
    # Extra channels of the images of which the tensors and the output are a part.
    wide: int = 0

    @property
    def label(self) -> str:
        size = "x".join(map(str, (self.batch, *self.rest)))
        return f"{size}, {' '.join(step.operation for step in self.steps)}"


def accepts(case: Case) -> str | None:
    """None, or why the case is for the library op."""
    if len(case.tensors) > MOST_TENSORS:
        return f"{len(case.tensors)} tensors: needs {MOST_TENSORS} at most"
    return cases.accepts(case)


def reference(tensors: Sequence[torch.Tensor], steps: Sequence[Step], case: Case) -> torch.Tensor:
    """The chain in float64."""
    value = torch.zeros((), dtype=torch.float64, device=tensors[0].device)
    kept = {}
    for step in steps:
        if step.tensor >= 0:
            operand = tensors[step.tensor].double()
        elif step.kept >= 0:
            operand = kept[step.kept]
        else:
            operand = torch.full_like(value, step.number)
        match step.operation:
            case "load":
                value = operand
            case "rsub":
                value = operand - value
            case "rdiv":
                value = operand / value
            case "leaky_relu":
                value = torch.where(value < 0, value * operand, value)
            case "elu":
                value = torch.where(value < 0, operand * value.expm1(), value)
            case "add" | "sub" | "mul" | "div" | "minimum" | "maximum":
                value = getattr(torch, step.operation)(value, operand)
            case name if hasattr(torch, name) and not name.startswith(("relu", "gelu")):
                value = getattr(torch, name)(value)
            case name:
                value = Epilogue(name).reference(value, None, torch.float64)
        if step.keep >= 0:
            kept[step.keep] = value
    shape = (case.batch, *case.rest)
    return case.epilogue.reference(value.expand(shape), None, case.dtype)


def inputs(case: Case, generator: torch.Generator | None, device: torch.device) -> Inputs:
    """Random arguments for a case."""
    n, c, h, w = case.batch, *case.rest

    def image(axes: str) -> torch.Tensor:
        shape = [
            size if axis in axes else 1 for axis, size in zip("nchw", (n, c, h, w), strict=True)
        ]
        wide = case.wide if "c" in axes else 0
        shape[1] += wide
        x = torch.randn(shape, generator=generator, device=device).to(case.dtype)
        return x.contiguous(memory_format=torch.channels_last)[:, wide:]

    arguments = {"tensors": [image(axes) for axes in case.tensors], "steps": case.steps}
    written = {"out": image("nchw")} if case.wide else {}
    epilogue = {name: getattr(case.epilogue, name) for name in ("out_format", "low", "high")}
    return Inputs({**arguments, **written, **epilogue}, {**arguments, "case": case})


HALF, BRAIN = torch.float16, torch.bfloat16
LOAD = Step("load", tensor=0)
GATED = (
    *(LOAD, Step("elu", 0.7, keep=0), Step("load", tensor=1), Step("sigmoid")),
    Step("mul", kept=0),
)
CURVE = (
    *(LOAD, Step("mul", 0.7071, keep=1), Step("erf"), Step("add", 1.0), Step("mul", kept=1)),
    Step("tanh"),
)
SCALE_SHIFT = (LOAD, Step("mul", tensor=1), Step("add", tensor=2))

MAIN_CASES = (
    Case(
        8,
        (256, 64, 64),
        (*SCALE_SHIFT, Step("relu"), Step("add", tensor=3)),
        ("nchw", "c", "c", "nchw"),
        dtype=HALF,
    ),
    # A gated convolution's features and gate; the skip connection of a U-Net.
    Case(8, (64, 128, 128), GATED, ("nchw", "nchw"), dtype=HALF, wide=64),
    Case(8, (64, 128, 128), (LOAD, Step("relu")), dtype=HALF, wide=64),
)
CASES = (
    Case(2, (5, 7, 3), (*SCALE_SHIFT, Step("leaky_relu", 0.2)), ("nchw", "c", "nchw")),
    Case(2, (5, 7, 3), (LOAD, Step("leaky_relu", tensor=1), Step("tanh")), ("nchw", "c"), wide=2),
    Case(3, (50, 1, 1), (LOAD, Step("mul", 0.5), Step("silu"), Step("rsub", 1.0)), dtype=HALF),
    Case(
        1,
        (8, 4, 4),
        (LOAD, Step("abs"), Step("add", 1.0), Step("sqrt"), Step("rdiv", 2.0)),
        dtype=BRAIN,
    ),
    Case(17, (1, 1, 1), (LOAD, Step("minimum", 0.5), Step("maximum", -0.5), Step("square"))),
    Case(
        2,
        (4, 1, 9),
        # No sine of large numbers: it would have no exact digits left.
        (LOAD, *map(Step, ("neg", "exp", "square", "abs", "log", "sin", "sigmoid", "reciprocal"))),
    ),
    Case(
        1, (3, 5, 5), (LOAD, Step("div", 2.0), Step("sub", tensor=1), Step("relu")), ("nchw",) * 2
    ),
    # Features and gate; a style per image, noise per pixel; a normal curve by its own definition.
    Case(2, (6, 3, 5), GATED, ("nchw", "nchw"), dtype=HALF, wide=6),
    Case(
        3,
        (6, 4, 3),
        (LOAD, Step("mul", tensor=1), Step("add", tensor=2), Step("mish"), Step("mul", 1.4)),
        ("nchw", "nc", "nhw"),
        epilogue=Epilogue(out_format="float32_nchw"),
    ),
    Case(2, (4, 3, 3), (LOAD, Step("add", tensor=1), Step("tanh")), ("hw", "nc")),
    Case(2, (3, 4, 4), CURVE, epilogue=Epilogue(out_format="uint8_nhwc")),
)


def case_configs(case: Case, capability: tuple[int, int]) -> tuple[Config, ...]:
    return configs()
