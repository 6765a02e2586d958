"""What ONNX's node cases leave out: old opsets, odd geometry, NaN, against NumPy, torch.nn and
ONNX's reference evaluator, with fresh random inputs.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from fastgan import latents, onnx_backend
from fastgan.errors import FastganError, UnsupportedError
from fastgan.ops import random as noise_ops
from tests import drawing

RNG = drawing.new_numpy()


pytestmark = pytest.mark.usefixtures("one_thread")


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def run(op: str, opset: int, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
    """The op on fastgan: its outputs, or its only one."""
    node = make(op, inputs, outputs, attributes)
    given = [np.asarray(x) for x in inputs if x is not None]
    results = onnx_backend.run_node(node, given, opset_version=opset)
    return results[0] if outputs == 1 else results


def make(op: str, inputs: Any, outputs: int, attributes: dict[str, Any]) -> onnx.NodeProto:
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    return helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)


def reference(op: str, opset: int, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
    """The op on ONNX's reference evaluator."""
    node = make(op, inputs, outputs, attributes)
    named = {f"x{i}": np.asarray(x) for i, x in enumerate(inputs) if x is not None}
    infos = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in named.items()
    ]
    ends = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    graph = helper.make_graph([node], "g", infos, ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    results = ReferenceEvaluator(model).run(None, named)
    return results[0] if outputs == 1 else results


def close(actual: np.ndarray, expected: Any, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    expected = expected.numpy() if isinstance(expected, torch.Tensor) else np.asarray(expected)
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


# Old opsets -----------------------------------------------------------------------------------


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


# Numbers --------------------------------------------------------------------------------------

SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 0.7], np.float32)


@pytest.mark.parametrize(
    ("op", "opset", "module"),
    [
        ("Relu", 14, F.relu),
        ("LeakyRelu", 16, F.leaky_relu),
        ("Elu", 22, F.elu),
        ("Selu", 22, F.selu),
        ("Celu", 12, F.celu),
        ("Sigmoid", 13, torch.sigmoid),
        ("Tanh", 13, torch.tanh),
        ("Softplus", 22, F.softplus),
        ("Softsign", 22, F.softsign),
        ("HardSwish", 22, F.hardswish),
        ("Mish", 22, F.mish),
        ("Gelu", 20, F.gelu),
        ("Swish", 24, F.silu),
        ("Erf", 13, torch.erf),
        ("Sqrt", 13, torch.sqrt),
        ("Reciprocal", 13, torch.reciprocal),
        ("Exp", 13, torch.exp),
        ("Log", 13, torch.log),
        ("Round", 11, torch.round),
        ("Floor", 13, torch.floor),
        ("Sign", 13, torch.sign),
    ],
)
def test_nan_and_infinity_pass_as_in_torch(op: str, opset: int, module: Any) -> None:
    expected = module(torch.from_numpy(SPECIAL.copy()))
    close(run(op, opset, SPECIAL), expected)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_nan_wins_in_extremes(op: str) -> None:
    y = run(op, 13, SPECIAL, np.zeros_like(SPECIAL))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(SPECIAL))


def test_clip_keeps_nan_and_obeys_the_upper_bound() -> None:
    low, high = np.float32(2), np.float32(-1)
    y = run("Clip", 13, SPECIAL, low, high)
    np.testing.assert_array_equal(y, np.where(np.isnan(SPECIAL), SPECIAL, high))


@pytest.mark.parametrize("mode", ["max", "average"])
def test_nan_in_a_pool(mode: str) -> None:
    x = floats(1, 1, 6, 6)
    x[0, 0, 2, 2] = np.nan
    op = "MaxPool" if mode == "max" else "AveragePool"
    module = F.max_pool2d if mode == "max" else F.avg_pool2d
    y = run(op, 13, x, kernel_shape=[2, 2], strides=[2, 2])
    close(y, module(torch.from_numpy(x), 2, 2))
    uneven = run(op, 13, x, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1], ceil_mode=1)
    assert np.isnan(uneven).sum() == 1


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int8, np.uint8])
def test_integer_division_truncates(dtype: Any) -> None:
    a = np.array([7, -7, 7, -7], np.int64).astype(dtype)
    b = np.array([2, 2, -2, -2], np.int64).astype(dtype)
    expected = np.trunc(a.astype(np.float64) / b.astype(np.float64)).astype(dtype)
    np.testing.assert_array_equal(run("Div", 14, a, b), expected)
    np.testing.assert_array_equal(run("Mod", 13, a, b), np.mod(a, b))
    np.testing.assert_array_equal(run("Mod", 13, a, b, fmod=1), np.fmod(a, b))


