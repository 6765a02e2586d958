"""The native graph, held to PyTorch's own ops: each operation on odd sizes, a few together."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.engine.library.executor import PlanExecutable
from fastgan.engine.native import graph, sampling
from fastgan.engine.native.lowering import Lowering
from fastgan.errors import FastganError
from fastgan.images.format import ImageFormat
from fastgan.plan import Buffer, Epilogue, Plan
from fastgan.plan.activations import TABLE
from tests import drawing
from tests.unit.engine.native_networks import (
    CPU,
    OPSET,
    Network,
    Shape,
    add_convolution,
    bind,
    check,
    native_of,
    other,
    run_both,
    threads,
)

__all__ = ["threads"]

pytestmark = pytest.mark.cpu


def test_images_turned_at_the_borders() -> None:
    """From planes to pixels and back: blocks of four by four, and what is left beside them."""
    for n, c, h, w in ((2, 24, 9, 23), (1, 5, 6, 7), (3, 4, 1, 30), (1, 40, 33, 2), (2, 700, 3, 5)):
        net = Network(x=(n, c, h, w))
        last = net.add("Transpose", ["x"], (n, h, w, c), perm=[0, 2, 3, 1])
        part = net.add(
            "Slice", ["x", net.host([1]), net.host([c]), net.host([1])], (n, c - 1, h, w)
        )
        some = net.add("Transpose", [part], (n, h, w, c - 1), perm=[0, 2, 3, 1])
        plan = net.plan(last, some, net.add("Transpose", [last], (n, c, h, w), perm=[0, 3, 1, 2]))
        for found, expected in run_both(plan):
            assert torch.equal(found, expected)


def test_sequences_of_linear_maps() -> None:
    net = Network(z=(2, 7))
    for shape in ((3, 5), (17, 4), (1, 3)):
        columns = int(np.prod(shape))
        names = ["z", net.weight(7, columns), net.weight(columns)]
        given = {"shape": list(shape), "epilogue": Epilogue("tanh", bias=True)}
        net.add("fastgan.Linear", names, (2, *shape), **given)
    check(net.plan(*(name for step in net.steps for name in step.outputs)))


def test_inputs_that_are_outputs_alone() -> None:
    net = Network(x=(2, 3, 4, 4), y=(1, 5, 2), z=(1, 3))
    curve = net.add("Neg", ["z"], (1, 3))
    check(net.plan("x", curve, "y"))


def test_padding_before_the_first_element_is_no_neighbour_of_it() -> None:
    net = Network(x=(1, 17))
    check(net.plan(net.add("Pad", ["x", net.host([1, 2, 1, 1])], (3, 20), mode="constant")))


def test_concatenations_are_written_in_place() -> None:
    draw = drawing.new_random()
    for axis in (1, 2, 3):
        net = Network(x=(2, 5, 6, 6), y=(2, 5, 6, 6))
        one = net.add("fastgan.Activate", ["x"], (2, 5, 6, 6), epilogue=Epilogue("tanh"))
        two = net.add(
            "fastgan.Conv",
            [one, net.weight(5, 5, 1, 1)],
            (2, 5, 6, 6),
            strides=[1, 1],
            pads=[0] * 4,
            dilations=[1, 1],
            group=1,
        )

        def wide(times: int, axis: int = axis) -> Shape:
            return tuple(s * times if i == axis else s for i, s in enumerate((2, 5, 6, 6)))

        inner = net.add("Concat", [two, "y", one], wide(3), axis=axis)
        outer = net.add("Concat", [inner, one, "x", two], wide(6), axis=axis)
        after = add_convolution(net, draw, outer, 4, 1)
        check(net.plan(after, outer, two))


@pytest.mark.parametrize("behind", [False, True])
def test_concatenations_of_a_dense_block_share_their_parts(behind: bool) -> None:
    """Each has all parts of the one before: no part is copied, wherever the new one stands."""
    net = Network(x=(2, 5, 6, 6))
    given = {"strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1], "group": 1}
    parts = [net.add("fastgan.Conv", ["x", net.weight(4, 5, 3, 3)], (2, 4, 6, 6), **given)]
    joined = parts[0]
    for _ in range(4):
        channels = 4 * len(parts)
        weight = net.weight(4, channels, 3, 3, scale=0.1)
        made = net.add("fastgan.Conv", [joined, weight], (2, 4, 6, 6), **given)
        parts = [made, *parts] if behind else [*parts, made]
        joined = net.add("Concat", parts, (2, channels + 4, 6, 6), axis=1)
    last = net.add("fastgan.Conv", [joined, net.weight(4, 20, 1, 1)], (2, 4, 6, 6),
                   **{**given, "pads": [0] * 4})  # fmt: skip
    sum_of = net.add("Add", [last, parts[2]], (2, 4, 6, 6))  # a part has other readers too
    plan = net.plan(sum_of)
    check(plan)
    low = Lowering(plan, OPSET)
    for step in plan.steps:
        count = len(low.planned)
        low.lower(step, graph._TABLE[step.op])
        assert step.op != "Concat" or len(low.planned) == count


def test_parts_of_a_concatenation_that_others_have_too() -> None:
    """An input of the caller's, a part twice, another axis, one that is the caller's as well."""
    net = Network(x=(2, 4, 6, 6), y=(2, 4, 6, 6))
    a = net.add("Neg", ["x"], (2, 4, 6, 6))
    b = net.add("Abs", ["x"], (2, 4, 6, 6))
    inner = net.add("Concat", [a, "y"], (2, 8, 6, 6), axis=1)
    twice = net.add("Concat", [a, a], (2, 8, 6, 6), axis=1)
    rows = net.add("Concat", [a, "y", b], (2, 4, 18, 6), axis=2)
    outer = net.add("Concat", [b, a, "y", a, a, b], (2, 24, 6, 6), axis=1)
    again = net.add("Concat", [b, a, "y", b], (2, 16, 6, 6), axis=1)
    read = [net.add("Exp", [n], net.shapes[n]) for n in (inner, twice, rows, outer, again)]
    check(net.plan(*read, inner, again))
    check(net.plan(*read))


@pytest.mark.parametrize("name", [n for n in TABLE if TABLE[n].instruction])
def test_curves(name: str) -> None:
    net = Network(x=(2, 7, 5, 3))
    row = TABLE[name]
    positive = net.add("Mul", ["x", "x"], (2, 7, 5, 3))  # a logarithm takes no less than 0
    given = positive if name in ("log", "sqrt") else "x"
    if row.parameters:  # only the operator has them
        y = net.add(row.onnx, [given], (2, 7, 5, 3), **dict.fromkeys(row.parameters, 0.7))
    else:
        y = net.add("fastgan.Activate", [given], (2, 7, 5, 3), epilogue=Epilogue(name))
    check(net.plan(y), 2e-6)


def test_operands_that_broadcast() -> None:
    shape = (3, 6, 5, 4)
    net = Network(x=shape, y=(3, 1, 5, 4), z=(6, 1, 1), s=(3, 6, 1, 1))
    a = net.add("Mul", ["x", "y"], shape)
    b = net.add("Sub", ["z", a], shape)
    c = net.add("Div", [b, net.host([3.0], torch.float32)], shape)
    d = net.add("Add", [c, "s"], shape)
    e = net.add("Clip", [d, net.host([-1], torch.float32), net.host([1], torch.float32)], shape)
    f = net.add("Mul", [e, "x"], shape)
    check(net.plan(f, a))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("sizes", [(10, 9), (4, 3), (7, 15)])
def test_resizing(mode: str, sizes: tuple[int, int]) -> None:
    net = Network(x=(2, 5, 7, 6))
    names = ["x", "", "", net.host([2, 5, *sizes])]
    y = net.add("Resize", names, (2, 5, *sizes), mode=mode)
    check(net.plan(y))


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
@pytest.mark.parametrize(("mode", "sizes"), [("cubic", (44, 57)), ("linear", (23, 31))])
def test_few_channels_are_resized_as_many_are(
    channels: int, mode: str, sizes: tuple[int, int]
) -> None:
    """Those of a pixel fill no vector, those of a row do: to the same bits, NaNs too."""
    x = torch.randn(2, 32, 11, 14)
    x[0, :, 0, 0], x[0, :, 10, 6], x[1, :, 4, 13] = math.inf, math.nan, -math.inf
    made = []
    for count in (channels, 32):
        net = Network(x=(2, count, 11, 14))
        names = ["x", "", "", net.host([2, count, *sizes])]
        y = net.add("Resize", names, (2, count, *sizes), mode=mode)
        made.append(native_of(net.plan(y))({"x": x[:, :count].contiguous()})[y][:, :channels])
    assert not made[0].isfinite().all()
    torch.testing.assert_close(*made, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("width", [1, 5, 16, 37, 200])
def test_channels_of_pixels_of_three(width: int) -> None:
    """They lie three apart, the last of them at the end of memory."""
    net = Network(x=(2, 3, 3, width))
    x = net.add("Transpose", ["x"], (2, 3, width, 3), perm=[0, 2, 3, 1])
    y = net.add("Relu", [x], (2, 3, width, 3))
    z = net.add("Transpose", [y], (2, 3, 3, width), perm=[0, 3, 1, 2])
    check(net.plan(net.add("Add", [z, "x"], (2, 3, 3, width)), z))


def test_resizing_some_of_the_channels() -> None:
    """Others lie between theirs."""
    net = Network(x=(2, 11, 9, 10))
    part, _ = net.split("x", (3, 8), 1)
    names = [part, "", "", net.host([2, 3, 36, 40])]
    y = net.add("Resize", names, (2, 3, 36, 40), mode="cubic")
    check(net.plan(y))


def test_pads_pools_and_means() -> None:
    net = Network(x=(2, 19, 7, 6))
    pads = net.host([0, 0, 1, 2, 0, 0, 3, 1])
    outputs = [
        net.add("Pad", ["x", pads], (2, 19, 11, 9), mode=mode)
        for mode in ("reflect", "edge", "constant")
    ]
    kernel: dict[str, Any] = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    outputs.append(net.add("AveragePool", ["x"], (2, 19, 4, 6), **kernel))
    outputs.append(net.add("AveragePool", ["x"], (2, 19, 4, 6), count_include_pad=1, **kernel))
    outputs.append(net.add("MaxPool", ["x"], (2, 19, 4, 6), **kernel))
    outputs.append(net.add("GlobalAveragePool", ["x"], (2, 19, 1, 1)))
    outputs.append(net.add("ReduceMean", ["x", net.host([2, 3])], (2, 19), keepdims=0))
    check(net.plan(*outputs))


def test_an_axis_whose_weights_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library has it: its weights are a matrix for a moment, here of gigabytes."""

    def asked(matrix: Tensor) -> None:
        raise AssertionError(f"weights of {tuple(matrix.shape)}")

    monkeypatch.setattr(sampling, "_taps", asked)
    net = Network(x=(1, 2, 50_000), y=(1, 2, 8000, 3))
    halved = {"kernel_shape": [2], "strides": [2]}
    outputs = [
        net.add("MaxPool", ["x"], (1, 2, 25_000), **halved),
        net.add("AveragePool", ["x"], (1, 2, 25_000), **halved),
        net.add("ReduceMean", ["y", net.host([3])], (1, 2, 8000, 1), keepdims=1),
    ]
    assert graph.executable(net.plan(*outputs), OPSET, bind, other) is None


