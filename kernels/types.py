"""The types that the kernels share: a tile configuration, a prepared launch, a row of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from .layout import pitch

# Triton chooses between compiling and interpreting when a kernel is defined: here, for good.
INTERPRETED: bool = bool(triton.knobs.runtime.interpret)
# The same, as kernels see it.
IS_INTERPRETED = tl.constexpr(INTERPRETED)
if INTERPRETED:
    from .interpreting import spare

    spare()

# "ieee" is true fp32; "tf32" (ten bits of mantissa, on the tensor cores) is for whoever asks.
PRECISIONS = ("ieee", "tf32")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Config:
    """How one launch is tiled.

    A program computes a tile of `block_m` rows (output pixels) by `block_n` columns (output
    channels) in steps of `block_k` (input channels). `split_k` programs share a tile's sum.
    """

    block_m: int
    block_n: int
    block_k: int
    num_warps: int = 4
    num_stages: int = 3
    split_k: int = 1
    # Read the input through tensor descriptors (the bulk copy engine of compute capability 9.0+).
    descriptors: bool = False
    # Registers per thread, at most; 0 leaves it to the assembler.
    max_registers: int = 0
    # Of a convolution of a norm: apply it between load and product (prologue.py), not before.
    normalises: bool = False

    # Programs per multiprocessor that walk over all tiles; 0 is a program for every tile.
    persistent: int = 0
    # Of float32: a product as three in tf32, on the tensor cores, with nearly all of its digits.
    tf32x3: bool = False
    # Begin while the launch before is still running, and wait for its end there (dependent.py).
    dependent: bool = False

    def with_(self, **changes: Any) -> Config:
        return replace(self, **changes)

    @property
    def label(self) -> str:
        tile = f"{self.block_m}x{self.block_n}x{self.block_k}"
        split = f" split {self.split_k}" if self.split_k > 1 else ""
        cap = f" r{self.max_registers}" if self.max_registers else ""
        norm = " norm" if self.normalises else ""
        walk = f" p{self.persistent}" if self.persistent else ""
        more = " tf32x3" * self.tf32x3 + " dependent" * self.dependent
        return f"{tile} w{self.num_warps} s{self.num_stages}{split}{cap}{norm}{walk}{more}"

    def multiplies_in(self, precision: str) -> str:
        """The precision of a product that is asked for in `precision`, as Triton calls it."""
        return "tf32x3" if self.tf32x3 and precision == "ieee" else precision


@dataclass(frozen=True)
class Call:
    """One launch of one Triton kernel, ready to run again and again on the same buffers."""

    function: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    config: Config

    @property
    def options(self) -> dict[str, Any]:
        """What Triton's compiler is told."""
        options: dict[str, Any] = {
            "num_warps": self.config.num_warps,
            "num_stages": self.config.num_stages,
        }
        if self.config.max_registers:
            options["maxnreg"] = self.config.max_registers
        if getattr(self.arguments.get("how"), "dependent", False):  # the kernel knows to wait
            options["launch_pdl"] = True
        return options

    def run(self) -> None:
        self.function[self.grid](**self.arguments, **self.options)


@dataclass(frozen=True)
class Prepared:
    """What a kernel's `prepare` returns: the tensor that will hold the result, and the launches.

    `statistics` is a `statistics.Statistics` where the launches measure their result.
    """

    out: torch.Tensor
    calls: tuple[Call, ...]
    statistics: Any = None

    def run(self) -> torch.Tensor:
        for call in self.calls:
            call.run()
        return self.out


@dataclass(frozen=True)
class Inputs:
    """Random arguments for a case: those of `prepare` and `launch`, and those of `reference`."""

    launch: dict[str, Any]
    reference: dict[str, Any]


@dataclass(frozen=True)
class Kernel:
    """A row of the kernels' table: tests, static reports and benchmarks iterate over these.

    A case is a problem: a frozen dataclass of the kernel's own, with `batch`, `dtype`,
    `epilogue` and `label`.
    """

    name: str
    # None, or why this kernel cannot compute the case.
    accepts: Callable[[Any], str | None]
    # The same arguments as launch; nothing runs before Prepared.run().
    prepare: Callable[..., Prepared]
    launch: Callable[..., torch.Tensor]
    # A slow, plain definition of the same function in float64.
    reference: Callable[..., torch.Tensor]
    # (case, generator, device): on the device "meta" it costs nothing.
    inputs: Callable[[Any, torch.Generator | None, torch.device], Inputs]
    cases: Sequence[Any]
    # (case, capability) -> the configs worth trying, the default first.
    configs: Callable[[Any, tuple[int, int]], Sequence[Config]]
    # Layers of real models, whose default configs the static report holds to more.
    main_cases: Sequence[Any] = ()
    # Whether it is a matrix product underneath, for the tensor cores.
    multiplies: bool = True


class Capability(tuple[int, int]):
    """A compute capability, (major, minor), of a device with so many multiprocessors."""

    multiprocessors: int

    def __new__(cls, version: tuple[int, int], multiprocessors: int) -> Capability:
        made = super().__new__(cls, version)
        made.multiprocessors = multiprocessors
        return made


def capability_of(device: torch.device) -> tuple[int, int]:
    """The `Capability` of a CUDA device; (0, 0) stands for the interpreter."""
    if device.type != "cuda":
        return (0, 0)
    count = torch.cuda.get_device_properties(device).multi_processor_count
    return Capability(torch.cuda.get_device_capability(device), count)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def next_power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def box_of(images: int, rows: int, columns: int, pixels: int) -> tuple[int, int, int]:
    """The (images, rows, columns) box of `pixels` pixels, powers of two, that wastes the least."""
    powers = [1 << i for i in range(pixels.bit_length())]
    boxes = [(pixels // (h * w), h, w) for w in powers for h in powers if h * w <= pixels]

    def tiles(box: tuple[int, int, int]) -> tuple[int, int]:
        covered = ceil_div(images, box[0]) * ceil_div(rows, box[1]) * ceil_div(columns, box[2])
        return covered, box[0]  # of equal ones, the box with the fewest images shares the most

    # The copy engine takes boxes of at most 256 per axis.
    return min((box for box in boxes if max(box) <= 256), key=tiles)


def describe_weight(weight: torch.Tensor, config: Config, transposed: bool) -> TensorDescriptor:
    """A descriptor of packed weights [k, columns] (transposed: [columns, k]), in tiles."""
    block = [config.block_k, config.block_n]
    return TensorDescriptor.from_tensor(weight, block[::-1] if transposed else block)


def describe(x: torch.Tensor, box: tuple[int, int, int, int]) -> TensorDescriptor:
    """A descriptor of channels-last x, in boxes of [images, rows, columns, channels]."""
    images, channels, height, width = x.shape
    wide = pitch(x, "x")
    strides = [height * width * wide, width * wide, wide, 1]
    return TensorDescriptor(x, [images, height, width, channels], strides, list(box))
