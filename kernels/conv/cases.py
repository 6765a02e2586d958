"""The row of `conv` in the kernels' table: its problems, reference and configs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from .. import statistics as measuring
from ..cases import Draw, Padded, Product, accepts_e4m3
from ..e4m3 import CASE_SCALE, E4M3, rounded, stored
from ..epilogue import PLAIN, Epilogue
from ..merge import Norm
from ..modulation import Modulated, Modulation
from ..prologue import Normalised
from ..types import Config, Inputs
from . import configs, pack


@dataclass(frozen=True)
class Case(Padded, Product):
    shuffle: int = 1
    shuffle_mode: str = "CRD"
    dtype: torch.dtype = torch.float32
    epilogue: Epilogue = PLAIN
    precision: str = "ieee"
    statistics: bool = False
    # Whether its input is normalised and activated on the way, by a norm per "channel" or "image".
    normalised: str = ""
    norm_activation: str = "relu"

    @property
    def label(self) -> str:
        words = [f"{self.batch}x{self.height}x{self.width}, {self.c_in} to {self.c_out}"]
        words += [self.steps, *self.reads]
        words += [f"shuffle {self.shuffle}"] if self.shuffle > 1 else []
        words += ["e4m3"] if self.dtype == E4M3 else []
        words += self.places
        words += [f"of a norm and {self.norm_activation}"] if self.normalised else []
        words += ["with statistics"] if self.statistics else []
        return ", ".join(words)


accepts = accepts_e4m3


def reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    slopes: torch.Tensor | None,
    modulation: Modulation,
    case: Case,
    normalised: Normalised | None = None,
) -> torch.Tensor:
    """The definition, in float64: a sum over the taps of a padded and upsampled copy."""
    if normalised is not None:
        x = normalised.reference_input(x)
    x = modulation.reference_input(x) * (CASE_SCALE if case.dtype == E4M3 else 1)
    if case.upsample:
        x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    top, left, bottom, right = case.padding
    rows = positions(x.shape[2], top, bottom, case.pad_mode)
    columns = positions(x.shape[3], left, right, case.pad_mode)
    padded = x[:, :, [max(r, 0) for r in rows]][:, :, :, [max(c, 0) for c in columns]]
    exists = torch.tensor([[r >= 0 and c >= 0 for c in columns] for r in rows], device=x.device)
    padded = torch.where(exists, padded, 0)
    (kernel_h, kernel_w), (stride_h, stride_w) = case.kernel, case.stride
    dilation_h, dilation_w = case.dilation
    out_h = (len(rows) - (kernel_h - 1) * dilation_h - 1) // stride_h + 1
    out_w = (len(columns) - (kernel_w - 1) * dilation_w - 1) // stride_w + 1
    sums = x.new_zeros((x.shape[0], case.c_out, out_h, out_w))
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            y, z = ky * dilation_h, kx * dilation_w
            part = padded[
                :,
                :,
                y : y + (out_h - 1) * stride_h + 1 : stride_h,
                z : z + (out_w - 1) * stride_w + 1 : stride_w,
            ]
            sums += torch.einsum("ncyx,oc->noyx", part, weight[:, :, ky, kx].double())
    sums = modulation.reference_output(sums)
    if bias is not None:
        sums += bias.double()[:, None, None]
    r, channels = case.shuffle, case.c_out // case.shuffle**2
    if case.shuffle_mode == "CRD":
        squares = sums.view(-1, channels, r, r, out_h, out_w).permute(0, 1, 4, 2, 5, 3)
    else:
        squares = sums.view(-1, r, r, channels, out_h, out_w).permute(0, 3, 4, 1, 5, 2)
    shuffled = squares.reshape(-1, channels, out_h * r, out_w * r)
    if slopes is not None and r > 1:  # all channels of a square have one slope
        slopes = slopes.view(-1, r * r)[:, 0] if case.shuffle_mode == "CRD" else slopes[:channels]
    return case.epilogue.reference(shuffled, None, case.dtype, residual, slopes)


def positions(size: int, before: int, after: int, pad_mode: str) -> list[int]:
    """The source of each padded position; -1 stands for a zero."""
    places = list(range(-before, size + after))
    if pad_mode == "reflect":
        return [size - 1 - abs(size - 1 - abs(i)) for i in places]
    if pad_mode == "edge":
        return [min(max(i, 0), size - 1) for i in places]
    return [i if 0 <= i < size else -1 for i in places]


def inputs(case: Case, generator: torch.Generator | None, device: torch.device) -> Inputs:
    """Random arguments for a case."""
    draw = Draw(case, generator, device)
    x = draw.image(case.c_in, case.height, case.width)
    # Sums of unit variance, so that a tolerance means the same for every case.
    weight = draw.normal(case.c_out, case.c_in, *case.kernel)
    weight = weight / (case.c_in * case.kernel[0] * case.kernel[1]) ** 0.5
    weight = rounded(weight, 0, case.dtype)
    bias = draw.normal(case.c_out) if case.bias else None
    shuffle = {"shuffle": case.shuffle, "shuffle_mode": case.shuffle_mode}
    packed = pack(weight, case.dtype, **case.geometry, **shuffle)
    size = packed.output_size(case.height, case.width)
    final = [n * case.shuffle for n in size]
    residual = draw.image(packed.channels, *final, stored(case.dtype)) if case.residual else None
    slopes = draw.slopes(packed.channels)
    if slopes is not None:
        squares = case.shuffle**2
        crd = case.shuffle_mode == "CRD"
        slopes = slopes.repeat_interleave(squares) if crd else slopes.repeat(squares)
    modulation = draw.modulation((case.c_in, case.c_out), size)
    normalised = None
    if case.normalised:
        each = (case.batch, case.c_in)
        norm = Norm(draw.normal(*each), 1 + 0.5 * draw.normal(*each))
        shift = draw.normal(*(each if case.normalised == "image" else each[1:]))
        normalised = Normalised(norm, shift, case.norm_activation, 0.2)
    shared = {"x": x, "bias": bias, "residual": residual, "modulation": modulation}
    shared["normalised"] = normalised
    shared["slopes"] = slopes
    launch_arguments = {**shared, "packed": packed, "precision": case.precision}
    if case.statistics:
        # As many chunks as there are pixels are enough for any tiling.
        needed = measuring.size(case.batch, size[0] * size[1], case.c_out)
        launch_arguments["statistics"] = torch.empty(needed, device=device)
    launch_arguments["x_scale"] = CASE_SCALE
    if case.wide:
        launch_arguments["out"] = draw.image(packed.channels, *final, stored(case.dtype))
    return Inputs(
        {**launch_arguments, **asdict(case.epilogue)}, {**shared, "weight": weight, "case": case}
    )


RELU, LEAKY = Epilogue("relu"), Epilogue("leaky_relu", slope=0.2)
TANH = Epilogue("tanh", out_format="float32_nchw")
CODES = Epilogue("relu", out_format="e4m3_nhwc", high=7.0)
HALF, BRAIN = torch.float16, torch.bfloat16
WIDE, NONE = (3, 3, 3, 3), (0, 0, 0, 0)
SCALED, NOISY = Modulated(), Modulated(noise=True)

MAIN_CASES = (
    # CycleGAN's residual block, and its first and last layers, at 256x256.
    Case(8, 256, 64, 64, 256, pad_mode="reflect", dtype=HALF, residual=True),
    Case(8, 3, 256, 256, 64, (7, 7), padding=WIDE, pad_mode="reflect", dtype=HALF, epilogue=RELU),
    Case(8, 64, 256, 256, 3, (7, 7), padding=WIDE, pad_mode="reflect", dtype=HALF, epilogue=TANH),
    # SRGAN's and ESRGAN's trunk, upsampling, and an encoder's layer.
    Case(8, 64, 128, 128, 64, dtype=HALF, epilogue=LEAKY),
    Case(8, 64, 128, 128, 64, upsample=True, dtype=HALF, epilogue=LEAKY),
    Case(8, 64, 128, 128, 256, shuffle=2, dtype=HALF, epilogue=LEAKY),
    Case(8, 64, 128, 128, 128, (4, 4), (2, 2), dtype=HALF, epilogue=LEAKY),
    # RRDB's dense block, and a variational decoder's.
    Case(8, 128, 128, 128, 32, dtype=HALF, epilogue=LEAKY, wide=64),
    Case(8, 256, 64, 64, 256, dtype=HALF, epilogue=Epilogue("silu")),
    # Both of them again, before a norm.
    Case(8, 256, 64, 64, 256, pad_mode="reflect", dtype=HALF, statistics=True),
    Case(8, 256, 64, 64, 256, dtype=HALF, residual=True, statistics=True),
    # Of a norm: 1x1, CycleGAN's encoder, and with padding that repeats and a shift per image.
    Case(8, 256, 64, 64, 256, (1, 1), padding=NONE, dtype=HALF, normalised="channel"),
    Case(8, 64, 256, 256, 128, (3, 3), (2, 2), dtype=HALF, normalised="channel", statistics=True),
    Case(8, 128, 64, 64, 128, pad_mode="reflect", dtype=HALF, normalised="image"),
    # StyleGAN2's layer at 64x64, and an image layer.
    Case(8, 512, 64, 64, 512, dtype=HALF, epilogue=LEAKY, modulated=NOISY),
    Case(8, 128, 128, 128, 3, (1, 1), padding=NONE, dtype=HALF, modulated=Modulated(True, False)),
    # In 8 bits: CycleGAN's residual block, an encoder's layer, a variational decoder's.
    Case(8, 256, 64, 64, 256, pad_mode="reflect", dtype=E4M3, residual=True),
    Case(8, 128, 64, 64, 256, (4, 4), (2, 2), dtype=E4M3, epilogue=CODES),
    Case(8, 512, 64, 64, 512, dtype=E4M3, epilogue=Epilogue("silu")),
)
CASES = (
    Case(2, 16, 5, 6, 24),
    Case(1, 3, 9, 8, 16, (7, 7), padding=WIDE, pad_mode="reflect", dtype=HALF, epilogue=RELU),
    Case(1, 32, 4, 5, 20, pad_mode="edge", dtype=BRAIN, epilogue=LEAKY),
    Case(2, 32, 4, 3, 17, upsample=True, dtype=HALF, epilogue=LEAKY),
    Case(1, 5, 3, 4, 9, upsample=True, pad_mode="reflect"),
    Case(2, 8, 9, 7, 12, (4, 4), (2, 2), dtype=HALF),
    Case(1, 6, 11, 9, 10, (3, 2), (2, 3), (0, 1, 2, 0), (2, 1)),
    Case(1, 16, 6, 5, 16, residual=True, dtype=HALF),
    Case(1, 16, 6, 5, 33, residual=True, epilogue=Epilogue("relu", residual_last=True)),
    Case(1, 16, 5, 4, 20, shuffle=2, dtype=HALF),
    Case(1, 16, 3, 4, 36, shuffle=3, shuffle_mode="DCR", residual=True),
    Case(1, 16, 3, 4, 12, shuffle=2, epilogue=TANH),
    Case(2, 20, 1, 1, 7, (1, 1), padding=(0, 0, 0, 0), epilogue=Epilogue("sigmoid")),
    Case(1, 24, 6, 6, 3, (7, 7), padding=WIDE, dtype=HALF, epilogue=TANH, bias=False),
    Case(1, 24, 5, 6, 3, epilogue=Epilogue("tanh", out_format="uint8_nhwc")),
    Case(2, 16, 4, 3, 20, residual=True, wide=5),
    Case(1, 7, 4, 5, 6, (3, 3), (2, 2), wide=8, dtype=HALF, epilogue=Epilogue("silu")),
    Case(1, 16, 3, 4, 12, shuffle=2, epilogue=Epilogue("prelu")),
    Case(1, 16, 3, 4, 12, shuffle=2, shuffle_mode="DCR", epilogue=Epilogue("prelu"), wide=3),
    Case(1, 8, 1, 12, 10, (1, 5), padding=(0, 2, 0, 2), dilation=(1, 2), precision="tf32"),
    # Modulated: of each sample's own, or shared; with odd channels, and padding that repeats.
    Case(3, 17, 5, 4, 21, modulated=NOISY, epilogue=LEAKY),
    Case(1, 32, 4, 4, 24, dtype=HALF, modulated=NOISY, epilogue=LEAKY),
    Case(3, 16, 4, 4, 33, dtype=BRAIN, modulated=SCALED, pad_mode="edge"),
    Case(2, 24, 3, 5, 3, (1, 1), padding=NONE, modulated=Modulated(True, False), residual=True),
    Case(2, 16, 4, 4, 8, modulated=Modulated(False, True, True, shared=True), upsample=True),
    # In 8 bits: to 16 bits and to 8, with everything around.
    Case(2, 32, 5, 4, 24, dtype=E4M3, residual=True, epilogue=LEAKY),
    Case(1, 48, 4, 5, 20, (4, 4), (2, 2), dtype=E4M3, pad_mode="reflect", epilogue=CODES),
    Case(2, 32, 3, 4, 36, shuffle=2, dtype=E4M3, upsample=True, residual=True, epilogue=CODES),
    Case(1, 16, 3, 4, 20, wide=16, dtype=E4M3, epilogue=Epilogue("tanh")),
    # Normalised on the way: padding of all kinds, odd channels, activations that move zero.
    Case(2, 17, 5, 4, 21, normalised="channel", norm_activation="sigmoid"),
    Case(3, 16, 4, 4, 24, (4, 4), (2, 2), dtype=HALF, normalised="image"),
    Case(1, 32, 5, 7, 20, dtype=BRAIN, pad_mode="reflect", normalised="channel", statistics=True),
    Case(2, 20, 3, 4, 40, (1, 1), padding=NONE, dtype=HALF, normalised="image", wide=4),
    Case(1, 8, 6, 5, 12, pad_mode="edge", normalised="channel", norm_activation="leaky_relu"),
    Case(1, 16, 3, 4, 9, upsample=True, normalised="image", norm_activation="silu"),
)


def case_configs(case: Case, capability: tuple[int, int]) -> tuple[Config, ...]:
    packed = inputs(case, None, torch.device("meta")).launch["packed"]
    height, width = packed.output_size(case.height, case.width)
    return configs(packed, case.batch * height * width, case.dtype, capability, case.precision)