def test_products_of_two_tensors() -> None:
    net = Network(q=(2, 3, 9, 20), k=(2, 3, 9, 20), v=(2, 3, 9, 33), m=(20, 18))
    keys = net.add("Transpose", ["k"], (2, 3, 20, 9), perm=[0, 1, 3, 2])
    scores = net.add("MatMul", ["q", keys], (2, 3, 9, 9))
    shares = net.add("Softmax", [scores], (2, 3, 9, 9), axis=-1)
    others = net.add("Softmax", [scores], (2, 3, 9, 9), axis=1)
    values = net.add("MatMul", [shares, "v"], (2, 3, 9, 33))
    matrix = net.add("MatMul", ["q", "m"], (2, 3, 9, 18))
    known = net.add("MatMul", ["q", net.weight(20, 18)], (2, 3, 9, 18))
    check(
        net.plan(values, matrix, others, net.add("Concat", [known, matrix], (2, 3, 9, 36), axis=3))
    )


@pytest.mark.parametrize("inner", [1, 5, 16, 37])
def test_products_of_few_rows_or_columns(inner: int) -> None:
    draw = drawing.new_random()
    for rows, columns in ((7, 1), (5, 3), (1, 9), (4, 40), (33, 2)):
        net = Network(a=(2, 3, rows, inner), b=(2, 3, inner, columns), c=(3, columns, inner))
        turned = net.add("Transpose", ["c"], (3, inner, columns), perm=[0, 2, 1])
        shape = (2, 3, rows, columns)
        made = [net.add("MatMul", ["a", other], shape) for other in ("b", turned)]
        if draw.random() < 0.5:
            made.append(net.add("Concat", made, (2, 3, rows, 2 * columns), axis=3))
        check(net.plan(*made))


