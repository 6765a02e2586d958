"""The row of `depthwise` in the kernels' table: its problems, reference and configs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..cases import Draw, Images, Padded, accepts
from ..conv import cases as conv_cases
from ..conv_transpose import cases as conv_transpose_cases
from ..epilogue import PLAIN, Epilogue
from ..modulation import Modulated, Modulation
from ..types import Config, Inputs, ceil_div
from . import PackedWeight, configs, pack, pack_transposed

__all__ = ["CASES", "MAIN_CASES", "Case", "accepts", "case_configs", "inputs", "reference"]


@dataclass(frozen=True)
class Case(Padded, Images):
    transposed: bool = False
    output_padding: tuple[int, int] = (0, 0)
    # Whether all channels have one filter.
    shared: bool = False
    dtype: torch.dtype = torch.float32
    epilogue: Epilogue = PLAIN

    @property
    def label(self) -> str:
        words = [f"{self.batch}x{self.height}x{self.width}x{self.channels}, {self.steps}"]
        words += ["transposed"] if self.transposed else []
        words += self.reads
        words += ["one filter"] if self.shared else []
        return ", ".join(words + self.places)

    def packed(self, weight: torch.Tensor) -> PackedWeight:
        """The filters [channels, 1, *kernel] as the kernel reads them."""
        if self.transposed:
            given = (self.stride, self.padding)
            return pack_transposed(weight, *given, output_padding=self.output_padding)
        return pack(weight, **self.geometry)


def reference(
    x: torch.Tensor, weight: torch.Tensor, modulation: Modulation, case: Case, **around: Any
) -> torch.Tensor:
    """The definition in float64: the full convolution with zeros between different channels.

    Scales are never rounded: one before the filter is one behind it.
    """
    if modulation.scale_in is not None:
        scale = modulation.scale_in.double()
        scale = scale if modulation.scale_out is None else scale * modulation.scale_out.double()
        modulation = replace(modulation, scale_in=None, scale_out=scale)
    full = torch.diag_embed(weight[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
    sizes = (case.batch, case.channels, case.height, case.width, case.channels, case.kernel)
    how = {"dtype": case.dtype, "epilogue": case.epilogue}
    if case.transposed:
        places = (case.stride, case.padding, case.output_padding)
        transposed = conv_transpose_cases.Case(*sizes, *places, **how)
        return conv_transpose_cases.reference(
            x, full, modulation=modulation, case=transposed, **around
        )
    plain = conv_cases.Case(*sizes, **case.geometry, **how)
    return conv_cases.reference(x, full, modulation=modulation, case=plain, **around)


def inputs(case: Case, generator: torch.Generator | None, device: torch.device) -> Inputs:
    """Random arguments for a case."""
    draw = Draw(case, generator, device)
    x = draw.image(case.channels, case.height, case.width)
    # Sums of unit variance, so that a tolerance means the same for every case.
    steps = case.stride if case.transposed else (1, 1)
    taps = ceil_div(case.kernel[0], steps[0]) * ceil_div(case.kernel[1], steps[1])
    weight = (draw.normal(1 if case.shared else case.channels, 1, *case.kernel) / taps**0.5).to(
        case.dtype
    )
    weight = weight.expand(case.channels, -1, -1, -1)
    packed = case.packed(weight)
    size = packed.output_size(case.height, case.width)
    both = {
        "x": x,
        "bias": draw.normal(case.channels) if case.bias else None,
        "residual": draw.image(case.channels, *size) if case.residual else None,
        "slopes": draw.slopes(case.channels),
        "modulation": draw.modulation((case.channels, case.channels), size),
    }
    launch_arguments = {**both, "packed": packed, **asdict(case.epilogue)}
    if case.wide:
        launch_arguments["out"] = draw.image(case.channels, *size)
    return Inputs(launch_arguments, {**both, "weight": weight, "case": case})


RELU, LEAKY = Epilogue("relu"), Epilogue("leaky_relu", slope=0.2)
TANH = Epilogue("tanh", out_format="float32_nchw")
HALF, BRAIN = torch.float16, torch.bfloat16
NONE, TWO = (0, 0, 0, 0), (2, 2, 2, 2)
NOISE = Modulated(False, False, noise=True)

MAIN_CASES = (
    # StyleGAN2's filter behind the layer that doubles 64x64, with noise, bias and activation.
    Case(8, 256, 129, 129, (4, 4), shared=True, dtype=HALF, epilogue=LEAKY, modulated=NOISE),
    # Upsampling by a filter: zeros between the pixels and a 4x4 filter.
    Case(8, 256, 64, 64, (4, 4), (2, 2), transposed=True, shared=True, dtype=HALF, bias=False),
    # A mobile network's block.
    Case(8, 256, 64, 64, dtype=HALF, epilogue=Epilogue("hard_swish")),
    # StyleGAN3's separable filter, one axis of two.
    Case(8, 128, 84, 84, (1, 12), padding=NONE, shared=True, dtype=HALF, bias=False),
)
CASES = (
    Case(2, 20, 5, 6, epilogue=RELU),
    Case(1, 3, 9, 8, (7, 7), padding=(3, 3, 3, 3), pad_mode="reflect", dtype=HALF, epilogue=TANH),
    Case(2, 33, 11, 8, (5, 3), (2, 3), (0, 2, 1, 1), (2, 1), dtype=BRAIN),
    Case(1, 16, 4, 3, pad_mode="edge", upsample=True, dtype=HALF, residual=True),
    Case(2, 24, 9, 9, (4, 4), shared=True, modulated=NOISE, epilogue=LEAKY),
    Case(3, 17, 4, 5, modulated=Modulated(noise=True), dtype=HALF),
    Case(2, 5, 3, 4, modulated=Modulated(shared=True), epilogue=Epilogue("prelu"), wide=3),
    Case(1, 4, 6, 5, padding=TWO, epilogue=Epilogue("tanh", out_format="uint8_nhwc")),
    # Transposed: equal phases, unequal ones, kernels smaller than their stride, output padding.
    Case(2, 20, 4, 5, (4, 4), (2, 2), transposed=True, shared=True, dtype=HALF),
    Case(1, 9, 5, 3, (3, 3), (2, 2), (1, 1, 1, 1), transposed=True, output_padding=(1, 0)),
    Case(1, 6, 3, 2, (1, 1), (2, 2), NONE, transposed=True, output_padding=(1, 1), bias=False),
    Case(2, 7, 3, 4, (1, 2), (3, 3), NONE, transposed=True, output_padding=(2, 1), residual=True),
    Case(2, 8, 1, 9, (1, 16), (1, 8), (0, 4, 0, 4), transposed=True, dtype=BRAIN, epilogue=TANH),
)


def case_configs(case: Case, capability: tuple[int, int]) -> tuple[Config, ...]:
    packed = inputs(case, None, torch.device("meta")).launch["packed"]
    size = packed.output_size(case.height, case.width)
    rows, columns = (ceil_div(n, p) for n, p in zip(size, packed.phases, strict=True))
    return configs(packed, case.batch * rows * columns, capability)
