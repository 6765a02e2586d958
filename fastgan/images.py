"""Images in and out of a model: value ranges, uint8 and float32, NHWC and NCHW."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan.backends.base import ImageFormat
from fastgan.errors import ArgumentError
from fastgan.signature import Input

FORMATS = ("float32", "uint8")


def check_format(format: str) -> None:
    """Raise ArgumentError unless `format` is one of `FORMATS`."""
    if format not in FORMATS:
        raise ArgumentError("format", repr(format), " or ".join(map(repr, FORMATS)))


def allocate(
    n: int, images: Tensor, format: str, out: Tensor | None, device: torch.device
) -> Tensor:
    """Where n images go: `out` if it fits them, or a new tensor.

    Args:
        images: a first batch as `Executable.images` returns it, for the size.

    Raises:
        ArgumentError: `out` is of another shape, type or device.
    """
    sizes = tuple(images.shape[1:])
    if format == "uint8" and images.dtype != torch.uint8 and len(sizes) == 3:
        sizes = (*sizes[1:], sizes[0])
    shape, dtype = (n, *sizes), torch.uint8 if format == "uint8" else torch.float32
    if out is None:
        return torch.empty(shape, dtype=dtype, device=device)
    if not isinstance(out, Tensor):
        raise ArgumentError("out", type(out).__name__, "a torch.Tensor")
    if tuple(out.shape) != shape:
        raise ArgumentError("out", f"shape {tuple(out.shape)}", f"shape {shape}")
    if out.dtype != dtype:
        raise ArgumentError("out", str(out.dtype), str(dtype))
    if out.device.type != device.type or out.device.index not in (None, device.index or 0):
        raise ArgumentError("out", f"a tensor on {out.device}", f"one on {device}")
    return out


def store(images: Tensor, image: ImageFormat, out: Tensor) -> None:
    """Write a batch into its place, converted.

    Args:
        images: as `Executable.images` returns them.
        out: float32 [count, C, H, W], or uint8 [count, H, W, C]: round-half-even of
            (v - low) / (high - low) * 255, clamped; NaN becomes 0.
    """
    if image.format == "uint8" and images.dtype != torch.uint8:
        low, high = image.range
        scale = 255.0 / (high - low)
        images = ((images.float() - low) * scale).nan_to_num_(0.0).round_().clamp_(0.0, 255.0)
        if images.dim() == 4:
            images = images.permute(0, 2, 3, 1)
    out.copy_(images)


def to_model(images: Any, port: Input, device: torch.device) -> Tensor:
    """Images as a model takes them: float32 [n, C, H, W] in the input's range.

    Args:
        images: float [n, C, H, W] (in that range already) or uint8 [n, H, W, C]; n may be absent.

    Raises:
        ArgumentError: another rank, channel count or size than the model takes.
    """
    try:
        tensor = images if isinstance(images, Tensor) else torch.as_tensor(images)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(
            "images", type(images).__name__, "a tensor or an array of numbers"
        ) from None
    tensor = tensor.to(device)
    tensor = tensor[None] if tensor.dim() == 3 else tensor
    if tensor.dim() != 4:
        raise ArgumentError("images", f"shape {tuple(tensor.shape)}", "[n, C, H, W]")
    if tensor.dtype == torch.uint8:
        low, high = port.range or (-1.0, 1.0)
        tensor = tensor.permute(0, 3, 1, 2).float() * ((high - low) / 255.0) + low
    tensor = tensor.float()
    for want, size in zip(port.shape[1:], tensor.shape[1:], strict=False):
        if isinstance(want, int) and want != size:
            raise ArgumentError(
                "images", f"shape {tuple(tensor.shape)}", f"shape {('n', *port.shape[1:])}"
            )
    return tensor
