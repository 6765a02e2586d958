"""Convolutions: ONNX Conv and ConvTranspose in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.infer import meta
from fastgan.ops.registry import register

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


#: The attributes that `_settled` takes.
CONVOLUTION = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


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
    totals = []
    for i in range(rank):
        output = -(-size[i] // strides[i])
        reach = dilations[i] * (kernel[i] - 1) + 1
        totals.append(max(0, (output - 1) * strides[i] + reach - size[i]))
    return _shared_out(totals, auto_pad)


def _shared_out(totals: Sequence[int], auto_pad: str) -> list[int]:
    """Pads of both sides together as begins, then ends; an odd one is at the end in SAME_UPPER."""
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return less + more if auto_pad == "SAME_UPPER" else more + less


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
    totals = []
    for i in range(rank):
        wanted = output_shape[-rank:][i] if output_shape else size[i] * strides[i]
        reach = dilations[i] * (kernel[i] - 1) + 1
        total = strides[i] * (size[i] - 1) + extra[i] + reach - wanted
        # More output than the taps reach: what is missing is padding on the far side.
        extra[i] -= min(total, 0)
        totals.append(max(total, 0))
    return _shared_out(totals, auto_pad), extra


def _check(x: Tensor, channels: int, kernel: Sequence[int]) -> None:
    if x.dim() - 2 != len(kernel) or len(kernel) not in _CONV:
        raise ValueError(f"a kernel {list(kernel)} on an input of shape {list(x.shape)}")
    if x.shape[1] != channels:
        raise ValueError(f"{x.shape[1]} channels meet a weight for {channels}")


class _Settled(NamedTuple):
    """Explicit pads, strides and so on: an entry for each spatial axis."""

    strides: list[int]
    dilations: list[int]
    begins: list[int]
    ends: list[int]
    extra: list[int]  # a transposed one's output padding
    group: int


def _settled(
    x: Tensor,
    weight: Tensor,
    transposed: bool = False,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    **_: Any,
) -> _Settled:
    kernel, size = list(weight.shape[2:]), list(x.shape[2:])
    rank = len(kernel)
    step, spread = list(strides or [1] * rank), list(dilations or [1] * rank)
    each = {"strides": step, "dilations": spread, "output_padding": output_padding or step}
    for name, numbers in each.items():
        if len(numbers) != rank:
            raise ValueError(f"{name} {list(numbers)} for {rank} axes")
    if pads and len(pads) != 2 * rank:
        raise ValueError(f"pads {list(pads)} for {rank} axes")
    if transposed:
        explicit, extra = conv_transpose_geometry(
            auto_pad, pads, output_padding, output_shape, size, kernel, step, spread
        )
    else:
        explicit, extra = conv_pads(auto_pad, pads, size, kernel, step, spread), [0] * rank
    return _Settled(step, spread, explicit[:rank], explicit[rank:], extra, group)


def of_one_column(kernel: Sequence[int], columns: int) -> bool:
    """Whether a convolution slides a column down a column.

    oneDNN 3.12 gives wrong values for some of these where images lie channels-last: on AVX-512,
    where the channels don't fill its blocks and the column is long (17 channels, 330 rows). The
    same turned into rows it computes right.

    Args:
        columns: that a convolution makes, or that a transposed one reads.
    """
    return len(kernel) > 1 and kernel[-1] == columns == 1 < max(kernel)


def _into_rows(x: Tensor, weight: Tensor, at: _Settled) -> tuple[Tensor, Tensor, _Settled]:
    """The same convolution with its last two axes in each other's place."""

    def turned(numbers: list[int]) -> list[int]:
        return [*numbers[:-2], numbers[-1], numbers[-2]]

    strides, dilations, begins, ends, extra = (turned(each) for each in at[:5])
    rows = _Settled(strides, dilations, begins, ends, extra, at.group)
    return x.transpose(-1, -2), weight.transpose(-1, -2), rows


