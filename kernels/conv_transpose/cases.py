"""The row of `conv_transpose` in the kernels' table: its problems, reference and configs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from .. import statistics as measuring
from ..cases import Draw, Filtered, Product, accepts_e4m3
from ..e4m3 import CASE_SCALE, E4M3, rounded, stored
from ..epilogue import PLAIN, Epilogue
from ..modulation import Modulated, Modulation
from ..types import Config, Inputs, ceil_div
from . import configs, pack


@dataclass(frozen=True)
class Case(Filtered, Product):
    kernel: tuple[int, int] = (4, 4)
    stride: tuple[int, int] = (2, 2)
    output_padding: tuple[int, int] = (0, 0)
    dtype: torch.dtype = torch.float32
    epilogue: Epilogue = PLAIN
    precision: str = "ieee"
    phases_in_columns: bool | None = None
    statistics: bool = False

    @property
    def label(self) -> str:
        size = f"{self.height}x{self.width}"
        words = f"{self.batch}x{size}, {self.c_in} to {self.c_out}, {self.steps}"
        words += f", in images of {self.wide} more" if self.wide else ""
        words += ", e4m3" if self.dtype == E4M3 else ""
        words += ", modulated" if self.modulated else ""
        return f"{words}, with statistics" if self.statistics else words


def reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    slopes: torch.Tensor | None,
    modulation: Modulation,
    case: Case,
) -> torch.Tensor:
    """The textbook definition, in float64: every input pixel adds its kernel to the output."""
    dtype, x = x.dtype, modulation.reference_input(x) * (CASE_SCALE if x.dtype == E4M3 else 1)
    images, _, height, width = x.shape
    top, left, bottom, right = case.padding
    stride_h, stride_w = case.stride
    full_h = (height - 1) * stride_h + case.kernel[0] + case.output_padding[0]
    full_w = (width - 1) * stride_w + case.kernel[1] + case.output_padding[1]
    sums = x.new_zeros((images, case.c_out, full_h, full_w), dtype=torch.float64)
    for ky in range(case.kernel[0]):
        for kx in range(case.kernel[1]):
            part = torch.einsum("ncyx,co->noyx", x, weight[:, :, ky, kx].double())
            stop_h = ky + (height - 1) * stride_h + 1
            stop_w = kx + (width - 1) * stride_w + 1
            sums[:, :, ky:stop_h:stride_h, kx:stop_w:stride_w] += part
    sums = sums[:, :, top : full_h - bottom, left : full_w - right]
    sums = modulation.reference_output(sums)
    return case.epilogue.reference(sums, bias, dtype, residual, slopes)


def accepts(case: Case) -> str | None:
    """None, or why the case is for the library op."""
    for i, axis in enumerate("hw"):
        if case.output_padding[i] >= case.stride[i]:
            return f"output_padding_{axis} {case.output_padding[i]}: needs less than the stride"
    return accepts_e4m3(case)


def inputs(case: Case, generator: torch.Generator | None, device: torch.device) -> Inputs:
    """Random arguments for a case."""
    draw = Draw(case, generator, device)
    x = draw.image(case.c_in, case.height, case.width)
    # Sums of unit variance, so that a tolerance means the same for every case.
    taps = ceil_div(case.kernel[0], case.stride[0]) * ceil_div(case.kernel[1], case.stride[1])
    weight = draw.normal(case.c_in, case.c_out, *case.kernel) / (case.c_in * taps) ** 0.5
    weight = rounded(weight, 1, case.dtype)
    bias = draw.normal(case.c_out) if case.bias else None
    packed = pack(
        weight,
        case.stride,
        case.padding,
        case.dtype,
        output_padding=case.output_padding,
        phases_in_columns=case.phases_in_columns,
    )
    size = packed.output_size(case.height, case.width)
    both = {"x": x, "bias": bias, "residual": None}
    if case.residual:
        both["residual"] = draw.image(case.c_out, *size, stored(case.dtype))
    both["slopes"] = draw.slopes(case.c_out)
    both["modulation"] = draw.modulation((case.c_in, case.c_out), size)
    launch_arguments = {"packed": packed, "precision": case.precision, **both}
    launch_arguments |= asdict(case.epilogue) | {"x_scale": CASE_SCALE}
    if case.statistics:
        # As many chunks as there are pixels are enough for any tiling.
        padded = [ceil_div(n, s) * s for n, s in zip(size, case.stride, strict=True)]
        needed = measuring.size(case.batch, padded[0] * padded[1], case.c_out)
        launch_arguments["statistics"] = torch.empty(needed, device=device)
    if case.wide:
        launch_arguments["out"] = draw.image(case.c_out, *size, stored(case.dtype))
    return Inputs(launch_arguments, {"weight": weight, "case": case, **both})


RELU, LEAKY, TANH = Epilogue("relu"), Epilogue("leaky_relu", slope=0.2), Epilogue("tanh")
UINT8 = Epilogue("tanh", out_format="uint8_nhwc")
CODES = Epilogue("relu", out_format="e4m3_nhwc", high=7.0)
HALF, BRAIN = torch.float16, torch.bfloat16
NONE, ONE, TWO = (0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2)
SCALED, NOISY = Modulated(), Modulated(noise=True)

# The layers of DCGAN-64 (ngf 64) after the first; what the static report looks at closely.
MAIN_CASES = (
    Case(256, 512, 4, 4, 256, dtype=HALF, epilogue=RELU),
    Case(256, 256, 8, 8, 128, dtype=HALF, epilogue=RELU),
    Case(256, 128, 16, 16, 64, dtype=HALF, epilogue=RELU),
    Case(256, 64, 32, 32, 3, dtype=HALF, epilogue=UINT8),
    # pix2pix: half of a skip connection's channels.
    Case(8, 256, 64, 64, 64, dtype=HALF, epilogue=RELU, wide=64),
    # CycleGAN's, before a norm.
    Case(8, 128, 128, 128, 64, (3, 3), (2, 2), ONE, (1, 1), HALF, statistics=True),
    # StyleGAN2's layer that doubles 64x64, and the same with its filter in the kernel.
    Case(8, 512, 64, 64, 256, (3, 3), padding=NONE, dtype=HALF, bias=False, modulated=SCALED),
    Case(8, 64, 64, 64, 64, (6, 6), padding=TWO, dtype=HALF, epilogue=LEAKY, modulated=NOISY),
    # DCGAN-64's layers in 8 bits.
    Case(256, 512, 4, 4, 256, dtype=E4M3, epilogue=CODES),
    Case(256, 256, 8, 8, 128, dtype=E4M3, epilogue=CODES),
    Case(256, 128, 16, 16, 64, dtype=E4M3, epilogue=RELU),
)
CASES = (
    Case(2, 16, 4, 5, 24),
    Case(1, 64, 4, 4, 32, dtype=HALF, epilogue=LEAKY),
    Case(3, 4, 8, 8, 33, dtype=BRAIN, epilogue=RELU),
    # Unequal phases: kernels that are no multiple of the stride, odd sizes, output padding.
    Case(2, 7, 5, 3, 6, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    Case(1, 20, 4, 6, 40, (3, 3), (2, 2), (1, 1, 1, 1), dtype=HALF),
    Case(1, 5, 4, 3, 19, (5, 2), (3, 1), (2, 0, 1, 1), (1, 0)),
    Case(1, 9, 3, 4, 17, (5, 5), (2, 2), (2, 2, 2, 2), (1, 1), dtype=BRAIN),
    # Kernels smaller than their stride: some pixels are the bias alone.
    Case(2, 6, 3, 2, 18, (1, 2), (3, 3), (0, 0, 0, 0), (2, 1), epilogue=RELU),
    Case(2, 6, 3, 2, 3, (1, 2), (3, 3), (0, 0, 0, 0), (2, 1)),
    # Stride 1, and 1-D as 2-D.
    Case(1, 12, 5, 4, 21, (3, 3), (1, 1), (1, 1, 1, 1), epilogue=Epilogue("sigmoid")),
    Case(2, 8, 1, 9, 20, (1, 4), (1, 2), (0, 1, 0, 1), dtype=HALF),
    # The image layer, in every format.
    Case(1, 64, 8, 8, 3, epilogue=TANH),
    Case(2, 16, 5, 7, 3, (5, 5), (2, 2), (2, 2, 2, 2), (1, 1), HALF, TANH),
    Case(2, 16, 6, 6, 3, dtype=HALF, epilogue=UINT8),
    Case(1, 16, 6, 6, 1, dtype=BRAIN, epilogue=UINT8),
    Case(1, 24, 3, 5, 4, epilogue=Epilogue("sigmoid", out_format="uint8_nhwc", low=0.0)),
    Case(2, 16, 4, 3, 3, epilogue=Epilogue("tanh", out_format="float32_nchw"), bias=False),
    Case(1, 16, 4, 3, 20, dtype=HALF, epilogue=Epilogue("tanh", out_format="float32_nchw")),
    Case(1, 16, 4, 3, 3, epilogue=UINT8, phases_in_columns=False),
    Case(1, 16, 4, 3, 3, precision="tf32"),
    # Among the channels of wider images.
    Case(2, 16, 3, 4, 20, residual=True, wide=4),
    Case(1, 16, 3, 4, 3, dtype=HALF, wide=8, epilogue=Epilogue("prelu")),
    # Modulated: of each sample's own, or shared; with odd channels; the image layer too.
    Case(3, 17, 4, 4, 21, (3, 3), padding=NONE, modulated=NOISY, epilogue=LEAKY),
    Case(1, 32, 5, 4, 20, (6, 6), padding=TWO, dtype=HALF, modulated=NOISY, epilogue=LEAKY),
    Case(3, 16, 4, 4, 33, (3, 3), padding=NONE, dtype=BRAIN, modulated=SCALED, bias=False),
    Case(2, 9, 3, 5, 3, modulated=Modulated(noise=True, shared=True), epilogue=TANH),
    # In 8 bits: to 16 bits and to 8; unequal phases; the image layer.
    Case(2, 32, 4, 3, 24, dtype=E4M3, epilogue=CODES),
    Case(1, 48, 3, 4, 20, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), E4M3, residual=True, wide=16),
    Case(1, 32, 4, 5, 3, dtype=E4M3, epilogue=UINT8),
)


def case_configs(case: Case, capability: tuple[int, int]) -> tuple[Config, ...]:
    packed = inputs(case, None, torch.device("meta")).launch["packed"]
    height, width = packed.output_size(case.height, case.width)
    rows, columns = ceil_div(height, case.stride[0]), ceil_div(width, case.stride[1])
    return configs(packed, case.batch * rows * columns, case.dtype, capability, case.precision)
