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

    rows, columns = _tables(step, call, x.shape[2:])
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
        axes.append(_taps((torch.cat(seen) > 0).float()))
    if len(axes) == 1:
        axes.insert(0, _taps(torch.ones(1, 1)))
    _resample(low, x, y, axes[0], axes[1], True)


def _check_size(step: Step, given: Sequence[int], made: Sequence[int]) -> None:
    """Raise UnsupportedError where finding the weights would take memory, or time, without end."""
    for size, count in zip(given[2:], made[2:], strict=True):
        if size * count > _LARGEST:
            raise unsupported(step, f"an axis of {size} that becomes {count}")
    if _AT_A_TIME * prod(given[2:]) > 16 * _LARGEST:
        raise unsupported(step, f"images of {prod(given[2:])} pixels")


def _tables(
    step: Step, call: Callable[[Tensor], Tensor], size: tuple[int, ...]
) -> tuple[Taps, Taps]:
    """Which inputs each row and each column is made of, and by what weights."""
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
    return _taps(matrices[0]), _taps(matrices[1])


def _taps(matrix: Tensor) -> Taps:
    """[inputs, outputs] as the inputs of each output and their weights, as many for each."""
    most = max(1, int((matrix != 0).sum(0).max()))
    at, weights = [], []
    for column in matrix.t():
        found = column.nonzero().flatten().tolist()
        at.append(found + [0] * (most - len(found)))
        weights.append([float(column[i]) for i in found] + [0.0] * (most - len(found)))
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