def conv_shape(x: Tensor, weight: Tensor, bias: Tensor | None = None, **how: Any) -> Tensor:
    kernel = list(weight.shape[2:])
    _check(x, weight.shape[1] * how.get("group", 1), kernel)
    at = _settled(x, weight, **how)
    output = []
    for i, extent in enumerate(x.shape[2:]):
        room = extent + at.begins[i] + at.ends[i] - at.dilations[i] * (kernel[i] - 1) - 1
        if room < 0:
            raise ValueError(f"a kernel {kernel} on an input of shape {list(x.shape)}")
        output.append(room // at.strides[i] + 1)
    return meta((x.shape[0], weight.shape[0], *output), x.dtype)


@register("Conv", since=1, infer=conv_shape, fresh=True, also=CONVOLUTION)
def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, **how: Any) -> Tensor:
    """x [N, C, *size], weight [O, C / group, *kernel], bias [O] -> [N, O, *output]."""
    at, rank = _settled(x, weight, **how), x.dim() - 2
    if at.begins != at.ends:
        # torch pads both sides alike; the pair list of F.pad starts at the last axis.
        pairs = reversed(list(zip(at.begins, at.ends, strict=True)))
        x = F.pad(x, [p for pair in pairs for p in pair])
        at = at._replace(begins=[0] * rank)
    columns = (x.shape[-1] + 2 * at.begins[-1] - 1) // at.strides[-1] + 1
    turned = of_one_column(weight.shape[2:], columns)
    if turned:
        x, weight, at = _into_rows(x, weight, at)
    y = _CONV[rank](x, weight, bias, at.strides, at.begins, at.dilations, at.group)
    return y.transpose(-1, -2) if turned else y


def _conv_transpose_shape(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, **how: Any
) -> Tensor:
    kernel = list(weight.shape[2:])
    _check(x, weight.shape[0], kernel)
    at = _settled(x, weight, True, **how)
    output = [
        at.strides[i] * (n - 1)
        + at.dilations[i] * (kernel[i] - 1)
        + 1
        + at.extra[i]
        - at.begins[i]
        - at.ends[i]
        for i, n in enumerate(x.shape[2:])
    ]
    if min(output, default=1) < 1:
        raise ValueError(f"pads {at.begins + at.ends} leave an output of size {output}")
    return meta((x.shape[0], weight.shape[1] * at.group, *output), x.dtype)


@register(
    "ConvTranspose",
    since=1,
    infer=_conv_transpose_shape,
    fresh=True,
    also=(*CONVOLUTION, "output_padding", "output_shape"),
)
def conv_transpose(x: Tensor, weight: Tensor, bias: Tensor | None = None, **how: Any) -> Tensor:
    """x [N, C, *size], weight [C, O / group, *kernel], bias [O] -> [N, O, *output]."""
    at, rank = _settled(x, weight, True, **how), x.dim() - 2
    turned = of_one_column(weight.shape[2:], x.shape[-1])
    if turned:
        x, weight, at = _into_rows(x, weight, at)
    y = _transposed(x, weight, bias, at, rank)
    return y.transpose(-1, -2) if turned else y


def _transposed(x: Tensor, weight: Tensor, bias: Tensor | None, at: _Settled, rank: int) -> Tensor:
    step, spread, extra = at.strides, at.dilations, at.extra
    run = _CONV_TRANSPOSE[rank]
    plain = all(e < max(s, d) for e, s, d in zip(extra, step, spread, strict=True))
    if at.begins == at.ends and plain:
        return run(x, weight, bias, step, at.begins, extra, at.group, spread)
    # Uneven pads, or output padding that torch refuses: compute everything, then crop and extend.
    full = run(x, weight, None, step, [0] * rank, [0] * rank, at.group, spread)
    pairs = []
    for i in reversed(range(rank)):
        pairs += [-at.begins[i], extra[i] - at.ends[i]]
    full = F.pad(full, pairs)
    return full if bias is None else full + bias.reshape(1, -1, *[1] * rank)


def _fold_geometry(
    x: Tensor, size: Sequence[int], block: Sequence[int], pads: Sequence[int] | None
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
