"""The row of `normalise` in the kernels' table: its problems, reference and configs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from ..cases import Draw, Images, accepts
from ..epilogue import PLAIN, Epilogue
from ..types import Config, Inputs
from . import configs

__all__ = ["CASES", "MAIN_CASES", "Case", "accepts", "case_configs", "inputs", "reference"]


@dataclass(frozen=True)
class Case(Images):
    groups: int = 0  # 0: as many as channels
    per_pixel: bool = False
    subtract_mean: bool = True
    parameters: str = "channel"  # "none", "channel" or "image"
    epsilon: float = 1e-5
    mean: float = 0.0
    dtype: torch.dtype = torch.float32
    epilogue: Epilogue = PLAIN
    residual: bool = False
    # Extra channels of the images of which input, residual and output are a part.
    wide: int = 0

    @property
    def label(self) -> str:
        kind = "per pixel" if self.per_pixel else f"{self.groups or self.channels} groups"
        return f"{self.batch}x{self.height}x{self.width}x{self.channels}, {kind}"


def reference(
    x: torch.Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    residual: torch.Tensor | None,
    slopes: torch.Tensor | None,
    case: Case,
) -> torch.Tensor:
    """The definition in float64."""
    images, channels = x.shape[:2]
    value = x.double()
    if case.per_pixel:
        mean = value.mean(1, keepdim=True) if case.subtract_mean else 0.0
        value = value - mean
        value = value / (value.square().mean(1, keepdim=True) + case.epsilon).sqrt()
    else:
        value = value.reshape(images, case.groups or channels, -1)
        value = value - value.mean(2, keepdim=True)
        value = value / (value.square().mean(2, keepdim=True) + case.epsilon).sqrt()
        value = value.view(x.shape)
    if gamma is not None:
        value = value * gamma.double().view(-1, channels, 1, 1)
    if beta is not None:
        value = value + beta.double().view(-1, channels, 1, 1)
    return case.epilogue.reference(value, None, x.dtype, residual, slopes)


def inputs(case: Case, generator: torch.Generator | None, device: torch.device) -> Inputs:
    """Random arguments for a case."""
    draw = Draw(case, generator, device)
    size = (case.channels, case.height, case.width)
    shape = (case.batch, case.channels) if case.parameters == "image" else (case.channels,)
    has = case.parameters != "none"
    gamma, beta = (draw.normal(*shape), draw.normal(*shape)) if has else (None, None)
    arguments = {"x": draw.image(*size, mean=case.mean), "gamma": gamma, "beta": beta}
    arguments["residual"] = draw.image(*size, mean=case.mean) if case.residual else None
    arguments["slopes"] = draw.slopes(case.channels)
    options = {
        "groups": case.groups,
        "per_pixel": case.per_pixel,
        "subtract_mean": case.subtract_mean,
    }
    options |= {"epsilon": case.epsilon, **asdict(case.epilogue)}
    if case.wide:
        options["out"] = draw.image(*size)
    return Inputs(arguments | options, {**arguments, "case": case})


RELU = Epilogue("relu")
HALF, BRAIN = torch.float16, torch.bfloat16

MAIN_CASES = (
    Case(8, 256, 64, 64, dtype=HALF, epilogue=RELU),
    Case(8, 512, 64, 64, groups=32, dtype=HALF, epilogue=Epilogue("silu")),
    Case(8, 512, 64, 64, per_pixel=True, dtype=HALF),
)
CASES = (
    Case(2, 20, 7, 9, epilogue=RELU),
    Case(1, 64, 16, 16, dtype=HALF, residual=True),
    Case(3, 12, 5, 5, parameters="none", mean=10.0),
    Case(2, 40, 6, 5, groups=4, dtype=BRAIN, epilogue=Epilogue("sigmoid")),
    Case(2, 30, 3, 4, groups=3, parameters="image"),
    Case(2, 24, 8, 8, groups=1),
    Case(1, 3, 9, 6, epilogue=Epilogue("tanh", out_format="float32_nchw")),
    Case(4, 48, 1, 1, per_pixel=True),
    Case(2, 12, 5, 4, residual=True, wide=6, dtype=HALF),
    Case(2, 13, 3, 4, per_pixel=True, residual=True, wide=3, epilogue=Epilogue("prelu")),
    Case(2, 33, 3, 5, per_pixel=True, subtract_mean=False, parameters="none", dtype=HALF),
)


def case_configs(case: Case, capability: tuple[int, int]) -> tuple[Config, ...]:
    return configs(case.channels)
