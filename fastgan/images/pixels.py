"""Images as tensors: value ranges, integer pixels and floats, NHWC and NCHW, channels, sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.host import memory, results
from fastgan.host.native import _native
from fastgan.host.tensors import dense
from fastgan.images.format import ImageFormat
from fastgan.model.signature import Input, Output, Range

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("float32", "uint8")

#: ITU-R BT.601 luma, which Pillow, too, makes grey of.
_LUMA = (0.299, 0.587, 0.114)

#: Values that are resized at once: 128 MiB of floats.
_RESIZED_AT_ONCE = 32 << 20


def check_format(format: str, *more: str) -> None:
    """Raise ArgumentError unless `format` is one of `FORMATS` or of `more`."""
    if format not in (*FORMATS, *more):
        raise ArgumentError("format", repr(format), " or ".join(map(repr, (*FORMATS, *more))))


# Out of a model ----------------------------------------------------------------------------------


def of(output: Output, format: str) -> ImageFormat:
    """An output wanted as images in a format."""
    return ImageFormat(output.name, format, output.range, output.mean, output.std)


def check_pictures(output: Output, out: Tensor | None) -> None:
    """Raise ArgumentError where `format="pil"` can't be had: no pictures, or a tensor for them."""
    if output.kind != "image":
        found = f"output {output.name!r}, which is no picture"
        raise ArgumentError("format='pil'", found, "one that is", "take 'float32' or 'uint8'")
    if out is not None:
        raise ArgumentError("out", "format='pil' beside it", "one of the two")


def check_out(out: Any, *inputs: Any) -> None:
    """Refuse a tensor to write into that can't hold a result while the inputs are read.

    Args:
        inputs: what is read; what is no tensor is passed over.

    Raises:
        ArgumentError: two elements of `out` lie in one place, or one lies where an input is.
    """
    if not isinstance(out, Tensor):
        return  # `allocate` says what it should be
    apart = "memory of its own, such as torch.empty gives"
    if _overlaps_itself(out):
        found = f"elements that share memory, by the strides {tuple(out.stride())}"
        raise ArgumentError("out", found, apart)
    if any(isinstance(t, Tensor) and _overlap(out, t) for t in inputs):
        raise ArgumentError("out", "memory that an input lies in", apart)


