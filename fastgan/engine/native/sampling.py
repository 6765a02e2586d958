"""Resizing, pooling and padding as native operations: each row, and each column, is a sum of a few.

Which ones, and by what weights, the operators themselves say (`fastgan.ops`), asked about images
that are zero but for one row or one column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from fastgan.engine.native.fields import moved
from fastgan.engine.native.lowering import Lowering, grid, reference, sizes_of, unsupported
from fastgan.engine.native.records import Kind, listed, record
from fastgan.engine.native.tensors import View, channels_last, new
from fastgan.plan import Step

#: Inputs that an axis' weights are asked for at a time; fewer where they make more elements.
_AT_A_TIME = 16
_ELEMENTS = 1 << 18

#: How far beside those that have a weight an input may be that is read and has none: Keys' cubic of
#: a whole place reads one before it and two behind it.
_BESIDE = 2

#: The most that an axis may have of inputs times outputs, and images that are asked of elements:
#: the weights of an axis are a matrix for a moment.
_LARGEST = 1 << 25

#: The inputs of each output of an axis, and their weights.
Taps = tuple[list[list[int]], list[list[float]]]


def resized(low: Lowering, step: Step) -> None:
    """Any linear function of an image's rows, then of its columns: Resize, Pad, AveragePool."""
    function, given = reference(step, low.plan, low.opset)
    x, shape = low.read(step.inputs[0]), low.plan.buffers[step.outputs[0]].shape
    if len(x.shape) not in (3, 4) or x.shape[:2] != tuple(shape[:2]):
        moved(low, step)
        return
    _check_size(step, x.shape, shape)
    y = low.write_images(step.outputs[0])

    def call(images: Tensor) -> Tensor:
        inputs = list(given[1:])
        if step.op == "Resize" and len(inputs) > 2 and inputs[2] and len(inputs[2]) == len(x.shape):
            inputs[2] = [*images.shape[:2], *inputs[2][2:]]
        found: Tensor = function(images, *inputs)
        return found

    rows, columns = _tables(step, call, x.shape[2:], step.op in ("Resize", "Upsample"))
    if tuple(len(axis[0]) for axis in (rows, columns)[4 - len(x.shape) :]) != y.shape[2:]:
        raise unsupported(step, "a result of another size")
    _resample(low, x, y, rows, columns, False)


def max_pool(low: Lowering, step: Step) -> None:
    """MaxPool without indices."""
    if len(step.outputs) > 1:
        raise unsupported(step, "indices of maxima")
    function, given = reference(step, low.plan, low.opset)
    x = low.read(step.inputs[0])
    if len(x.shape) not in (3, 4):
        raise unsupported(step, f"{len(x.shape)} axes")
    _check_size(step, x.shape, low.plan.buffers[step.outputs[0]].shape)
    y = low.write_images(step.outputs[0])
    axes = []
    for axis in range(2, len(x.shape)):
        # What is far above all else is the maximum wherever it is seen.
        size = x.shape[axis]
        seen = []
        for first in range(0, size, _AT_A_TIME):
            count = min(_AT_A_TIME, size - first)
            images = torch.zeros(count, 1, *x.shape[2:])
            for i in range(count):
                images[i].narrow(axis - 1, first + i, 1).fill_(1.0)
            found = function(images, *given[1:])
            others = [a for a in range(2, len(x.shape)) if a != axis]
            seen.append((found.amax(others) if others else found).flatten(1))
        read = torch.cat(seen) > 0
        axes.append(_taps(read.float(), read))
    if len(axes) == 1:
        axes.insert(0, _taps(torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool)))
    _resample(low, x, y, axes[0], axes[1], True)


def _check_size(step: Step, given: Sequence[int], made: Sequence[int]) -> None:
    """Raise UnsupportedError where finding the weights would take memory, or time, without end."""
    for size, count in zip(given[2:], made[2:], strict=True):
        if size * count > _LARGEST:
            raise unsupported(step, f"an axis of {size} that becomes {count}")
    if _AT_A_TIME * prod(given[2:]) > 16 * _LARGEST:
        raise unsupported(step, f"images of {prod(given[2:])} pixels")