@pytest.mark.parametrize("base", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("exponent", [np.float32, np.int32, np.int64])
def test_power_has_the_type_of_its_base(base: Any, exponent: Any) -> None:
    x, y = np.array([1, 2, 3]).astype(base), np.array([2, 3, 2]).astype(exponent)
    close(run("Pow", 15, x, y), np.power(x, y).astype(base))


NUMBERS = (np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8)


@pytest.mark.parametrize("source", [*NUMBERS, np.bool_])
@pytest.mark.parametrize("target", [*NUMBERS, np.bool_])
def test_cast(source: Any, target: Any) -> None:
    x = np.array([0, 1, 2, 100]).astype(source)
    y = run("Cast", 13, x, to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))
    np.testing.assert_array_equal(y, x.astype(target))
    assert y.dtype == target


def test_cast_to_float16_overflows_to_infinity() -> None:
    y = run("Cast", 13, np.array([1e6, -1e6, 65504], np.float32), to=onnx.TensorProto.FLOAT16)
    np.testing.assert_array_equal(y, np.array([np.inf, -np.inf, 65504], np.float16))


# Shapes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "target", "allowzero", "expected"),
    [
        ((2, 3, 4), [0, -1], 0, (2, 12)),
        ((2, 3, 4), [4, 0, 2], 0, (4, 3, 2)),
        ((0, 3), [0, -1], 0, None),
        ((0, 3), [3, 0], 1, (3, 0)),
        ((0, 3), [-1, 3], 0, (0, 3)),
        ((1,), [], 0, ()),
        ((), [1, 1], 0, (1, 1)),
        ((6,), [4, -1], 0, None),
    ],
)
def test_reshape(shape: Any, target: Any, allowzero: int, expected: Any) -> None:
    x, sizes = floats(*shape), np.array(target, np.int64)
    if expected is None:
        with pytest.raises(UnsupportedError, match="do not fill"):
            run("Reshape", 14, x, sizes)
        return
    y = run("Reshape", 14, x, sizes, allowzero=allowzero)
    assert y.shape == expected
    np.testing.assert_array_equal(y.reshape(-1), x.reshape(-1))


edges = st.integers(-12, 12)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 6), edges, edges, st.integers(-4, 4).filter(bool))
def test_slice_clamps_as_numpy_does(extent: int, start: int, end: int, step: int) -> None:
    x = np.arange(2 * extent, dtype=np.float32).reshape(2, extent)
    starts, ends, axes, steps = (np.array([v], np.int64) for v in (start, end, -1, step))
    stop = None if step < 0 and end < -extent else end
    y = run("Slice", 13, x, starts, ends, axes, steps)
    np.testing.assert_array_equal(y, x[:, start:stop:step])


def test_slice_to_the_very_end_and_back() -> None:
    x = np.arange(5, dtype=np.int64)
    big, least = np.array([2**63 - 1], np.int64), np.array([-(2**63)], np.int64)
    zero, back = np.array([0], np.int64), np.array([-1], np.int64)
    np.testing.assert_array_equal(run("Slice", 13, x, zero, big), x)
    np.testing.assert_array_equal(run("Slice", 13, x, big, least, zero, back), x[::-1])


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(["constant", "reflect", "edge", "wrap"]),
    st.lists(st.integers(2, 4), min_size=1, max_size=5),
    st.data(),
)
def test_pad_as_numpy_does(mode: str, shape: list[int], data: Any) -> None:
    pads = data.draw(st.lists(st.integers(-1, 5), min_size=2 * len(shape), max_size=2 * len(shape)))
    pairs = list(zip(pads[: len(shape)], pads[len(shape) :], strict=True))
    x = floats(*shape)
    # A negative pad crops, before what is left repeats: so has ONNX Runtime it.
    cut = tuple(slice(-min(b, 0), n + min(e, 0)) for n, (b, e) in zip(shape, pairs, strict=True))
    assume(0 not in x[cut].shape)
    grown = np.pad(x[cut], [(max(b, 0), max(e, 0)) for b, e in pairs], mode)
    y = run("Pad", 19, x, np.array(pads, np.int64), mode=mode)
    np.testing.assert_array_equal(y, grown)
    if mode != "wrap":
        np.testing.assert_array_equal(run("Pad", 2, x, pads=pads, mode=mode), y)


