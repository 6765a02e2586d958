"""The row of `to_image` in the kernels' table: its problems, reference and configs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from ..cases import Images
from ..epilogue import PLAIN, Epilogue
from ..types import Config, Inputs
from . import configs


@dataclass(frozen=True)
class Case(Images):
    dtype: torch.dtype = torch.float32
    epilogue: Epilogue = PLAIN
    bias: bool = True
    channels_last: bool = True

    @property
    def label(self) -> str:
        size = f"{self.batch}x{self.channels}x{self.height}x{self.width}"
        return size if self.epilogue.out_format != "e4m3_nhwc" else f"{size} to e4m3"


def reference(x: torch.Tensor, bias: torch.Tensor | None, case: Case) -> torch.Tensor:
    """The same in float64."""
    return case.epilogue.reference(x.double(), bias, x.dtype)


def inputs(case: Case, generator: torch.Generator | None, device: torch.device) -> Inputs:
    """Random arguments for a case."""
    shape = (case.batch, case.channels, case.height, case.width)
    x = torch.randn(shape, generator=generator, device=device).to(case.dtype)
    if case.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    bias = torch.randn(case.channels, generator=generator, device=device) if case.bias else None
    arguments = {"x": x, "bias": bias, **asdict(case.epilogue)}
    return Inputs(arguments, {"x": x, "bias": bias, "case": case})


CODES = Epilogue(out_format="e4m3_nhwc", high=7.0)
MAIN_CASES = (
    Case(256, 3, 64, 64, torch.float16, Epilogue("tanh", out_format="uint8_nhwc")),
    Case(256, 64, 32, 32, torch.float16, Epilogue("relu")),
    Case(8, 256, 64, 64, torch.float16, CODES, bias=False),
)
CASES = (
    Case(2, 3, 5, 7, epilogue=Epilogue("none", out_format="float32_nchw")),
    Case(1, 3, 64, 64, torch.float16, Epilogue("tanh", out_format="uint8_nhwc")),
    Case(3, 1, 28, 28, torch.bfloat16, Epilogue("sigmoid", out_format="uint8_nhwc", low=0.0)),
    Case(2, 4, 9, 3, epilogue=Epilogue("tanh", out_format="uint8_nhwc"), channels_last=False),
    Case(1, 20, 6, 6, torch.float16, Epilogue("leaky_relu", slope=0.2)),
    Case(2, 3, 8, 8, torch.float16, Epilogue(out_format="uint8_nhwc"), bias=False),
    Case(2, 20, 5, 3, torch.float16, CODES, bias=False),
)


def accepts(case: Case) -> None:
    """Takes every case."""


def case_configs(case: Case, capability: tuple[int, int]) -> tuple[Config, ...]:
    flat = case.channels_last and case.epilogue.out_format != "float32_nchw"
    return configs(case.channels, flat)
