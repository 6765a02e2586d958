"""NaN, infinities, casts, odd shapes, and inputs that do not fit, against NumPy and torch.nn."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from fastgan import onnx_backend
from fastgan.errors import FastganError, UnsupportedError
from tests.unit.ops.onnx_nodes import RNG, close, floats, run

pytestmark = pytest.mark.usefixtures("one_thread")


# Numbers ---------------------------------------------------------------------------------------

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
        # PyTorch's is 0 of NaN; ONNX's reference, which is NumPy, and ONNX Runtime keep it.
        ("Sign", 13, lambda x: torch.from_numpy(np.sign(x.numpy()))),
    ],
)
def test_nan_and_infinity_pass_as_in_torch(op: str, opset: int, module: Any) -> None:
    expected = module(torch.from_numpy(SPECIAL.copy()))
    close(run(op, opset, SPECIAL), expected)


@pytest.mark.parametrize("op", ["Sin", "Cos"])
def test_sines_are_the_nearest_floats(op: str) -> None:
    """At the extremes too, where one that is less than 1 has another Floor."""
    turns = np.concatenate([np.zeros(1000), np.arange(1000) % 50]) * np.pi / 2
    x = (turns + RNG.normal(0, 3e-4, turns.size)).astype(np.float32)
    expected = getattr(np, op.lower())(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(run(op, 13, x), expected)


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


# Shapes ----------------------------------------------------------------------------------------


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


# Refusals --------------------------------------------------------------------------------------


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
