"""Convolutions, pools and resizes of odd geometry, by hand and against ONNX's reference."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastgan.errors import FastganError
from tests.unit.ops.onnx_nodes import RNG, close, floats, reference, run

pytestmark = pytest.mark.usefixtures("one_thread")


# Windows ---------------------------------------------------------------------------------------


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


# Resize ----------------------------------------------------------------------------------------

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
    made: tuple[np.ndarray, ...] = (scales,)
    if coordinates == "align_corners":
        # Of the elements that are made, which the reference does of sizes alone.
        assume(not antialias or ((high * 4).is_integer() and (wide * 5).is_integer()))
        made = np.zeros(0, np.float32), np.floor(x.shape * scales).astype(np.int64)
    expected = reference("Resize", 19, x, None, *made, **attributes)
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


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [0.5, 0.75, 1.5, 2.0])
def test_corners_are_aligned_at_odd_sizes_as_in_pytorch(mode: str, scale: float) -> None:
    """Whose exporters write scales: 17 rows become 8, the last of which is the last of the 17."""
    x = floats(1, 2, 17, 23)
    scales = np.array([1, 1, scale, scale], np.float32)
    how = {"mode": mode.removeprefix("bi"), "coordinate_transformation_mode": "align_corners"}
    expected = F.interpolate(torch.from_numpy(x), scale_factor=scale, mode=mode, align_corners=True)
    close(run("Resize", 18, x, None, scales, cubic_coeff_a=-0.75, **how), expected)


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
