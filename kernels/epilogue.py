"""What every kernel does last: bias, activation, and writing the format that was asked for.

Output formats, for values v of a logical [N, C, H, W] result:
  "nhwc"          the result in the kernel's own dtype (float16 for e4m3), channels last
  "float32_nchw"  float32, contiguous
  "e4m3_nhwc"     e4m3 of v * 448 / high, saturated; channels last (see e4m3.py)
  "uint8_nhwc"    uint8 [N, H, W, C]: round_half_even(clamp((v - low) / (high - low), 0, 1) * 255);
                  NaN becomes 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from .e4m3 import E4M3, LARGEST, stored, to_e4m3
from .layout import alike, is_pitched, pitch
from .records import End, Output
from .types import IS_INTERPRETED

ACTIVATIONS = ("none", "relu", "leaky_relu", "prelu", "tanh", "sigmoid", "silu", "gelu")
ACTIVATIONS += ("gelu_tanh", "mish", "hard_swish", "softplus", "elu")
OUT_FORMATS = ("nhwc", "e4m3_nhwc", "float32_nchw", "uint8_nhwc")
# Those that lie like an input of the next layer.
BUFFERS = ("nhwc", "e4m3_nhwc")

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Epilogue:
    """What happens to a result before it is stored. `low` and `high` are for 8 bits alone."""

    activation: str = "none"
    slope: float = 0.0  # of leaky_relu; the alpha of elu; a prelu's are an argument, per channel
    out_format: str = "nhwc"
    low: float = -1.0
    high: float = 1.0
    # Whether a residual is added after the activation, not before it.
    residual_last: bool = False

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation: found {self.activation!r}, needed one of {ACTIVATIONS}")
        if self.out_format not in OUT_FORMATS:
            raise ValueError(f"out_format: found {self.out_format!r}, needed one of {OUT_FORMATS}")

    def arguments(
        self,
        out: torch.Tensor,
        bias: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
        flag: torch.Tensor | None = None,
        slopes: torch.Tensor | None = None,
    ) -> dict[str, Any]:
        """What `finish` is told, of which every kernel has the arguments."""
        if residual is not None:
            if self.out_format not in BUFFERS:
                raise ValueError(f"residual: found out_format {self.out_format}, needed nhwc")
            if residual.shape != out.shape:
                raise ValueError(
                    f"residual: found {tuple(residual.shape)}, needed {tuple(out.shape)}"
                )
        if (slopes is not None) != (self.activation == "prelu"):
            raise ValueError(f"slopes: found {slopes} with {self.activation}, needed for a prelu")
        end = End(
            activation=self.activation,
            slope=self.slope,
            out_format=self.out_format,
            out_pitch=pitch(out, "out") if self.out_format in BUFFERS else out.shape[-1],
            residual_pitch=0 if residual is None else pitch(residual, "residual"),
            residual_last=self.residual_last,
        )
        to = Output(out, residual, bias, slopes, flag, float(self.low), float(self.high))
        return {"to": to, "end": end}

    def output(self, like: torch.Tensor, shape: Shape, out: torch.Tensor | None) -> torch.Tensor:
        """`out` if a kernel may write into it (ValueError if not), or a new tensor.

        shape is the result's logical [N, C, H, W]; device and dtype are those of `like`.
        """
        if out is None:
            return self._new(shape, like.dtype, like.device)
        needed = self._new(shape, like.dtype, torch.device("meta"))
        lies = alike(out, needed) or (self.out_format in BUFFERS and is_pitched(out))
        same = out.shape == needed.shape and out.dtype == needed.dtype
        if not (lies and same and out.device == like.device):
            raise ValueError(
                f"out: found {tuple(out.shape)} {out.dtype} on {out.device} with strides "
                f"{out.stride()}, needed {tuple(needed.shape)} {needed.dtype} on {like.device} "
                f"with strides {needed.stride()}"
            )
        return out

    def _new(self, shape: Shape, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        n, c, h, w = shape
        if self.out_format in BUFFERS:
            layout = torch.channels_last
            dtype = E4M3 if self.out_format == "e4m3_nhwc" else stored(dtype)
            return torch.empty(shape, dtype=dtype, device=device, memory_format=layout)
        if self.out_format == "float32_nchw":
            return torch.empty(shape, dtype=torch.float32, device=device)
        return torch.empty((n, h, w, c), dtype=torch.uint8, device=device)

    def reference(
        self,
        value: torch.Tensor,
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        residual: torch.Tensor | None = None,
        slopes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The epilogue of a float64 result [N, C, H, W], in plain PyTorch."""
        if bias is not None:
            value = value + bias.double()[:, None, None]
        if residual is not None and not self.residual_last:
            value = value + residual.double()
        value = self._activated(value, slopes)
        if residual is not None and self.residual_last:
            value = value + residual.double()
        if self.out_format == "nhwc":
            return value.to(stored(dtype))
        if self.out_format == "e4m3_nhwc":
            scaled = value.float() * (LARGEST / self.high)
            lost = torch.where(scaled.isfinite(), 0.0, torch.nan)
            return (scaled.clamp(-LARGEST, LARGEST) + lost).to(E4M3)
        if self.out_format == "float32_nchw":
            return value.float()
        level = ((value.float() - self.low) / (self.high - self.low)).clamp(0, 1).mul(255).round()
        return level.nan_to_num(0).to(torch.uint8).permute(0, 2, 3, 1)

    def _activated(self, value: torch.Tensor, slopes: torch.Tensor | None) -> torch.Tensor:
        match self.activation:
            case "none":
                return value
            case "leaky_relu":
                return torch.where(value < 0, value * self.slope, value)
            case "prelu":
                assert slopes is not None
                return torch.where(value < 0, value * slopes.double()[:, None, None], value)
            case "tanh" | "sigmoid" | "relu":
                return getattr(torch, self.activation)(value)
            case "gelu_tanh":
                return F.gelu(value, approximate="tanh")
            case "hard_swish":
                return value * (value + 3).clamp(0, 6) / 6
            case "elu":
                return F.elu(value, self.slope)
        return getattr(F, self.activation)(value)