def _tables(
    step: Step, call: Callable[[Tensor], Tensor], size: tuple[int, ...], weighs_nothing: bool
) -> tuple[Taps, Taps]:
    """Which inputs each row and each column is made of, and by what weights.

    Args:
        weighs_nothing: whether some of them may be read and have a weight of 0.
    """
    ones = torch.ones(1, 1, *size)
    zero = call(torch.zeros_like(ones))
    if bool(zero.any()):
        raise unsupported(step, "a constant beside the image")
    total = call(ones)[0, 0]
    largest = int(total.abs().argmax())
    at = np.unravel_index(largest, total.shape)  # torch's imports its compiler
    scale = float(total.flatten()[largest])
    if scale == 0:
        raise unsupported(step, "nothing of the image")
    at_a_time = max(1, min(_AT_A_TIME, _ELEMENTS // total.numel()))
    matrices = []
    for axis, extent in enumerate(size):
        seen = []
        for first in range(0, extent, at_a_time):
            count = min(at_a_time, extent - first)
            images = torch.zeros(count, 1, *size)
            for i in range(count):
                images[i].narrow(axis + 1, first + i, 1).fill_(1.0)
            found = call(images)[:, 0]
            for other in reversed(range(len(size))):
                if other != axis:
                    found = found.select(other + 1, int(at[other]))
            seen.append(found.clone())  # without the images that it is a part of
        matrices.append(torch.cat(seen))
    if len(size) == 1:
        matrices.insert(0, torch.ones(1, 1))
    else:
        matrices[1] = matrices[1] / scale
    probe = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    made = matrices[0].t() @ probe.reshape(-1, size[-1]) @ matrices[1]
    if not torch.allclose(made.reshape(total.shape), call(probe)[0, 0], atol=1e-5):
        raise unsupported(step, "rows and columns that are not apart")
    reads = [matrix != 0 for matrix in matrices]
    if weighs_nothing:
        for axis, weighed in enumerate(reads[-len(size) :]):
            weighed |= _read(call, size, axis, weighed, at_a_time)
    return _taps(matrices[0], reads[0]), _taps(matrices[1], reads[1])


def _read(
    call: Callable[[Tensor], Tensor],
    size: tuple[int, ...],
    axis: int,
    weighed: Tensor,
    at_a_time: int,
) -> Tensor:
    """Which inputs of an axis each output reads, [inputs, outputs]: those whose NaN reaches it.

    They are among those that have a weight and the few beside them, so that all that are far enough
    apart are asked about at once.
    """
    near = weighed.clone()
    for by in range(1, _BESIDE + 1):
        near[by:] |= weighed[:-by]
        near[:-by] |= weighed[by:]
    at = torch.arange(size[axis])[:, None]
    first, last = torch.where(near, at, size[axis]).amin(0), torch.where(near, at, -1).amax(0)
    apart = min(size[axis], int((last - first).max()) + 1)
    others = [a + 1 for a in range(len(size)) if a != axis]
    seen = []
    for begin in range(0, apart, at_a_time):
        images = torch.zeros(min(at_a_time, apart - begin), 1, *size)
        for i, image in enumerate(images):
            image.index_fill_(axis + 1, torch.arange(begin + i, size[axis], apart), torch.nan)
        found = call(images)[:, 0].isnan().float()
        seen.append(found.amax(others) if others else found)
    return near & (torch.cat(seen)[at[:, 0] % apart] > 0)


def _taps(matrix: Tensor, read: Tensor) -> Taps:
    """[inputs, outputs] as the inputs of each output and their weights, as many for each."""
    most = max(1, int(read.sum(0).max()))
    at, weights = [], []
    for column, those in zip(matrix.t(), read.t(), strict=True):
        found = those.nonzero().flatten().tolist()
        at.append(found + [0] * (most - len(found)))
        # A weight of 0 is that of a tap that fills up; of one that is read it is -0.
        given = [float(column[i]) or -0.0 for i in found]
        weights.append(given + [0.0] * (most - len(found)))
    return at, weights


def _resample(low: Lowering, x: View, y: View, rows: Taps, columns: Taps, maximum: bool) -> None:
    x = low.images(x)
    images, channels, _, _ = sizes_of(y)

    def axis(taps: Taps, stride: int) -> tuple[int, int, bytes, bytes]:
        at, weights = taps
        places = listed(i * stride for each in at for i in each)
        return len(at), len(at[0]), places, listed(w for each in weights for w in each)

    def make() -> bytes:
        _, _, _, image, row, pixel = grid(x)
        return record(
            Kind.RESAMPLE,
            images,
            channels,
            image,
            grid(y)[3:],
            maximum,
            axis(rows, row),
            axis(columns, pixel),
            x.place,
            y.place,
        )

    low.add(make, x, y)


def doubled(low: Lowering, x: View) -> View:
    """Images of twice the size, each pixel four times."""
    n, c, h, w = x.shape
    y = new(channels_last((n, c, 2 * h, 2 * w)))
    rows, columns = (([[i // 2] for i in range(2 * k)], [[1.0]] * 2 * k) for k in (h, w))
    _resample(low, x, y, rows, columns, False)
    return y
