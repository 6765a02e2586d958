"""Resizing, pooling and padding as native operations: each row, and each column, is a sum of a few.

Which ones, and by what weights, the operators themselves say (`fastgan.ops`), asked about images
that are zero but for one row or one column. All else is NumPy's: each operator of torch's that is
used for the first time takes up to a megabyte of its library into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastgan.engine.native.fields import moved
from fastgan.engine.native.lowering import Lowering, grid, reference, sizes_of, unsupported
from fastgan.engine.native.records import Kind, listed, record
from fastgan.engine.native.tensors import View, channels_last, new
from fastgan.plan import Step

#: Inputs that an axis' weights are asked for at a time; fewer where they make more elements.
_AT_A_TIME = 16
_ELEMENTS = 1 << 15

#: How far beside those that have a weight an input may be that is read and has none: Keys' cubic of
#: a whole place reads one before it and two behind it.
_BESIDE = 2

#: The most that an axis may have of inputs times outputs, and images that are asked of elements:
#: the weights of an axis are a matrix for a moment.
_LARGEST = 1 << 25

#: The inputs of each output of an axis, and their weights.
Taps = tuple[list[list[int]], list[list[float]]]

#: Those of a row that is all there is.
_ONE: Taps = [[0]], [[1.0]]

Array = npt.NDArray[Any]


def resized(low: Lowering, step: Step) -> None:
    """Any linear function of an image's rows, then of its columns: Resize, Pad, AveragePool."""
    function, given = reference(step, low.plan, low.opset)
    x, shape = low.read(step.inputs[0]), low.plan.buffers[step.outputs[0]].shape
    if len(x.shape) not in (3, 4) or x.shape[:2] != tuple(shape[:2]):
        moved(low, step)
        return
    _check_size(step, x.shape, shape)
    y = low.write_images(step.outputs[0])

    def call(images: Array) -> Array:
        inputs = list(given[1:])
        if step.op == "Resize" and len(inputs) > 2 and inputs[2] and len(inputs[2]) == len(x.shape):
            inputs[2] = [*images.shape[:2], *inputs[2][2:]]
        found: Array = function(torch.from_numpy(images), *inputs).numpy()
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
            images = np.zeros((min(_AT_A_TIME, size - first), 1, *x.shape[2:]), np.float32)
            for i, image in enumerate(images):
                _line(image, axis - 1, first + i)[...] = 1
            found = function(torch.from_numpy(images), *given[1:]).numpy()
            others = tuple(a for a in range(2, len(x.shape)) if a != axis)
            seen.append(found.max(others)[:, 0])
        read = np.concatenate(seen) > 0
        axes.append(_taps(read, read))
    if len(axes) == 1:
        axes.insert(0, _ONE)
    _resample(low, x, y, axes[0], axes[1], True)


def _check_size(step: Step, given: Sequence[int], made: Sequence[int]) -> None:
    """Raise UnsupportedError where finding the weights would take memory, or time, without end."""
    for size, count in zip(given[2:], made[2:], strict=True):
        if size * count > _LARGEST:
            raise unsupported(step, f"an axis of {size} that becomes {count}")
    if _AT_A_TIME * prod(given[2:]) > 16 * _LARGEST:
        raise unsupported(step, f"images of {prod(given[2:])} pixels")


def _tables(
    step: Step, call: Callable[[Array], Array], size: tuple[int, ...], weighs_nothing: bool
) -> tuple[Taps, Taps]:
    """Which inputs each row and each column is made of, and by what weights.

    Args:
        weighs_nothing: whether some of them may be read and have a weight of 0.
    """
    ones = np.ones((1, 1, *size), np.float32)
    if call(np.zeros_like(ones)).any():
        raise unsupported(step, "a constant beside the image")
    total = call(ones)[0, 0]
    at = np.unravel_index(np.abs(total).argmax(), total.shape)
    scale = total[at]
    if scale == 0:
        raise unsupported(step, "nothing of the image")
    at_a_time = max(1, min(_AT_A_TIME, _ELEMENTS // total.size))
    matrices = []
    for axis, extent in enumerate(size):
        seen = []
        for first in range(0, extent, at_a_time):
            images = np.zeros((min(at_a_time, extent - first), 1, *size), np.float32)
            for i, image in enumerate(images):
                _line(image, axis + 1, first + i)[...] = 1
            found = call(images)[:, 0]
            for other in reversed(range(len(size))):
                if other != axis:
                    found = found.take(at[other], other + 1)
            seen.append(found)
        matrices.append(np.concatenate(seen))
    if len(size) > 1:
        matrices[1] /= scale
    reads = [matrix != 0 for matrix in matrices]
    if weighs_nothing:
        for axis, weighed in enumerate(reads):
            weighed |= _read(call, size, axis, weighed, at_a_time)
    tables = [_taps(matrix, read) for matrix, read in zip(matrices, reads, strict=True)]
    probe = np.random.default_rng(0).random((1, 1, *size), np.float32)
    made = probe[0, 0]
    for axis, taps in enumerate(tables):
        made = _sum(made, axis, taps)
    if not np.allclose(made, call(probe)[0, 0], atol=1e-5):
        raise unsupported(step, "rows and columns that are not apart")
    return (_ONE, tables[0]) if len(size) == 1 else (tables[0], tables[1])


def _read(
    call: Callable[[Array], Array],
    size: tuple[int, ...],
    axis: int,
    weighed: Array,
    at_a_time: int,
) -> Array:
    """Which inputs of an axis each output reads, [inputs, outputs]: those whose NaN reaches it.

    They are among those that have a weight and the few beside them, so that all that are far enough
    apart are asked about at once.
    """
    near = weighed.copy()
    for by in range(1, _BESIDE + 1):
        near[by:] |= weighed[:-by]
        near[:-by] |= weighed[by:]
    at = np.arange(size[axis])[:, None]
    first, last = np.where(near, at, size[axis]).min(0), np.where(near, at, -1).max(0)
    apart = min(size[axis], int((last - first).max()) + 1)
    others = tuple(a + 1 for a in range(len(size)) if a != axis)
    seen = []
    for begin in range(0, apart, at_a_time):
        images = np.zeros((min(at_a_time, apart - begin), 1, *size), np.float32)
        for i, image in enumerate(images):
            _line(image, axis + 1, slice(begin + i, None, apart))[...] = np.nan
        seen.append(np.isnan(call(images)[:, 0]).any(others))
    return near & np.concatenate(seen)[at[:, 0] % apart]


def _line(image: Array, axis: int, which: int | slice) -> Array:
    """Some rows, or columns, of an image."""
    return image[(slice(None),) * axis + (which,)]


def _sum(x: Array, axis: int, taps: Taps) -> Array:
    """What an axis becomes by these taps."""
    at, weights = map(np.array, taps)
    ends = (-1,) + (1,) * (x.ndim - 1 - axis)
    return sum(x.take(at[:, k], axis) * weights[:, k].reshape(ends) for k in range(at.shape[1]))


def _taps(matrix: Array, read: Array) -> Taps:
    """[inputs, outputs] as the inputs of each output and their weights, as many for each."""
    most = max(1, int(read.sum(0).max()))
    at, weights = [], []
    for column, those in zip(matrix.T, read.T, strict=True):
        found = those.nonzero()[0].tolist()
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