@pytest.mark.parametrize(
    "equation",
    [
        "b h i d, b h j d -> b h i j",
        "bhij,bhjd->bhid",
        "bhdi,bhdj->hbji",
        "bhid,dj->jbhi",
        "hi,j->ijh",
    ],
)
def test_einsums(equation: str) -> None:
    sizes = {"b": 2, "h": 3, "i": 6, "j": 9, "d": 20}
    given, _, made = equation.replace(" ", "").partition("->")
    shapes = [tuple(sizes[x] for x in letters) for letters in given.split(",")]
    net = Network(x=shapes[0], y=shapes[1])
    shape = tuple(sizes[x] for x in made)
    check(net.plan(net.add("Einsum", ["x", "y"], shape, equation=equation)))


def test_elements_of_any_number_of_axes_are_one_step() -> None:
    net = Network(x=(1, 2, 3, 4, 5, 2), y=(4, 1, 2))
    shape = net.shapes["x"]
    numbers = [net.host(value, torch.float32) for value in (-0.5, 0.7)]
    clipped = net.add("Clip", ["x", numbers[0], ""], shape)
    scaled = net.add("Mul", [clipped, "y"], shape)
    plan = net.plan(net.add("Clip", [scaled, "", numbers[1]], shape))
    assert len(native_of(plan).plan.steps) == 1
    check(plan)