def _overlaps_itself(tensor: Tensor) -> bool:
    """Whether two elements may lie in one place: an axis steps no further than those inside it."""
    reach = 0
    axes = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted(axis for axis in axes if axis[1] > 1):
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors share memory; where that is hard to tell, whether they may."""
    if a.device != b.device or a.is_meta or not a.numel() or not b.numel():
        return False
    (first, end), (begin, last) = map(_span, (a, b))
    if end <= begin or last <= first:
        return False
    if a.device.type != "cpu":
        return True
    try:
        one, two = (t.detach().view(torch.uint8).numpy() for t in (a, b))
        return bool(np.shares_memory(one, two, max_work=1_000))  # type: ignore[arg-type]
    except (RuntimeError, TypeError, np.exceptions.TooHardError):
        return True


def _span(tensor: Tensor) -> tuple[int, int]:
    """The addresses of its first byte and of the one after its last."""
    reach = sum(
        stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
    )
    begin = tensor.data_ptr()
    return begin, begin + (reach + 1) * tensor.element_size()


def allocate(
    n: int, images: Tensor, format: str, out: Tensor | None, device: torch.device
) -> Tensor:
    """Where n images go: `out` if it fits them, or a new tensor.

    Args:
        images: a first batch as `Executable.images` returns it, for the size.

    Raises:
        ArgumentError: `out` is of another shape, type or device, or there is no room.
    """
    sizes = tuple(images.shape[1:])
    if format == "uint8" and images.dtype != torch.uint8 and len(sizes) == 3:
        sizes = (*sizes[1:], sizes[0])
    shape, dtype = (n, *sizes), torch.uint8 if format == "uint8" else torch.float32
    if out is None:
        memory.require(
            "images", math.prod(shape) * dtype.itemsize, f"{n} results", device,
            "ask for fewer, or smaller ones",
        )  # fmt: skip
        return results.empty(shape, dtype, device)
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
        if _stored_natively(images, image, out):
            return
        images = port_to_uint8(images, image)
        if images.dim() == 4:
            images = images.permute(0, 2, 3, 1)
    out.copy_(images)


def _stored_natively(images: Tensor, image: ImageFormat, out: Tensor) -> bool:
    """`store` as one native call, where images lie as it reads them; whether they did.

    A few operators of torch's take longer than a small network, and their threads spin for a
    millisecond afterwards, on the cores that the next run needs.
    """
    runtime = getattr(_native, "runtime", None)
    plain = images.dtype == torch.float32 and images.dim() == 4 and images.is_contiguous()
    plain = plain and images.device.type == "cpu" and not image.mean
    plain = plain and out.device.type == "cpu" and out.dtype == torch.uint8 and out.is_contiguous()
    if runtime is None or not plain:
        return False
    n, channels, height, width = images.shape
    if out.shape != (n, height, width, channels):  # which the copy refuses
        return False
    low, high = image.range
    runtime.to_bytes(
        images.data_ptr(), out.data_ptr(), n, channels, height * width, low, 255.0 / (high - low),
        torch.get_num_threads(),
    )  # fmt: skip
    return True


def to_uint8(values: Tensor, range: Range) -> Tensor:
    """Floats of a range as whole numbers from 0 to 255, still of a floating-point type."""
    low, high = range
    scale = 255.0 / (high - low)
    return ((values.float() - low) * scale).nan_to_num_(0.0).round_().clamp_(0.0, 255.0)


def port_to_uint8(values: Tensor, port: Input | Output | ImageFormat) -> Tensor:
    """`to_uint8` of values [n, C, H, W] in a port's range, or of its channels' constants."""
    if not port.mean:
        return to_uint8(values, port.range or (-1.0, 1.0))
    mean, std = (values.new_tensor(row, dtype=torch.float32) for row in (port.mean, port.std))
    return to_uint8(values.float() * std[:, None, None] + mean[:, None, None], (0.0, 1.0))


def to_pil(images: Tensor) -> list[Image]:
    """Pillow images of uint8 [n, H, W, C], C being 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises:
        ArgumentError: the tensor is of another type or shape.
    """
    from PIL import Image

    if images.dtype != torch.uint8 or images.dim() != 4:
        found = f"{images.dtype} {tuple(images.shape)}"
        raise ArgumentError("images", found, "uint8 [n, H, W, C]", "take format='uint8'")
    if images.shape[3] not in (1, 3, 4):
        raise ArgumentError("images", f"{images.shape[3]} channels", "1, 3 or 4")
    arrays = images.cpu().numpy()
    return [Image.fromarray(a[:, :, 0] if a.shape[2] == 1 else a) for a in arrays]


# Into a model ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pixels:
    """Images of one size, as they came.

    They stay in their own type, and whole images are never turned into floats: that is done to the
    part that a model is about to read.

    Attributes:
        values: [n, C, H, W] in any memory layout: uint8, or int32 for deeper pixels, or float32 in
            the model's own range.
        peak: the value of white: 255, 65535; None for floats.
        alpha: opacity [n, 1, H, W] of the same type, kept apart from the colours; None if opaque.
    """

    values: Tensor
    peak: int | None
    alpha: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.values.shape[2], self.values.shape[3]

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What images must share to be stacked."""
        values = self.values
        return (*values.shape[1:], values.dtype, values.device, self.peak, self.alpha is None)

    @staticmethod
    def stack(items: Sequence[Pixels]) -> Pixels:
        """Images of one kind as one; nothing is copied where there is only one item."""
        if len(items) == 1:
            return items[0]
        alphas = [item.alpha for item in items if item.alpha is not None]
        values = torch.cat([item.values for item in items])
        return Pixels(values, items[0].peak, torch.cat(alphas) if alphas else None)


def from_array(name: str, value: Any, channels: int | None) -> Pixels:
    """Pixels of a tensor or an array.

    Args:
        name: what to call it in an error.
        value: integer or boolean [n, H, W, C], [H, W, C] or [H, W]; or floats in the model's range,
            [n, C, H, W] or [C, H, W].
        channels: how many the model takes, where it says so. Floats must have as many; of uint8
            and uint16 a last channel that the model does not take is alpha.

    Raises:
        ArgumentError: no numbers, or of another rank or channel count.
    """
    tensor = dense(name, value, "a tensor, an array, a Pillow image or a path")
    if tensor.dtype.is_floating_point:
        tensor = tensor.float()
        tensor = tensor[None] if tensor.dim() == 3 else tensor
        if tensor.dim() != 4 or (channels is not None and tensor.shape[1] != channels):
            needed = f"[n, {channels or 'C'}, H, W]"
            raise ArgumentError(name, f"shape {tuple(tensor.shape)}", needed)
        _check_size(name, tensor)
        return Pixels(tensor, None)
    shape = tuple(tensor.shape)
    tensor = tensor[:, :, None] if tensor.dim() == 2 else tensor
    tensor = tensor[None] if tensor.dim() == 3 else tensor
    if tensor.dim() != 4 or (tensor.shape[3] != channels and tensor.shape[3] not in (1, 2, 3, 4)):
        needed = "whole numbers [n, H, W, C], C being 1 to 4; or floats [n, C, H, W]"
        raise ArgumentError(name, f"{tensor.dtype} of shape {shape}", needed)
    if tensor.dtype == torch.bool:
        tensor, peak = tensor.to(torch.uint8) * 255, 255
    elif tensor.dtype == torch.uint8:
        peak = 255
    elif tensor.dtype == torch.uint16:
        tensor, peak = tensor.to(torch.int32), 65535
    else:
        raise ArgumentError(name, str(tensor.dtype), "uint8, uint16 or floats")
    tensor = tensor.permute(0, 3, 1, 2)
    _check_size(name, tensor)
    if tensor.shape[1] in (2, 4) and tensor.shape[1] != channels:
        return Pixels(tensor[:, :-1], peak, tensor[:, -1:])
    return Pixels(tensor, peak)


