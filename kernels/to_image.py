"""The last step of a generator by itself: bias, activation, and the image format.

Used where the layer before could not write the format: after a library op, and to sum the partial
results of a layer whose reduction was split (always in the same order, so that the result never
depends on which program was first).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from .epilogue import BUFFERS, PLAIN, Epilogue, finish
from .types import INTERPRETED, Call, Config, Inputs, Kernel, Prepared, ceil_div, next_power_of_two


@triton.jit
def to_image_kernel(
    x,  # [SPLITS, images, channels, height, width] with the strides below
    residual,  # like out
    bias,  # [CHANNELS] float32
    slopes,  # [CHANNELS] float32: of a prelu
    out,  # [images, CHANNELS, height, width] as OUT_FORMAT says
    flag,  # [1] int32
    elements,  # of one split
    images,
    height,
    width,
    stride_split,
    stride_image,
    stride_channel,
    stride_height,
    stride_width,
    low,
    high,
    CHANNELS: tl.constexpr,
    FLAT: tl.constexpr,
    SPLITS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    HAS_FLAG: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SLOPE: tl.constexpr,
    OUT_FORMAT: tl.constexpr,
    OUT_PITCH: tl.constexpr,  # elements from one pixel to the next
    RESIDUAL_PITCH: tl.constexpr,
    INTERPRETED: tl.constexpr,
    BLOCK_PIXELS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    tile = tl.program_id(0).to(tl.int64)
    block_channel = tl.arange(0, BLOCK_CHANNELS)
    if FLAT:
        # Input and output in the same order: whole rows of memory, whatever the channels.
        row = tile * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
        offset = row[:, None] * BLOCK_CHANNELS + block_channel[None, :]
        channel = offset % CHANNELS
        residual_offset = offset
        channel_exists = offset < elements
        mask = channel_exists
        pointers = x + offset
    else:
        CHANNEL_TILES: tl.constexpr = (CHANNELS + BLOCK_CHANNELS - 1) // BLOCK_CHANNELS
        channel = ((tile % CHANNEL_TILES) * BLOCK_CHANNELS + block_channel)[None, :]
        pixel = (tile // CHANNEL_TILES) * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
        image = pixel // (height * width)
        in_image = pixel % (height * width)
        channel_exists = channel < CHANNELS
        mask = (image < images)[:, None] & channel_exists
        x_pixel = x + image * stride_image
        x_pixel += in_image // width * stride_height + in_image % width * stride_width
        pointers = x_pixel[:, None] + channel * stride_channel
        if OUT_FORMAT == "float32_nchw":
            plane = height * width
            offset = (image[:, None] * CHANNELS + channel) * plane + in_image[:, None]
        else:
            offset = pixel[:, None] * OUT_PITCH + channel
        residual_offset = pixel[:, None] * RESIDUAL_PITCH + channel
    value = tl.zeros((BLOCK_PIXELS, BLOCK_CHANNELS), dtype=tl.float32)
    for _ in tl.static_range(SPLITS):
        value += tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
        pointers += stride_split
    finish(
        value,
        channel,
        channel_exists,
        offset,
        residual_offset,
        mask,
        out,
        bias,
        residual,
        slopes,
        flag,
        low,
        high,
        HAS_BIAS,
        RESIDUAL,
        HAS_FLAG,
        ACTIVATION,
        SLOPE,
        OUT_FORMAT,
        INTERPRETED,
    )


def is_flat(x: torch.Tensor, out_format: str) -> bool:
    """Whether x [splits, N, C, H, W] lies in the order of the output format."""
    dense = x[0].is_contiguous() if out_format == "float32_nchw" else nhwc(x[0]).is_contiguous()
    # Across planes a channel is not the index modulo C; only without them is that no matter.
    return dense and (out_format != "float32_nchw" or x.shape[2] == 1)


def nhwc(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1)


def configs(channels: int, flat: bool = False) -> tuple[Config, ...]:
    """About 2,048 elements per program: several 16-byte loads in flight in each thread."""
    if INTERPRETED:
        block_n = min(next_power_of_two(channels), 128)
        return (Config(16384 // block_n, block_n, 1),)
    block_n = 64 if flat else min(next_power_of_two(channels), 128)
    return tuple(Config(elements // block_n, block_n, 1) for elements in (2048, 4096))


def prepare_sum(
    x: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    epilogue: Epilogue,
    residual: torch.Tensor | None = None,
    flag: torch.Tensor | None = None,
    slopes: torch.Tensor | None = None,
    config: Config | None = None,
) -> Call:
    """The launch that sums x [splits, N, C, H, W] (any strides) over its first axis into out."""
    splits, images, channels, height, width = x.shape
    written = epilogue.arguments(x, out, bias, residual, flag, slopes)
    dense = epilogue.out_format not in BUFFERS or written["OUT_PITCH"] == channels
    dense = dense and written["RESIDUAL_PITCH"] in (0, channels)
    flat = dense and is_flat(x, epilogue.out_format)
    config = config or configs(channels, flat)[0]
    arguments: dict[str, Any] = {
        "x": x,
        "elements": x[0].numel(),
        "images": images,
        "height": height,
        "width": width,
        "stride_split": x.stride(0),
        "stride_image": x.stride(1),
        "stride_channel": x.stride(2),
        "stride_height": x.stride(3),
        "stride_width": x.stride(4),
        "CHANNELS": channels,
        "FLAT": flat,
        "SPLITS": splits,
        "BLOCK_PIXELS": config.block_m,
        "BLOCK_CHANNELS": config.block_n,
        **written,
    }
    pixels = images * height * width
    if flat:
        tiles = ceil_div(pixels * channels, config.block_m * config.block_n)
    else:
        tiles = ceil_div(pixels, config.block_m) * ceil_div(channels, config.block_n)
    return Call(to_image_kernel, (tiles,), arguments, config)


def prepare(
    x: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    out: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    flag: torch.Tensor | None = None,
    slopes: torch.Tensor | None = None,
    config: Config | None = None,
    out_format: str = "float32_nchw",
    **epilogue_fields: Any,
) -> Prepared:
    """See launch."""
    epilogue = Epilogue(out_format=out_format, **epilogue_fields)
    out = epilogue.output(x, tuple(x.shape), out)
    call = prepare_sum(x[None], bias, out, epilogue, residual, flag, slopes, config)
    return Prepared(out, (call,))


def launch(x: torch.Tensor, bias: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
    """activation(x + bias) in an output format.

    x [N, C, H, W] with any strides; bias float32 [C] or None. Options: out, residual (added to the
    result), flag, slopes, config, and the fields of `epilogue.Epilogue` (out_format here defaults
    to "float32_nchw").
    """
    return prepare(x, bias, **options).run()


@dataclass(frozen=True)
class Case:
    batch: int
    channels: int
    height: int
    width: int
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

KERNEL = Kernel(
    name="to_image",
    accepts=lambda case: None,
    prepare=prepare,
    launch=launch,
    reference=reference,
    inputs=inputs,
    cases=CASES,
    configs=lambda case, capability: configs(
        case.channels, case.channels_last and case.epilogue.out_format != "float32_nchw"
    ),
    main_cases=MAIN_CASES,
    multiplies=False,
)