def test_pad_with_axes_value_and_integers() -> None:
    x = np.arange(6, dtype=np.int64).reshape(2, 3)
    y = run("Pad", 18, x, np.array([1, 2], np.int64), np.array(7, np.int64), np.array([-1]))
    np.testing.assert_array_equal(y, np.pad(x, [(0, 0), (1, 2)], constant_values=7))


def test_zero_pads_and_no_op_slices_pass_the_input_on() -> None:
    node = helper.make_node("Pad", ["x", "p"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 3])],
        [helper.make_tensor_value_info("y", 1, [2, 3])],
        [helper.make_tensor("p", 7, [4], [0, 0, 0, 0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    representation = onnx_backend.prepare(model)
    representation.run([floats(2, 3)])
    assert [step.op for step in representation.plans[0].steps] == ["Identity"]


# Windows --------------------------------------------------------------------------------------


def conv_transpose_by_hand(x, w, strides, dilations, pads, extra) -> np.ndarray:
    """Each input pixel adds its kernel to the output; for two axes and one group."""
    n, _, h, width = x.shape
    _, channels, kh, kw = w.shape
    full_h = (h - 1) * strides[0] + dilations[0] * (kh - 1) + 1 + extra[0]
    full_w = (width - 1) * strides[1] + dilations[1] * (kw - 1) + 1 + extra[1]
    full = np.zeros((n, channels, full_h, full_w))
    for i, j, k, m in itertools.product(range(h), range(width), range(kh), range(kw)):
        row, column = i * strides[0] + k * dilations[0], j * strides[1] + m * dilations[1]
        full[:, :, row, column] += np.einsum("nc,co->no", x[:, :, i, j], w[:, :, k, m])
    return full[:, :, pads[0] : full_h - pads[2], pads[1] : full_w - pads[3]]


small = st.integers(0, 2)


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(small, small, small, small),
    st.tuples(small, small),
)
def test_conv_transpose_by_hand(kernel, strides, dilations, pads, extra) -> None:
    x, w = floats(2, 3, 3, 4), floats(3, 2, *kernel)
    expected = conv_transpose_by_hand(x, w, strides, dilations, pads, extra)
    assume(min(expected.shape[2:]) > 0)
    y = run(
        "ConvTranspose",
        11,
        x,
        w,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=extra,
    )
    close(y, expected.astype(np.float32), atol=1e-4)


@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("output_shape", [None, [10, 9], [9, 8], [6, 6]])
def test_conv_transpose_to_an_output_shape(auto_pad: str, output_shape: Any) -> None:
    if auto_pad == "NOTSET" and output_shape is None:
        pytest.skip("that is the plain case")
    x, w = floats(1, 2, 4, 4), floats(2, 3, 3, 3)
    wanted = {} if output_shape is None else {"output_shape": output_shape}
    y = run("ConvTranspose", 11, x, w, strides=[2, 2], auto_pad=auto_pad, **wanted)
    size = output_shape or [8, 8]
    assert y.shape == (1, 3, *size)
    full = F.conv_transpose2d(torch.from_numpy(x), torch.from_numpy(w), stride=2).numpy()
    begins = []
    for want in size:
        total = 9 - want  # (4 - 1) * 2 + 3 = 9
        half = max(total, 0) // 2
        begins.append(half if auto_pad == "SAME_UPPER" else max(total, 0) - half)
    rows, columns = (min(want, 9 - begin) for want, begin in zip(size, begins, strict=True))
    inside = full[:, :, begins[0] : begins[0] + rows, begins[1] : begins[1] + columns]
    close(y[:, :, :rows, :columns], inside, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    st.sampled_from([1, 2]),
)
def test_conv_against_the_reference(kernel, stride, dilation, auto_pad, group) -> None:
    x, w, b = floats(1, 4, 7, 6), floats(4, 4 // group, kernel, kernel), floats(4)
    attributes: dict[str, Any] = {
        "strides": [stride] * 2,
        "dilations": [dilation] * 2,
        "group": group,
    }
    if auto_pad == "NOTSET":
        attributes["pads"] = [1, 0, 2, 1]
    reach = dilation * (kernel - 1) + 1
    assume(auto_pad.startswith("SAME") is False or dilation == 1)
    assume(reach <= 6)
    expected = reference("Conv", 11, x, w, b, auto_pad=auto_pad, **attributes)
    y = run("Conv", 11, x, w, b, auto_pad=auto_pad, **attributes)
    close(y, expected, atol=1e-4)


def windows_by_hand(x, kernel, strides, pads, dilations, ceil_mode) -> list[list[np.ndarray]]:
    """The elements of x, without the pads, under each window of a one-dimensional pool."""
    reach = dilations * (kernel - 1) + 1
    room = len(x) + pads[0] + pads[1] - reach
    count = room // strides + 1
    if ceil_mode and room % strides and count * strides < len(x) + pads[0]:
        count += 1
    places = [[i * strides - pads[0] + k * dilations for k in range(kernel)] for i in range(count)]
    return [[x[p] for p in window if 0 <= p < len(x)] for window in places]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.tuples(small, small),
    st.integers(1, 2),
    st.booleans(),
)
def test_pools_by_hand(kernel, stride, pads, dilation, ceil_mode) -> None:
    x = floats(7)
    assume(max(pads) < dilation * (kernel - 1) + 1 <= 7)
    found = windows_by_hand(x, kernel, stride, pads, dilation, ceil_mode)
    assume(all(found))
    attributes = {
        "kernel_shape": [kernel],
        "strides": [stride],
        "pads": list(pads),
        "dilations": [dilation],
        "ceil_mode": int(ceil_mode),
    }
    x = x.reshape(1, 1, -1)
    close(run("MaxPool", 12, x, **attributes)[0, 0], np.float32([max(w) for w in found]))
    averages = run("AveragePool", 19, x, **attributes)[0, 0]
    close(averages, np.float32([np.mean(w) for w in found]))
    norms = run("LpPool", 18, x, **attributes)[0, 0]
    close(norms, np.float32([np.sqrt(np.sum(np.square(w))) for w in found]))


def test_max_pool_of_integers() -> None:
    x = RNG.integers(-100, 100, (1, 2, 6, 6)).astype(np.int8)
    y = run("MaxPool", 12, x, kernel_shape=[2, 2], strides=[2, 2])
    np.testing.assert_array_equal(y, x.reshape(1, 2, 3, 2, 3, 2).max((3, 5)))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("size", [(3, 4), (2, 5)])
def test_a_window_that_reaches_beyond_the_input(op: str, size: tuple[int, int]) -> None:
    """With ceil_mode there is one, as in the reference; without, none fits."""
    x, opset = floats(1, 2, *size), 22
    windows = {"kernel_shape": [3, 5] if size == (2, 5) else [4, 4], "strides": [2, 2]}
    expected = reference(op, opset, x, ceil_mode=1, **windows)
    assert expected.shape == (1, 2, 1, 1)
    close(run(op, opset, x, ceil_mode=1, **windows), expected)
    with pytest.raises(FastganError, match="a window of"):
        run(op, opset, x, **windows)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [2, 3, 4, 5])
def test_a_transposed_kernel_below_its_stride(auto_pad: str, stride: int) -> None:
    """As many elements as ONNX says, size times stride, those beyond the last tap zeros."""
    x, weight = floats(2, 3, 5), floats(3, 2, 1)
    y = run("ConvTranspose", 11, x, weight, auto_pad=auto_pad, strides=[stride])
    expected = np.zeros((2, 2, 5 * stride), np.float32)
    expected[:, :, ::stride] = np.einsum("ncx,co->nox", x, weight[:, :, 0])
    close(y, expected)


# Resize ---------------------------------------------------------------------------------------

MODES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.sampled_from(MODES),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    # Scales that float32 holds exactly: the reference computes in float64, ONNX Runtime and we in
    # float32, and "nearest" to a number that only rounding tells from a half is another pixel.
    st.sampled_from([0.5, 0.625, 0.75, 1.0, 1.5, 2.0, 2.625, 3.0, 4.0]),
    st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    st.booleans(),
    st.booleans(),
)
def test_resize_against_the_reference(
    mode, coordinates, rounding, high, wide, exclude, antialias
) -> None:
    assume(not (mode == "nearest" and (antialias or exclude)))
    x = floats(1, 2, 4, 5)
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": rounding,
        "exclude_outside": int(exclude),
        "antialias": int(antialias),
    }
    scales = np.array([1, 1, high, wide], np.float32)
    expected = reference("Resize", 19, x, None, scales, **attributes)
    close(run("Resize", 19, x, None, scales, **attributes), expected, atol=1e-4)