def _check_size(name: str, tensor: Tensor) -> None:
    if not tensor.numel():
        raise ArgumentError(name, f"shape {tuple(tensor.shape)}", "at least one image and pixel")


def to_floats(values: Tensor, peak: int | None, range: Range) -> Tensor:
    """Pixels as float32 of a range: 0 becomes its low end, `peak` its high end.

    Args:
        peak: as in `Pixels`; values without one are in that range already.
    """
    if peak is None:
        return values.float()
    low, high = range
    return values.float().mul_((high - low) / peak).add_(low)  # whole numbers: it is a copy


def picture_range(port: Input | Output) -> Range:
    """The range in which pictures are made ready for a port: [0, 1] where `normalise` follows."""
    return (0.0, 1.0) if port.mean else port.range or (-1.0, 1.0)


def normalise(values: Tensor, port: Input | Output) -> Tensor:
    """(values - mean) / std of pictures [n, C, H, W] in [0, 1], where a port has these."""
    if not port.mean:
        return values
    mean, std = (values.new_tensor(row)[:, None, None] for row in (port.mean, port.std))
    return (values - mean) / std


def with_channels(values: Tensor, alpha: Tensor | None, channels: int, range: Range) -> Tensor:
    """Floats [n, C, H, W] with as many channels as a model takes: grey, RGB or RGBA.

    Args:
        values: grey or RGB.
        alpha: [n, 1, H, W]; what a model that takes alpha gets, opaque if None.

    Raises:
        ArgumentError: there is no such conversion.
    """
    have, colours = values.shape[1], channels - (channels in (2, 4))
    if have == channels:
        return values
    if have not in (1, 3) or colours not in (1, 3):
        raise ArgumentError("images", f"{have} channels", f"the model's {channels}")
    if have == 3 and colours == 1:
        values = torch.tensordot(values.new_tensor(_LUMA), values, dims=([0], [1]))[:, None]
    values = values.expand(-1, colours, -1, -1)
    if channels == colours:
        return values
    opaque = values.new_full((), range[1]).expand_as(values[:, :1])
    return torch.cat([values, opaque if alpha is None else alpha], 1)


def resize(values: Tensor, size: tuple[int, int], smooth: bool = True) -> Tensor:
    """[n, C, H, W] at another size, in the same type: bicubic with antialiasing, or nearest.

    Bicubic values stay between the lowest and the highest that there were.
    """
    if tuple(values.shape[2:]) == size:
        return values
    interpolate = torch.nn.functional.interpolate
    if not smooth:
        return interpolate(values.float(), size, mode="nearest-exact").to(values.dtype)
    # In floats, since torch's uint8 path fails at a height of 1 (2.13) and is off by 2 of 255; but
    # a part at a time, so that a large photo is never held in floats whole.
    n, channels = values.shape[:2]
    result = torch.empty(
        (n, channels, *size),
        dtype=values.dtype,
        device=values.device,
        memory_format=torch.channels_last,
    )
    plane = max(values[0, 0].numel(), size[0] * size[1])
    step = max(1, _RESIZED_AT_ONCE // plane)  # planes
    images, depth = max(1, step // channels), min(step, channels)
    for i in range(0, n, images):
        for c in range(0, channels, depth):
            part = values[i : i + images, c : c + depth].float()
            wide = interpolate(part, size, mode="bicubic", antialias=True)
            wide = wide.clamp_(part.amin(), part.amax())
            exact = wide if result.is_floating_point() else wide.round_()
            result[i : i + images, c : c + depth] = exact
    return result