def test_a_box_of_a_tensor_is_written_anew() -> None:
    net = Network(x=(2, 6, 4, 5), y=(2, 3, 4, 5), z=(2, 2, 5))
    part = torch.cartesian_prod(torch.arange(2), torch.arange(1, 4)).reshape(2, 3, 2)
    rows = torch.cartesian_prod(torch.arange(2), torch.tensor([-1]), torch.arange(2)).reshape(
        2, 2, 3
    )
    first = net.add("ScatterND", ["x", net.host(part.tolist()), "y"], net.shapes["x"])
    second = net.add("ScatterND", [first, net.host(rows.tolist()), "z"], net.shapes["x"])
    check(net.plan(first, second, net.add("Neg", ["x"], net.shapes["x"])))


def test_what_lies_backwards() -> None:
    net = Network(x=(2, 3, 6, 4))
    given = [net.host([v]) for v in (-1, -7, 2, -1)]
    y = net.add("Slice", ["x", *given], (2, 3, 6, 4))
    check(net.plan(net.add("Neg", [y], (2, 3, 6, 4)), y))


def test_whole_numbers_are_cast_to_floats() -> None:
    net = Network(x=(2, 3), n=(2, 1))
    number = net.add("Cast", ["n"], (2, 1), to=1)
    plan = net.plan(net.add("Mul", ["x", number], (2, 3)))
    plan = replace(plan, buffers={**plan.buffers, "n": Buffer("n", (2, 1), torch.int64)})
    given = {"x": torch.randn(2, 3), "n": torch.tensor([[3], [-4]])}
    (made,) = native_of(plan)(given).values()
    assert torch.equal(made, given["x"] * given["n"])