@pytest.mark.parametrize("rank", [3, 4, 5])
@pytest.mark.parametrize("opset", [11, 13, 18, 19])
def test_resize_to_sizes(rank: int, opset: int) -> None:
    x = floats(2, 3, *[4] * (rank - 2))
    sizes = [2, 3, *[8, 6, 7][: rank - 2]]
    kind = {3: "linear", 4: "bilinear", 5: "trilinear"}[rank]
    y = run(
        "Resize",
        opset,
        x,
        np.zeros(0, np.float32) if opset == 11 else None,
        np.zeros(0, np.float32) if opset == 11 else None,
        np.array(sizes, np.int64),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    close(y, F.interpolate(torch.from_numpy(x), sizes[2:], mode=kind))


@pytest.mark.parametrize("scale", [2, 3, 4, 5, 7])
def test_nearest_by_whole_scales_repeats_pixels(scale: int) -> None:
    x = floats(1, 1, 50, 1)
    for coordinates, rounding in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")):
        y = run(
            "Resize",
            13,
            x,
            None,
            np.array([1, 1, scale, 1], np.float32),
            mode="nearest",
            coordinate_transformation_mode=coordinates,
            nearest_mode=rounding,
        )
        np.testing.assert_array_equal(y, x.repeat(scale, axis=2))


# Random numbers -------------------------------------------------------------------------------


def noise_model(op: str, nodes: int = 1, **attributes: Any) -> onnx.ModelProto:
    like = op.endswith("Like")
    made = [
        helper.make_node(op, ["x"] if like else [], [f"n{i}"], **attributes) for i in range(nodes)
    ]
    made.append(helper.make_node("Concat", [f"n{i}" for i in range(nodes)], ["y"], axis=1))
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 8])],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def drawn(model: onnx.ModelProto, count: int) -> np.ndarray:
    return onnx_backend.run_model(model, [np.zeros((count, 8), np.float32)])[0]


