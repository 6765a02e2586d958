"""Old opsets, of which ONNX's node cases have little, against NumPy and torch.nn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fastgan.errors import UnsupportedError
from tests.unit.ops.onnx_nodes import close, floats, reference, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_rows_before_opset_13_take_all_later_axes(op: str, axis: int) -> None:
    x = floats(2, 3, 4)
    start = axis % 3
    rows = torch.from_numpy(x).flatten(start)
    expected = {
        "Softmax": lambda r: torch.softmax(r, start),
        "LogSoftmax": lambda r: torch.log_softmax(r, start),
        "Hardmax": lambda r: F.one_hot(r.argmax(start), r.shape[start]).float(),
    }[op](rows)
    close(run(op, 11, x, axis=axis), expected.reshape(2, 3, 4))


@pytest.mark.parametrize("opset", [1, 6])
def test_prelu_with_a_slope_per_channel_before_opset_7(opset: int) -> None:
    x, slope = floats(2, 3, 4, 4), floats(3)
    expected = F.prelu(torch.from_numpy(x), torch.from_numpy(slope))
    close(run("PRelu", opset, x, slope), expected)


@pytest.mark.parametrize("opset", [1, 6, 7, 9, 14, 15])
@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_batch_normalization_for_inference(opset: int, rank: int) -> None:
    x = floats(2, 3, *[4] * (rank - 2))
    scale, bias, mean = floats(3), floats(3), floats(3)
    variance = np.abs(floats(3)) + 0.1
    attributes: dict[str, Any] = {"epsilon": 0.8}
    attributes |= {"is_test": 1, "spatial": 1} if opset < 7 else {}
    attributes |= {"consumed_inputs": [0, 0, 0, 1, 1]} if opset == 1 else {}
    t = [torch.from_numpy(a) for a in (x, mean, variance, scale, bias)]
    expected = F.batch_norm(*t, training=False, eps=0.8)
    close(run("BatchNormalization", opset, x, scale, bias, mean, variance, **attributes), expected)


@pytest.mark.parametrize("opset", [6, 7])
def test_batch_normalization_per_activation(opset: int) -> None:
    x = floats(2, 3, 4)
    scale, bias, mean = floats(3, 4), floats(3, 4), floats(3, 4)
    variance = np.abs(floats(3, 4)) + 0.1
    extra = {"is_test": 1} if opset < 7 else {}
    y = run("BatchNormalization", opset, x, scale, bias, mean, variance, spatial=0, **extra)
    close(y, (x - mean) / np.sqrt(variance + np.float32(1e-5)) * scale + bias, rtol=1e-4)


def test_batch_normalization_in_training_mode_normalises_by_the_batch() -> None:
    x, scale, bias, mean = floats(4, 3, 5), floats(3), floats(3), floats(3)
    variance = np.abs(floats(3)) + 0.1
    t = [torch.from_numpy(a.copy()) for a in (x, mean, variance, scale, bias)]
    expected = F.batch_norm(*t, training=True, momentum=0.1)
    results = run(
        "BatchNormalization", 15, x, scale, bias, mean, variance, outputs=3, training_mode=1
    )
    close(results[0], expected, rtol=1e-4)
    close(results[1], t[1])
    only = run("BatchNormalization", 15, x, scale, bias, mean, variance, training_mode=1)
    close(only, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("op", "numpy"),
    [
        ("ReduceSum", np.sum),
        ("ReduceMean", np.mean),
        ("ReduceMax", np.max),
        ("ReduceMin", np.min),
        ("ReduceProd", np.prod),
        ("ReduceL1", lambda x, **k: np.sum(np.abs(x), **k)),
        ("ReduceL2", lambda x, **k: np.sqrt(np.sum(x * x, **k))),
        ("ReduceSumSquare", lambda x, **k: np.sum(x * x, **k)),
        ("ReduceLogSumExp", lambda x, **k: np.log(np.sum(np.exp(x), **k))),
        ("ReduceLogSum", lambda x, **k: np.log(np.sum(x, **k))),
    ],
)
@pytest.mark.parametrize("axes", [None, [1], [0, -1], [2, 0]])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [9, 11, 13, 18])
def test_reductions(op: str, numpy: Any, axes: Any, keepdims: int, opset: int) -> None:
    x = np.abs(floats(2, 3, 4)) + np.float32(0.1)
    as_input = opset >= (13 if op == "ReduceSum" else 18)
    where = None if axes is None else np.array(axes, np.int64)
    if as_input:
        y = run(op, opset, x, where, keepdims=keepdims)
    else:
        y = run(op, opset, x, keepdims=keepdims, **({} if axes is None else {"axes": axes}))
    over = None if axes is None else tuple(axes)
    close(y, np.float32(numpy(x, axis=over, keepdims=bool(keepdims))))


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceMean"])
def test_reduction_over_no_axes(op: str) -> None:
    x = floats(3, 2)
    y = run(op, 18, x, np.zeros(0, np.int64), noop_with_empty_axes=1)
    expected = {"ReduceMean": x, "ReduceSumSquare": x * x}.get(op, np.abs(x))
    close(y, expected)


def test_integer_means_truncate() -> None:
    x = np.array([[-3, -4], [3, 4]], np.int64)
    np.testing.assert_array_equal(run("ReduceMean", 17, x, axes=[1], keepdims=0), [-3, 3])


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_squeeze_and_unsqueeze(opset: int) -> None:
    x, axes = floats(2, 3), [0, -1]
    arguments = {"axes": axes} if opset < 13 else {}
    extra = () if opset < 13 else (np.array(axes, np.int64),)
    wide = run("Unsqueeze", opset, x, *extra, **arguments)
    assert wide.shape == (1, 2, 3, 1)
    close(run("Squeeze", opset, wide, *extra, **arguments), x)
    close(run("Squeeze", opset, wide), x)


def test_squeeze_of_a_wide_axis_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="not all of size 1"):
        run("Squeeze", 13, floats(2, 3), np.array([0], np.int64))


@pytest.mark.parametrize("opset", [2, 11, 13, 18])
def test_split(opset: int) -> None:
    x = floats(2, 7)
    sizes = [3, 4]
    if opset < 13:
        parts = run("Split", opset, x, outputs=2, axis=1, split=sizes)
    else:
        parts = run("Split", opset, x, np.array(sizes, np.int64), outputs=2, axis=1)
    for part, expected in zip(parts, np.split(x, [3], axis=1), strict=True):
        close(part, expected)
    equal = {"num_outputs": 2} if opset >= 18 else {}
    halves = run("Split", opset, x[:, :6], outputs=2, axis=1, **equal)
    close(halves[1], x[:, 3:6])


@pytest.mark.parametrize("opset", [6, 7, 10])
def test_dropout_is_the_identity(opset: int) -> None:
    x = floats(2, 3)
    extra = {"is_test": 1} if opset == 6 else {}
    close(run("Dropout", opset, x, ratio=0.3, **extra), x)


@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize(("shape", "axis"), [((3,), 1), ((4, 5), 2), ((), None), ((5,), None)])
def test_broadcasting_before_opset_7(opset: int, shape: tuple[int, ...], axis: Any) -> None:
    x, y = floats(2, 3, 4, 5), floats(*shape)
    where = {} if axis is None else {"axis": axis}
    aligned = y.reshape(*shape, *[1] * (4 - axis - len(shape))) if axis is not None else y
    close(run("Mul", opset, x, y, broadcast=1, **where), x * aligned)


@pytest.mark.parametrize("opset", [7, 9])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(opset: int, mode: str) -> None:
    x, scales = floats(1, 2, 3, 4), [1.0, 1.0, 2.0, 3.0]
    if opset == 7:
        y = run("Upsample", 7, x, scales=scales, mode=mode)
    else:
        y = run("Upsample", 9, x, np.array(scales, np.float32), mode=mode)
    if mode == "nearest":
        close(y, x.repeat(2, axis=2).repeat(3, axis=3))
    else:
        resized = reference(
            "Resize",
            13,
            x,
            None,
            np.array(scales, np.float32),
            mode="linear",
            coordinate_transformation_mode="asymmetric",
        )
        close(y, resized)


def test_resize_of_opset_10() -> None:
    x = floats(1, 2, 4, 6)
    scales = np.array([1, 1, 0.5, 2], np.float32)
    y = run("Resize", 10, x, scales, mode="nearest")
    close(y, x[:, :, ::2].repeat(2, axis=3))


@pytest.mark.parametrize("opset", [1, 10, 11])
def test_top_k(opset: int) -> None:
    x = floats(3, 7)
    if opset == 1:
        values, places = run("TopK", 1, x, outputs=2, k=3)
    else:
        values, places = run("TopK", opset, x, np.array([3], np.int64), outputs=2)
    expected = torch.from_numpy(x).topk(3)
    close(values, expected.values)
    close(places, expected.indices)


def test_clip_of_opset_6() -> None:
    x = np.array([np.nan, -5, 0.5, 5], np.float32)
    np.testing.assert_array_equal(run("Clip", 6, x, min=-1.0, max=1.0), np.clip(x, -1, 1))
    np.testing.assert_array_equal(run("Clip", 6, x), x)


def test_group_normalization_of_opset_18_scales_groups() -> None:
    x, scale, bias = floats(2, 6, 4), floats(3), floats(3)
    expected = F.group_norm(
        torch.from_numpy(x),
        3,
        torch.from_numpy(scale.repeat(2)),
        torch.from_numpy(bias.repeat(2)),
    )
    close(run("GroupNormalization", 18, x, scale, bias, num_groups=3), expected)


def test_global_lp_pool() -> None:
    x = floats(2, 3, 4, 5)
    expected = (np.abs(x.astype(np.float64)) ** 3).sum((2, 3), keepdims=True) ** (1 / 3)
    close(run("GlobalLpPool", 13, x, p=3), expected.astype(np.float32))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_local_response_normalization(size: int) -> None:
    x = floats(2, 5, 3, 3)
    total = np.zeros_like(x)
    for c in range(5):
        low, high = max(0, c - (size - 1) // 2), min(4, c + -(-(size - 1) // 2))
        total[:, c] = (x[:, low : high + 1] ** 2).sum(1)
    expected = x / (1.5 + np.float32(0.3) / size * total) ** np.float32(0.6)
    close(run("LRN", 13, x, size=size, alpha=0.3, beta=0.6, bias=1.5), expected)