def test_other_views_of_the_same_numbers() -> None:
    draw = drawing.new_random()
    net = Network(x=(2, 8, 6, 4))
    y = add_convolution(net, draw, "x", 8, 1)
    n, c, h, w = net.shapes[y]
    flat = net.add("Reshape", [y, net.host([n, c, h * w])], (n, c, h * w))
    turned = net.add("Transpose", [flat], (n, h * w, c), perm=[0, 2, 1])
    part = net.add(
        "Slice",
        ["x", net.host([1, 5]), net.host([7, 0]), net.host([1, 2]), net.host([2, -2])],
        (2, 3, 3, 4),
    )
    one, two = net.split("x", [3, 5], 1)
    twice = net.add("Tile", [one, net.host([1, 1, 2, 1])], (2, 3, 12, 4))
    deep = net.add("SpaceToDepth", ["x"], (2, 32, 3, 2), blocksize=2)
    back = net.add("DepthToSpace", [deep], (2, 8, 6, 4), blocksize=2, mode="CRD")
    curve = net.add("fastgan.Activate", [two], (2, 5, 6, 4), epilogue=Epilogue("relu"))
    check(net.plan(turned, part, twice, back, curve, one))


def test_what_is_lacking_is_the_librarys_between_two_calls() -> None:
    net = Network(x=(1, 6, 4, 4), labels=(1,))
    net.weights["table"] = torch.randn(5, 6)
    code = net.add("Gather", ["table", "labels"], (1, 6))
    rows = net.add("fastgan.Linear", [code, net.weight(6, 6)], (1, 6))
    square = net.add("Mul", [rows, rows], (1, 6))
    scale = net.add("Reshape", [square, net.host([1, 6, 1, 1])], (1, 6, 1, 1))
    draw = drawing.new_random()
    y = add_convolution(net, draw, "x", 6, 1)
    scaled = net.add("Mul", [y, scale], net.shapes[y])
    sums = net.add("CumSum", [scaled, net.host([1])], net.shapes[y])
    z = add_convolution(net, draw, sums, 3, 1)
    norm = net.add(
        "fastgan.Normalise", [z], net.shapes[z], over="space", groups=3, centre=1, epsilon=1e-5
    )
    last = add_convolution(net, draw, norm, 40, 1)
    plan = net.plan(last, y)
    plan = replace(plan, buffers={**plan.buffers, "labels": Buffer("labels", (1,), torch.int64)})
    mixed = graph.executable(plan, OPSET, bind, other)
    assert isinstance(mixed, graph.MixedExecutable)
    notes = {step.op: step.note for step in mixed.plan.steps}
    assert notes["CumSum"] == "no native code for operator CumSum"
    assert [s.op for s in mixed.plan.steps].count("fastgan.Native") == 2
    steps = [bind(plan, index) for index in range(len(plan.steps))]
    inputs = {"x": torch.randn(1, 6, 4, 4), "labels": torch.tensor([3])}
    expected = PlanExecutable(plan, steps, CPU, torch.float32)(inputs)
    for _ in range(2):
        found = mixed(inputs)
        for name in plan.outputs:
            assert torch.allclose(found[name], expected[name], atol=1e-4, rtol=1e-4)


def test_a_plan_without_native_steps_is_not_taken() -> None:
    net = Network(x=(1, 2, 3, 4))
    y = net.add("CumSum", ["x", net.host([1])], (1, 2, 3, 4))
    assert graph.executable(net.plan(y), OPSET, bind, other) is None


def test_means_of_elements_are_not_taken_for_elements_moved() -> None:
    """Resizing a volume: half-way between two indices lies a third, but no element."""
    net = Network(x=(1, 2, 3, 6, 4))
    sizes = net.host([1, 2, 2, 2, 2])
    y = net.add("Resize", ["x", "", "", sizes], (1, 2, 2, 2, 2), mode="linear")
    assert graph.executable(net.plan(y), OPSET, bind, other) is None


