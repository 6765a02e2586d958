"""The row of `linear` in the kernels' table: its problems, reference and configs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from .. import cases
from ..epilogue import PLAIN, Epilogue
from ..types import Config, Inputs
from . import configs, pack, pack_bias


@dataclass(frozen=True)
class Case:
    batch: int
    k: int
    image: tuple[int, int, int]  # C, H, W
    dtype: torch.dtype = torch.float32
    epilogue: Epilogue = PLAIN
    bias: bool = True
    precision: str = "ieee"

    @property
    def label(self) -> str:
        return f"{self.batch}x{self.k} to {'x'.join(map(str, self.image))}"


def accepts(case: Case) -> str | None:
    """None, or why the case is for the library op."""
    if case.epilogue.out_format != "nhwc":
        return f"out_format {case.epilogue.out_format}: needs nhwc"
    return cases.accepts(case)


def reference(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, case: Case
) -> torch.Tensor:
    """The product in float64; weight [k, C * H * W] and bias [C * H * W] in the order (c, h, w)."""
    product = x.double() @ weight.double()
    if bias is not None:
        product = product + bias.double()
    return case.epilogue.reference(product.view(-1, *case.image), None, x.dtype)


def inputs(case: Case, generator: torch.Generator | None, device: torch.device) -> Inputs:
    """Random arguments for a case."""
    columns = case.image[0] * case.image[1] * case.image[2]
    draw = cases.Draw(case, generator, device)
    x = draw.normal(case.batch, case.k).to(case.dtype)
    weight = (draw.normal(case.k, columns) / case.k**0.5).to(case.dtype)
    bias = draw.normal(columns) if case.bias else None
    packed = pack(weight, case.dtype, image=case.image)
    arguments = {
        "x": x,
        "packed": packed,
        "bias": None if bias is None else pack_bias(bias, packed),
        "precision": case.precision,
        **asdict(case.epilogue),
    }
    return Inputs(arguments, {"x": x, "weight": weight, "bias": bias, "case": case})


RELU = Epilogue("relu")
MAIN_CASES = (Case(256, 100, (512, 4, 4), torch.float16, RELU),)
CASES = (
    Case(2, 100, (16, 4, 4), epilogue=RELU),
    Case(1, 33, (7, 3, 5), torch.float16, Epilogue("leaky_relu", slope=0.2)),
    Case(5, 64, (40, 1, 1), torch.bfloat16, Epilogue("tanh")),
    Case(17, 128, (4, 8, 8), torch.float16, bias=False),
    Case(3, 20, (10, 1, 1), epilogue=Epilogue("sigmoid"), precision="tf32"),
)


def case_configs(case: Case, capability: tuple[int, int]) -> tuple[Config, ...]:
    packed = inputs(case, None, torch.device("meta")).launch["packed"]
    return configs(packed, case.batch, case.dtype, capability, case.precision)