PLAIN = Epilogue()


@triton.jit
def activate(x, ACTIVATION: tl.constexpr, SLOPE: tl.constexpr):
    """The activation of float32 values. NaN stays NaN, so that the guard behind it sees it."""
    if ACTIVATION == "relu":
        x = tl.where(x < 0, 0.0, x)
    elif ACTIVATION == "leaky_relu":
        x = tl.where(x < 0, x * SLOPE, x)
    elif ACTIVATION == "tanh":
        # exp of a non-positive number cannot overflow; the sign is put back afterwards.
        e = tl.exp(-2.0 * tl.abs(x))
        t = (1.0 - e) / (1.0 + e)
        x = tl.where(x < 0, -t, t)
    elif ACTIVATION == "sigmoid":
        x = 1.0 / (1.0 + tl.exp(-x))
    elif ACTIVATION == "silu":
        x = x / (1.0 + tl.exp(-x))
    elif ACTIVATION == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == "gelu_tanh":
        # 0.5 * (1 + tanh(z)) is sigmoid(2 z).
        x = x / (1.0 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))
    elif ACTIVATION == "mish":
        # tanh(log(1 + e)) = n / (n + 2) with n = e (e + 2); from 20 on that is 1.
        e = tl.exp(tl.where(x > 20.0, 20.0, x))
        n = e * (e + 2.0)
        x = x * (n / (n + 2.0))
    elif ACTIVATION == "hard_swish":
        x = x * (tl.minimum(tl.maximum(x + 3.0, 0.0), 6.0) * 0.16666667)
    elif ACTIVATION == "softplus":
        x = tl.where(x < 0, 0.0, x) + tl.log(1.0 + tl.exp(-tl.abs(x)))
    elif ACTIVATION == "elu":
        x = tl.where(x < 0, SLOPE * (tl.exp(tl.where(x < 0, x, 0.0)) - 1.0), x)
    return x


@triton.jit
def to_stored(x, low, high, OUT_FORMAT: tl.constexpr, DTYPE: tl.constexpr):
    """float32 values -> what is stored: DTYPE, e4m3, float32 or uint8 levels."""
    if OUT_FORMAT == "uint8_nhwc":
        x = tl.where(x == x, x, low)
        x = tl.div_rn(x - low, high - low) * 255.0
        x = tl.minimum(tl.maximum(x, 0.0), 255.0)
        # 1.5 * 2**23: at this size float32 holds whole numbers only, so the sum is rounded to one,
        # ties to even.
        x = ((x + 12582912.0) - 12582912.0).to(tl.uint8)
    elif OUT_FORMAT == "e4m3_nhwc":
        x = to_e4m3(x, high)
    elif OUT_FORMAT == "nhwc" and tl.bfloat16 == DTYPE and IS_INTERPRETED:
        # The interpreter truncates to bfloat16 where the hardware rounds to nearest even.
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        x = tl.where(x == x, bits.to(tl.float32, bitcast=True), x).to(tl.bfloat16)
    elif OUT_FORMAT == "nhwc":
        x = x.to(DTYPE)
    return x


@triton.jit
def raise_flag(flag, before, stored):
    """Sets flag[0] = 1 if a value of [ROWS, COLUMNS] is NaN or infinite.

    `before` is the value before the activation (tanh would hide an infinity), `stored` the value
    after its conversion (float16 may overflow there).
    """
    # Zero times anything else is zero, and one sum takes fewer registers than comparisons. So does
    # leaving out the mask: callers see to it that what lies beyond the tensor is finite.
    probe = before * 0.0
    if stored.dtype == tl.float16:
        probe += stored.to(tl.float32) * 0.0
    in_row = tl.sum(probe, axis=1)
    tl.store(flag + tl.zeros_like(in_row).to(tl.int32), 1, mask=in_row != in_row)


@triton.jit
def finish(
    value,  # [ROWS, COLUMNS] float32: the sums; beyond the mask finite where the inputs are
    channel,  # the channel of each value, or [1, COLUMNS]
    channel_exists,  # of the same shape
    offset,  # [ROWS, COLUMNS]: where each value goes
    residual_offset,  # the same in the residual
    mask,  # [ROWS, COLUMNS]
    to,  # Output
    end: tl.constexpr,  # End
):
    """The whole epilogue of a tile, down to its store; returns what it stored."""
    if to.bias is not None:
        value += tl.load(to.bias + channel, mask=channel_exists, other=0.0)
    if to.residual is not None and not end.residual_last:
        value += tl.load(to.residual + residual_offset, mask=mask, other=0.0).to(tl.float32)
    if end.activation == "prelu":
        slope = tl.load(to.slopes + channel, mask=channel_exists, other=0.0)
        result = tl.where(value < 0, value * slope, value)
    else:
        result = activate(value, tl.constexpr(end.activation), end.slope)
    if to.residual is not None and end.residual_last:
        result += tl.load(to.residual + residual_offset, mask=mask, other=0.0).to(tl.float32)
    OUT_FORMAT: tl.constexpr = end.out_format
    result = to_stored(result, to.low, to.high, OUT_FORMAT, to.out.dtype.element_ty)
    tl.store(to.out + offset, result, mask=mask)
    if to.flag is not None:
        raise_flag(to.flag, value, result)
    return result