def test_noise_is_the_same_on_every_run_and_for_every_batch() -> None:
    model = noise_model("RandomNormalLike")
    many = drawn(model, 64)
    np.testing.assert_array_equal(many, drawn(model, 64))
    np.testing.assert_array_equal(many[:5], drawn(model, 5))
    expected = latents.sample("normal", 64, (8,), stream=noise_ops.FIRST_STREAM)
    np.testing.assert_array_equal(many, expected.numpy())


def test_noise_differs_from_node_to_node() -> None:
    y = drawn(noise_model("RandomNormalLike", nodes=2), 16)
    assert not np.isin(y[:, :8], y[:, 8:]).any()


def test_noise_has_the_distribution_asked_for() -> None:
    normal = drawn(noise_model("RandomNormalLike", mean=3.0, scale=0.5), 20_000)
    assert abs(normal.mean() - 3) < 0.01
    assert abs(normal.std() - 0.5) < 0.01
    uniform = drawn(noise_model("RandomUniformLike", low=-2.0, high=4.0), 20_000)
    assert -2 <= uniform.min() < -1.99
    assert 3.99 < uniform.max() < 4
    assert abs(uniform.mean() - 1) < 0.03


@pytest.mark.parametrize("op", ["RandomNormal", "RandomUniform"])
def test_noise_of_a_fixed_shape_is_drawn_when_the_model_runs(op: str) -> None:
    representation = onnx_backend.prepare(noise_model(op, shape=[3, 8]))
    x = np.zeros((1, 8), np.float32)
    (first,) = representation.run([x])
    assert [step.op for step in representation.plans[0].steps] == [op]
    with noise_ops.using_noise(lambda shape, distribution, node: torch.zeros(shape)):
        (off,) = representation.run([x])
    assert first.any()
    assert not off.any()
    np.testing.assert_array_equal(first, representation.run([x])[0])


# Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "opset", "inputs", "attributes"),
    [
        ("Conv", 11, [(1, 3, 4, 4), (2, 4, 3, 3)], {}),
        ("Conv", 11, [(1, 3, 2, 2), (2, 3, 3, 3)], {}),
        ("Concat", 13, [(2, 3), (3, 3)], {"axis": 1}),
        ("Add", 13, [(2, 3), (2, 4)], {}),
        ("MatMul", 13, [(2, 3), (2, 3)], {}),
        ("Gemm", 13, [(2, 3), (2, 3)], {}),
        ("Transpose", 13, [(2, 3)], {"perm": [0, 0]}),
        ("Softmax", 13, [(2, 3)], {"axis": 2}),
        ("Split", 13, [(4, 3)], {"axis": 4}),
        ("MaxPool", 12, [(1, 1, 2, 2)], {"kernel_shape": [3, 3]}),
        ("DepthToSpace", 13, [(1, 3, 2, 2)], {"blocksize": 2}),
        ("SpaceToDepth", 13, [(1, 3, 3, 2)], {"blocksize": 2}),
        ("Einsum", 12, [(2, 3), (4, 5)], {"equation": "ij,jk->ik"}),
    ],
)
def test_inputs_that_do_not_fit_are_refused(op, opset, inputs, attributes) -> None:
    arrays = [floats(*shape) for shape in inputs]
    with pytest.raises(FastganError):
        run(op, opset, *arrays, **attributes)


# Recurrent layers -----------------------------------------------------------------------------

#: Where ONNX has each of torch's gates.
GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, [5, 2, 4]])
def test_recurrent_layers_as_in_torch(op: str, bidirectional: bool, lengths: Any) -> None:
    module = getattr(torch.nn, op)(4, 6, bidirectional=bidirectional)
    x = torch.randn(5, 3, 4)
    directions = ["", "_reverse"][: 1 + bidirectional]

    def gathered(kind: str) -> np.ndarray:
        rows = []
        for suffix in directions:
            gates = getattr(module, f"{kind}_l0{suffix}").detach().chunk(len(GATES[op]))
            rows.append(torch.cat([gates[i] for i in GATES[op]]))
        return torch.stack(rows).numpy()

    biases = np.concatenate([gathered("bias_ih"), gathered("bias_hh")], axis=1)
    # ONNX has update, reset, new; torch has reset, update, new with the linear map first.
    extra = {"linear_before_reset": 1} if op == "GRU" else {}
    direction = "bidirectional" if bidirectional else "forward"
    inputs = [x.numpy(), gathered("weight_ih"), gathered("weight_hh"), biases]
    if lengths is not None:
        inputs.append(np.array(lengths, np.int32))
    results = run(
        op,
        22,
        *inputs,
        outputs=3 if op == "LSTM" else 2,
        hidden_size=6,
        direction=direction,
        activations={"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"]}.get(
            op, ["Sigmoid", "Tanh", "Tanh"]
        )
        * len(directions),
        **extra,
    )
    with torch.no_grad():
        if lengths is None:
            y, last = module(x)
        else:
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            packed, last = module(packed)
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(packed)
    expected = y.reshape(5, 3, len(directions), 6).transpose(1, 2)
    close(results[0], expected)
    for got, state in zip(results[1:], last if op == "LSTM" else (last,), strict=True):
        close(got, state)


def test_other_activations_are_refused() -> None:
    x, w, r = floats(2, 1, 3), floats(1, 4, 3), floats(1, 4, 4)
    with pytest.raises(UnsupportedError, match="Relu"):
        run("RNN", 14, x, w, r, outputs=2, hidden_size=4, activations=["Relu"])