def test_the_output_has_memory_of_its_own() -> None:
    net = Network(x=(1, 3, 4, 4))
    y = net.add("fastgan.Activate", ["x"], (1, 3, 4, 4), epilogue=Epilogue("relu"))
    z = net.add("Reshape", [y, net.host([1, 48])], (1, 48))
    same = net.add("Identity", ["x"], (1, 3, 4, 4))
    plan = net.plan(y, z, same)
    run = native_of(plan)
    x = torch.randn(1, 3, 4, 4)
    first, second = run({"x": x}), run({"x": -x})
    assert torch.equal(first[y], x.relu())
    assert torch.equal(first[z], x.relu().reshape(1, 48))
    assert torch.equal(second[same], -x)


REDUCTIONS = {
    "ReduceSum": lambda x, axes: x.sum(axes, keepdim=True),
    "ReduceMean": lambda x, axes: x.mean(axes, keepdim=True),
    "ReduceMax": lambda x, axes: x.amax(axes, keepdim=True),
    "ReduceMin": lambda x, axes: x.amin(axes, keepdim=True),
    "ReduceL1": lambda x, axes: x.abs().sum(axes, keepdim=True),
    "ReduceL2": lambda x, axes: x.square().sum(axes, keepdim=True).sqrt(),
    "ReduceSumSquare": lambda x, axes: x.square().sum(axes, keepdim=True),
}


@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions_over_any_axes(op: str) -> None:
    shape = (2, 5, 70, 67)
    for axes in ((1,), (3,), (2, 3), (0, 2), (0, 1, 2, 3), (1, 3)):
        for keepdims in (0, 1):
            net = Network(x=shape)
            expected = REDUCTIONS[op](torch.zeros(shape), axes)
            if not keepdims:
                expected = expected.squeeze(axes)
            y = net.add(op, ["x", net.host(axes)], tuple(expected.shape), keepdims=keepdims)
            plan = net.plan(y)
            given = {"x": torch.randn(shape) + 3}
            (found,) = native_of(plan)(given).values()
            wanted = REDUCTIONS[op](given["x"].double(), axes)
            wanted = wanted if keepdims else wanted.squeeze(axes)
            torch.testing.assert_close(found.double(), wanted, rtol=2e-6, atol=1e-6)


def test_the_largest_of_what_is_no_number_is_none() -> None:
    net = Network(x=(3, 200))
    y = net.add("ReduceMax", ["x", net.host([1])], (3, 1), keepdims=1)
    x = torch.randn(3, 200)
    x[1, 77] = torch.nan
    (found,) = native_of(net.plan(y))({"x": x}).values()
    assert found.isnan().flatten().tolist() == [False, True, False]


def test_attention_lies_row_by_row_and_its_result_by_pixel() -> None:
    """Scores are no image: nothing copies them between the two products."""
    n, heads, length, size = 2, 3, 20, 7
    rows = (n, heads, length, size)
    net = Network(q=rows, k=(n, heads, size, length), v=rows)
    scores = net.add("MatMul", ["q", "k"], (n, heads, length, length))
    bias = net.weight(heads, length, length)
    shifted = net.add("Add", [scores, bias], (n, heads, length, length))
    weights = net.add("Softmax", [shifted], (n, heads, length, length), axis=-1)
    made = net.add("MatMul", [weights, "v"], (n, heads, length, size))
    check(net.plan(made))


def test_gathers_at_constant_indices() -> None:
    net = Network(x=(3, 6, 5, 4))
    one = net.add("Gather", ["x", net.host(1)], (6, 5, 4), axis=0)
    some = net.add("Gather", ["x", net.host([2, 3, 4])], (3, 3, 5, 4), axis=1)
    back = net.add("Gather", ["x", net.host([-1, 0, 2])], (3, 6, 3, 4), axis=2)
    check(net.plan(one, some, back))


