"""Convolutions: ONNX Conv and ConvTranspose in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.infer import meta
from fastgan.ops.registry import register

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def conv_pads(
    auto_pad: str,
    pads: Sequence[int] | None,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """The explicit pads of an ONNX Conv: all the begins, then all the ends."""
    rank = len(kernel)
    if auto_pad in ("NOTSET", ""):
        return list(pads) if pads else [0] * 2 * rank
    if auto_pad == "VALID":
        return [0] * 2 * rank
    begins, ends = [], []
    for i in range(rank):
        output = -(-size[i] // strides[i])
        reach = dilations[i] * (kernel[i] - 1) + 1
        total = max(0, (output - 1) * strides[i] + reach - size[i])
        less, more = total // 2, total - total // 2
        begins.append(less if auto_pad == "SAME_UPPER" else more)
        ends.append(more if auto_pad == "SAME_UPPER" else less)
    return begins + ends


def conv_transpose_geometry(
    auto_pad: str,
    pads: Sequence[int] | None,
    output_padding: Sequence[int] | None,
    output_shape: Sequence[int] | None,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[list[int], list[int]]:
    """The explicit pads (begins, then ends) and output padding of an ONNX ConvTranspose."""
    rank = len(kernel)
    extra = list(output_padding) if output_padding else [0] * rank
    if auto_pad in ("NOTSET", "") and not output_shape:
        return (list(pads) if pads else [0] * 2 * rank), extra
    if auto_pad == "VALID" and not output_shape:
        return [0] * 2 * rank, extra
    begins, ends = [], []
    for i in range(rank):
        wanted = output_shape[-rank:][i] if output_shape else size[i] * strides[i]
        reach = dilations[i] * (kernel[i] - 1) + 1
        total = strides[i] * (size[i] - 1) + extra[i] + reach - wanted
        if total < 0:
            # More output than the taps reach: what is missing is padding on the far side.
            extra[i] -= total
            total = 0
        less, more = total // 2, total - total // 2
        begins.append(less if auto_pad == "SAME_UPPER" else more)
        ends.append(more if auto_pad == "SAME_UPPER" else less)
    return begins + ends, extra


def _check(x: Tensor, channels: int, kernel: Sequence[int]) -> None:
    if x.dim() - 2 != len(kernel) or len(kernel) not in _CONV:
        raise ValueError(f"a kernel {list(kernel)} on an input of shape {list(x.shape)}")
    if x.shape[1] != channels:
        raise ValueError(f"{x.shape[1]} channels meet a weight for {channels}")


def conv_shape(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    **_: Any,
) -> Tensor:
    kernel, size = list(weight.shape[2:]), list(x.shape[2:])
    _check(x, weight.shape[1] * group, kernel)
    step, spread = strides or [1] * len(kernel), dilations or [1] * len(kernel)
    explicit = conv_pads(auto_pad, pads, size, kernel, step, spread)
    output = []
    for i, extent in enumerate(size):
        room = extent + explicit[i] + explicit[len(kernel) + i] - spread[i] * (kernel[i] - 1) - 1
        if room < 0:
            raise ValueError(f"a kernel {kernel} on an input of shape {list(x.shape)}")
        output.append(room // step[i] + 1)
    return meta((x.shape[0], weight.shape[0], *output), x.dtype)


@register("Conv", since=1, infer=conv_shape, fresh=True)
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """x [N, C, *size], weight [O, C / group, *kernel], bias [O] -> [N, O, *output]."""
    rank = x.dim() - 2
    kernel = list(weight.shape[2:])
    step, spread = list(strides or [1] * rank), list(dilations or [1] * rank)
    explicit = conv_pads(auto_pad, pads, x.shape[2:], kernel, step, spread)
    begins, ends = explicit[:rank], explicit[rank:]
    if begins == ends:
        padding = begins
    else:
        # torch pads both sides alike; the pair list of F.pad starts at the last axis.
        pairs = [p for pair in reversed(list(zip(begins, ends, strict=True))) for p in pair]
        x, padding = F.pad(x, pairs), [0] * rank
    return _CONV[rank](x, weight, bias, step, padding, spread, group)


def _conv_transpose_shape(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    **_: Any,
) -> Tensor:
    kernel, size = list(weight.shape[2:]), list(x.shape[2:])
    rank = len(kernel)
    _check(x, weight.shape[0], kernel)
    step, spread = list(strides or [1] * rank), list(dilations or [1] * rank)
    explicit, extra = conv_transpose_geometry(
        auto_pad, pads, output_padding, output_shape, size, kernel, step, spread
    )
    output = [
        step[i] * (size[i] - 1)
        + spread[i] * (kernel[i] - 1)
        + 1
        + extra[i]
        - explicit[i]
        - explicit[rank + i]
        for i in range(rank)
    ]
    if min(output, default=1) < 1:
        raise ValueError(f"pads {explicit} leave an output of size {output}")
    return meta((x.shape[0], weight.shape[1] * group, *output), x.dtype)


@register("ConvTranspose", since=1, infer=_conv_transpose_shape, fresh=True)
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """x [N, C, *size], weight [C, O / group, *kernel], bias [O] -> [N, O, *output]."""
    rank = x.dim() - 2
    kernel, size = list(weight.shape[2:]), list(x.shape[2:])
    step, spread = list(strides or [1] * rank), list(dilations or [1] * rank)
    explicit, extra = conv_transpose_geometry(
        auto_pad, pads, output_padding, output_shape, size, kernel, step, spread
    )
    begins, ends = explicit[:rank], explicit[rank:]
    if begins == ends and all(e < max(s, d) for e, s, d in zip(extra, step, spread, strict=True)):
        return _CONV_TRANSPOSE[rank](x, weight, bias, step, begins, extra, group, spread)
    # Uneven pads, or output padding that torch refuses: compute everything, then crop and extend.
    full = _CONV_TRANSPOSE[rank](x, weight, None, step, [0] * rank, [0] * rank, group, spread)
    pairs = []
    for i in reversed(range(rank)):
        pairs += [-begins[i], extra[i] - ends[i]]
    full = F.pad(full, pairs)
    return full if bias is None else full + bias.reshape(1, -1, *[1] * rank)


def _fold_geometry(
    x: Tensor,
    size: Sequence[int],
    block: Sequence[int],
    pads: Sequence[int] | None,
) -> tuple[int, list[int], list[int]]:
    """Channels of the image, its size with the pads, and the pads, of a two-dimensional Col2Im."""
    if len(size) != 2 or len(block) != 2:
        raise NotImplementedError("Col2Im of an image that is not two-dimensional")
    if x.shape[1] % (block[0] * block[1]):
        raise ValueError(f"{x.shape[1]} rows of blocks of {block[0]} x {block[1]}")
    top, left, bottom, right = pads or (0, 0, 0, 0)
    padded = [size[0] + top + bottom, size[1] + left + right]
    return x.shape[1] // (block[0] * block[1]), padded, [top, left]


def _col2im_shape(
    x: Tensor, size: Sequence[int], block: Sequence[int], *, pads: Any = None, **_: Any
) -> Tensor:
    return meta((x.shape[0], _fold_geometry(x, size, block, pads)[0], *size), x.dtype)


@register("Col2Im", since=18, host=(1, 2), infer=_col2im_shape)
def col2im(
    x: Tensor,
    size: Sequence[int],
    block: Sequence[int],
    *,
    dilations: Sequence[int] = (1, 1),
    pads: Sequence[int] | None = None,
    strides: Sequence[int] = (1, 1),
) -> Tensor:
    """[N, C * block, L] -> [N, C, *size]: blocks put in their places, and added where they meet."""
    _, padded, (top, left) = _fold_geometry(x, size, block, pads)
    image = F.fold(x, tuple(padded), tuple(block), tuple(dilations), 0, tuple(strides))
    return image[:, :, top : top + size[0], left : left + size[1]].contiguous()
