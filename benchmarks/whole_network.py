"""DCGAN in one launch, as a prototype: what a compiler makes of it, with no GPU present.

    python -m benchmarks.whole_network [--write]

One image of a network as wide as DCGAN-64 (a first layer from 100 numbers, four transposed
convolutions k4 s2 p1), by a grid of as many programs as it has tiles, all of them resident, which
meet between two layers. A program loads its weights of all layers into registers before the first
one, so that behind a meeting nothing is waited for but what the others have made. Reductions are
split, and the parts summed in their order by whoever reads them.

No engine uses it, and it has met no GPU: whoever has one may find out here whether it is worth
more. `tests/kernels/test_whole_network.py` holds its numbers to torch's, a layer for each launch,
since Triton's interpreter runs a program after the other, of which none can wait for the next.
With --write the table goes into docs/kernels.md.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from fastgan.kernels.types import Call, Config

DOCUMENT = Path(__file__).parents[1] / "docs" / "kernels.md"
BEGIN, END = "<!-- begin: whole network -->", "<!-- end: whole network -->"

LATENTS, PADDED = 100, 128
CHANNELS, PIXELS = 16, 64  # of the largest tile


class Memory(NamedTuple):
    """Pointers: weights as `pack` has them, sums of the layers between, the image, the meeting."""

    latents: Tensor
    weight_0: Tensor
    weight_1: Tensor
    weight_2: Tensor
    weight_3: Tensor
    weight_4: Tensor
    bias_0: Tensor
    bias_1: Tensor
    bias_2: Tensor
    bias_3: Tensor
    bias_4: Tensor
    sums_0: Tensor  # float32 [parts, height, width, channels]
    sums_1: Tensor
    sums_2: Tensor
    sums_3: Tensor
    image: Tensor  # float32 [3, 64, 64]
    arrived: Tensor  # int64 [1], never set back


@triton.jit
def meet(arrived, PROGRAMS: tl.constexpr):
    """Wait for all programs; what they stored before can be read behind it."""
    tl.debug_barrier()
    ticket = tl.atomic_add(arrived, 1, sem="acq_rel", scope="gpu")
    everybody = (ticket // PROGRAMS + 1) * PROGRAMS
    while tl.atomic_add(arrived, 0, sem="acquire", scope="gpu") < everybody:
        pass
    tl.debug_barrier()


@triton.jit
def weights_of(
    weight, K: tl.constexpr, SPLITS: tl.constexpr, PLACES: tl.constexpr, GROUPS: tl.constexpr
):
    """A program's [GROUPS, CHANNELS, its part of K / GROUPS], of [phases, channels, K]."""
    KS: tl.constexpr = K // SPLITS
    part, rows = tl.program_id(0) % SPLITS, tl.program_id(0) // (SPLITS * PLACES)
    row = rows * 16 + tl.arange(0, 16)[None, :, None]
    k = tl.arange(0, GROUPS)[:, None, None] * (KS // GROUPS)
    k += tl.arange(0, KS // GROUPS)[None, None, :]
    return tl.load(weight + row * K + part * KS + k)


@triton.jit
def layer(
    sums, bias, weight, out, out_bias,
    SIDE: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr, PARTS: tl.constexpr,
    SPLITS: tl.constexpr, PIXELS: tl.constexpr, GROUPS: tl.constexpr, IS_LAST: tl.constexpr,
):  # fmt: skip
    """A tile of a transposed convolution: relu(sums + bias) -> the part of a sum, or the image."""
    PLACES: tl.constexpr = SIDE * SIDE // PIXELS
    KS: tl.constexpr = 4 * C_IN // SPLITS
    program = tl.program_id(0)
    part, place, rows = program % SPLITS, program // SPLITS % PLACES, program // (SPLITS * PLACES)
    phase, column = rows // (C_OUT // 16), rows % (C_OUT // 16)
    down, right = phase // 2, phase % 2
    pixel = place * PIXELS + tl.arange(0, PIXELS)
    k = part * KS + tl.arange(0, GROUPS)[:, None, None] * (KS // GROUPS)
    k += tl.arange(0, KS // GROUPS)[None, :, None]
    tap, channel = k // C_IN, k % C_IN
    y = pixel[None, None, :] // SIDE + tap // 2 * (2 * down - 1)
    x = pixel[None, None, :] % SIDE + tap % 2 * (2 * right - 1)
    inside = (y >= 0) & (y < SIDE) & (x >= 0) & (x < SIDE)
    value = tl.load(bias + channel)
    for i in tl.static_range(PARTS):
        at = sums + ((i * SIDE + y) * SIDE + x) * C_IN + channel
        value += tl.load(at, mask=inside, other=0.0, cache_modifier=".cg")
    factor = tl.where(inside, tl.maximum(value, 0.0), 0.0).to(weight.dtype)
    total = tl.sum(tl.dot(weight, factor), 0)
    c = column * 16 + tl.arange(0, 16)[:, None]
    y, x = 2 * (pixel // SIDE)[None, :] + down, 2 * (pixel % SIDE)[None, :] + right
    if IS_LAST:
        total += tl.load(out_bias + c, mask=c < 3, other=0.0)
        value = 2 / (1 + tl.exp(-2 * total)) - 1  # tanh
        tl.store(out + (c * (2 * SIDE) + y) * (2 * SIDE) + x, value, mask=c < 3)
    else:
        tl.store(out + ((part * 2 * SIDE + y) * (2 * SIDE) + x) * C_OUT + c, total)


@triton.jit
def whole_network_kernel(
    at, WIDTH: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr, GROUPS: tl.constexpr
):
    """Layers FIRST to LAST of 0 to 4; a grid of 2 * WIDTH programs."""
    PROGRAMS: tl.constexpr = 2 * WIDTH
    PIXELS: tl.constexpr = 2048 // WIDTH  # of the last layer's tiles
    output = tl.program_id(0) * 64 + tl.arange(0, 64)
    k = tl.arange(0, 128)
    if FIRST <= 0:
        weight_0 = tl.load(at.weight_0 + output[:, None] * 128 + k[None, :])
    if FIRST <= 1 and LAST >= 1:
        weight_1 = weights_of(at.weight_1, 32 * WIDTH, 2, 1, GROUPS)
    if FIRST <= 2 and LAST >= 2:
        weight_2 = weights_of(at.weight_2, 16 * WIDTH, 4, 1, GROUPS)
    if FIRST <= 3 and LAST >= 3:
        weight_3 = weights_of(at.weight_3, 8 * WIDTH, 2, 4, GROUPS)
    if LAST >= 4:
        weight_4 = weights_of(at.weight_4, 4 * WIDTH, 1, 1024 // PIXELS, GROUPS)
    if FIRST <= 0:
        latents = tl.load(at.latents + k, mask=k < 100, other=0.0)
        total = tl.sum(weight_0.to(tl.float32) * latents[None, :], 1)
        tl.store(at.sums_0 + output, total)
    if FIRST <= 0 and LAST >= 1:
        meet(at.arrived, PROGRAMS)
    if FIRST <= 1 and LAST >= 1:
        layer(at.sums_0, at.bias_0, weight_1, at.sums_1, None,
              4, 8 * WIDTH, 4 * WIDTH, 1, 2, 16, GROUPS, False)  # fmt: skip
    if FIRST <= 1 and LAST >= 2:
        meet(at.arrived, PROGRAMS)
    if FIRST <= 2 and LAST >= 2:
        layer(at.sums_1, at.bias_1, weight_2, at.sums_2, None,
              8, 4 * WIDTH, 2 * WIDTH, 2, 4, 64, GROUPS, False)  # fmt: skip
    if FIRST <= 2 and LAST >= 3:
        meet(at.arrived, PROGRAMS)
    if FIRST <= 3 and LAST >= 3:
        layer(at.sums_2, at.bias_2, weight_3, at.sums_3, None,
              16, 2 * WIDTH, WIDTH, 4, 2, 64, GROUPS, False)  # fmt: skip
    if FIRST <= 3 and LAST >= 4:
        meet(at.arrived, PROGRAMS)
    if LAST >= 4:
        layer(at.sums_3, at.bias_3, weight_4, at.image, at.bias_4,
              32, WIDTH, 16, 2, 1, PIXELS, GROUPS, True)  # fmt: skip


def pack(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """[C_IN, C_OUT, 4, 4] of k4 s2 p1 as [4 phases, C_OUT in whole tiles, 4 taps, C_IN]."""
    c_in, c_out = weight.shape[:2]
    packed = weight.new_zeros((2, 2, -(-c_out // CHANNELS) * CHANNELS, 2, 2, c_in))
    for down in range(2):
        for right in range(2):
            rows, columns = [[1 + at, 3 - 3 * at] for at in (down, right)]
            taps = weight[:, :, rows][:, :, :, columns]  # [C_IN, C_OUT, 2, 2]
            packed[down, right, :c_out] = taps.permute(1, 2, 3, 0)
    return packed.to(dtype)


def layers(width: int) -> list[nn.ConvTranspose2d]:
    """Those of DCGAN, its norms folded; 64 is as wide as in the paper."""
    widths = (LATENTS, 8 * width, 4 * width, 2 * width, width, 3)
    first, *others = itertools.pairwise(widths)
    return [nn.ConvTranspose2d(*first, 4), *(nn.ConvTranspose2d(*o, 4, 2, 1) for o in others)]


def memory(
    network: list[nn.ConvTranspose2d], device: str = "cpu", dtype: torch.dtype = torch.float16
) -> Memory:
    """All that a launch reads and writes, for five layers with biases: the first from a latent."""
    first, *others = network
    latents, channels = first.weight.shape[:2]
    rows = first.weight.detach().permute(2, 3, 1, 0).reshape(-1, latents)
    weights = [torch.nn.functional.pad(rows, (0, PADDED - latents)).to(dtype)]
    weights += [pack(layer.weight.detach(), dtype) for layer in others]
    biases = [layer.bias.detach().float() for layer in network]  # type: ignore[union-attr]
    sums = [
        torch.empty((parts, side, side, channels >> i))
        for i, (parts, side) in enumerate(((1, 4), (2, 8), (4, 16), (2, 32)))
    ]
    image, arrived = torch.empty((3, 64, 64)), torch.zeros(1, dtype=torch.int64)
    every = (torch.empty(latents), *weights, *biases, *sums, image, arrived)
    return Memory(*(tensor.to(device).contiguous() for tensor in every))


class Together(Call):
    """A launch that fails rather than to begin without room for all of its programs at once."""

    @property
    def options(self) -> dict[str, Any]:
        return {**super().options, "launch_cooperative_grid": True}


def call(at: Memory, first: int = 0, last: int = 4, groups: int = 8, warps: int = 8) -> Call:
    """A launch of these layers, whose reductions are shared by so many groups of warps."""
    width = at.bias_3.shape[0]
    arguments = {"at": at, "WIDTH": width, "FIRST": first, "LAST": last, "GROUPS": groups}
    kind = Together if last > first else Call
    config = Config(CHANNELS, PIXELS, groups, num_warps=warps)
    return kind(whole_network_kernel, (2 * width,), arguments, config)


def main() -> int:
    from benchmarks.compiled import report

    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_network", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--write", action="store_true", help="into docs/kernels.md")
    options = parser.parse_args()
    with torch.device("meta"):
        at = memory(layers(64), "meta")
    lines = ["| GPU | registers | spills | shared |", "|---|---|---|---|"]
    for architecture in (80, 90, 100):
        found = report(call(at), architecture)
        shared = f"{found.shared / 1024:.0f} KiB"
        cells = (f"sm_{architecture}", found.registers, found.spills, shared)
        lines.append(f"| {' | '.join(map(str, cells))} |")
        print(lines[-1], flush=True)
    if options.write:
        before, rest = DOCUMENT.read_text().split(BEGIN)
        text = "\n".join(lines)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