@pytest.mark.parametrize("name", ["gelu", "erf", "elu", "softplus", "mish", "exp", "log", "silu"])
def test_curves_keep_their_digits_everywhere(name: str) -> None:
    """Held to float64, from what is next to nothing to what overflows, and no numbers."""
    x = torch.cat([torch.linspace(-100, 100, 4001), torch.logspace(-30, 2, 500)])
    x = torch.cat([x, -x, torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0, 1e-42])])[None]
    functions = {
        "gelu": torch.nn.functional.gelu,
        "erf": torch.erf,
        "elu": torch.nn.functional.elu,
        "softplus": torch.nn.functional.softplus,
        "mish": torch.nn.functional.mish,
        "exp": torch.exp,
        "log": torch.log,
        "silu": torch.nn.functional.silu,
    }
    net = Network(x=tuple(x.shape))
    if name == "elu":
        y = net.add("Elu", ["x"], tuple(x.shape), alpha=1.0)
    else:
        y = net.add("fastgan.Activate", ["x"], tuple(x.shape), epilogue=Epilogue(name))
    (found,) = native_of(net.plan(y))({"x": x}).values()
    expected = functions[name](x.double()).float()
    if name in ("mish", "silu"):  # -inf times nothing
        found, expected = (torch.where(x == -torch.inf, 0.0, y) for y in (found, expected))
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=4e-7, equal_nan=True)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (75,)], ids=str)
def test_rows_of_a_table_by_labels(shape: tuple[int, ...]) -> None:
    """From the end too; what is no row of it is an error, as the library has it."""
    plan = _lookup(shape)
    labels = (torch.arange(math.prod(shape)) * 3 % 10 - 5).reshape(shape)
    (found,) = native_of(plan)({"label": labels}).values()
    assert torch.equal(found, plan.weights["w0"][labels])
    for wrong in (5, -6):
        labels.view(-1)[-1] = wrong
        with pytest.raises(FastganError, match="for a table of 5 rows"):
            native_of(plan)({"label": labels})


def _lookup(shape: tuple[int, ...] = (5,)) -> Plan:
    net = Network(label=shape)
    y = net.add("Gather", [net.weight(5, 7), "label"], (*shape, 7), axis=0)
    plan = net.plan(y)
    return replace(plan, buffers={**plan.buffers, "label": Buffer("label", shape, torch.int64)})


def small(bf16: bool) -> tuple[graph.GraphExecutable, Network, str]:
    """Layers of several items, on threads."""
    net = Network(x=(3, 24, 12, 10))
    given: dict[str, Any] = {"strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1], "group": 1}
    y = net.add("fastgan.Conv", ["x", net.weight(64, 24, 3, 3)], (3, 64, 12, 10), **given)
    two = {**given, "strides": [2, 2], "output_padding": [0, 0]}
    z = net.add("fastgan.ConvTranspose", [y, net.weight(64, 9, 4, 4)], (3, 9, 24, 20), **two)
    return native_of(net.plan(z), bf16), net, z


@pytest.mark.parametrize("bf16", [False, True])
def test_calls_from_several_threads_do_not_meet(bf16: bool) -> None:
    native, net, z = small(bf16)
    inputs = [torch.randn(net.shapes["x"]) for _ in range(4)]
    alone = [native({"x": x})[z] for x in inputs]

    def run(index: int) -> bool:
        made = (native({"x": inputs[index]})[z] for _ in range(30))
        return all(torch.equal(each, alone[index]) for each in made)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(4)))


FORK = """
import os, torch
from tests.unit.engine.test_native_graph import small
torch.set_num_threads(2)
native, net, z = small(True)
x = torch.ones(net.shapes["x"])
expected = native({"x": x})[z]
child = os.fork()
same = torch.equal(native({"x": x})[z], expected)
if child == 0:
    os._exit(0 if same else 1)
assert same and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_threads_of_its_own_and_both_exit() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120)


def test_in_bf16_a_nan_is_reported() -> None:
    native, net, z = small(True)
    image = ImageFormat(z, "float32", (-1.0, 1.0))
    for number in (0.5, torch.nan, torch.inf):
        x = torch.randn(net.shapes["x"])
        x[1, 5, 3, 4] = number
        made, found = native.images({"x": x}, image)
        assert bool(found) == (number != 0.5)
        assert made[0].isfinite().all()
