"""What exporters write a little wrong: read as they mean it, on every backend."""

import io
import logging
import math
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

import fastgan
from fastgan.model.file import read

BACKENDS = ("torch", "ort")


def runtime(model: bytes) -> onnxruntime.InferenceSession:
    """Without optimisation, and silent."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options)


def resize(n: int, m: int, opset: int = 13, declared: bool = True, **attributes: str) -> bytes:
    """n rows by a scale of m / n in float32."""
    inputs = ["x", "s"] if opset < 11 else ["x", "", "s"]
    node = h.make_node("Resize", inputs, ["y"], **attributes)
    rows, made = (n, m) if declared else ("n", "m")
    graph = h.make_graph(
        [node],
        "resize",
        [h.make_tensor_value_info("x", T.FLOAT, ["batch", 1, rows, 4])],
        [h.make_tensor_value_info("y", T.FLOAT, ["batch", 1, made, 4])],
        [nh.from_array(np.array([1, 1, m / n, 1], np.float32), "s")],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


def rows_of(model: bytes, n: int) -> dict[str, int]:
    x = np.zeros((2, 1, n, 4), np.float32)
    return {
        backend: fastgan.load(model, device="cpu", backend=backend).run({"x": x})["y"].shape[2]
        for backend in BACKENDS
    }


# (7, 31): one of those whose float32 product is below the size as well.
@pytest.mark.parametrize(("n", "m"), [(3, 5), (13, 19), (100, 256), (7, 20), (7, 31), (7, 124)])
@pytest.mark.parametrize("opset", [10, 13])
def test_the_size_is_the_declared_one(n, m, opset):
    assert rows_of(resize(n, m, opset), n) == {"torch": m, "ort": m}


@pytest.mark.parametrize(("n", "m"), [(3, 5), (13, 19), (100, 256), (7, 31), (7, 124)])
def test_of_an_open_size_both_backends_multiply_in_float32(n, m):
    expected = math.floor(np.float32(n) * np.float32(m / n))
    assert rows_of(resize(n, m, declared=False), n) == {"torch": expected, "ort": expected}


def test_a_declared_size_that_is_no_rounding_away_is_left():
    model = onnx.load_from_string(resize(8, 16))
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 20
    data = model.SerializeToString()
    assert read(data).to_runtime() == data


@pytest.mark.parametrize("perm", [[0, 2, 3, -3], [-4, -2, -1, -3]])
@pytest.mark.parametrize("backend", BACKENDS)
def test_negative_axes_of_a_permutation(perm, backend, caplog):
    graph = h.make_graph(
        [h.make_node("Transpose", ["x"], ["y"], perm=perm, name="moved")],
        "transpose",
        [h.make_tensor_value_info("x", T.FLOAT, [2, 3, 4, 5])],
        [h.make_tensor_value_info("y", T.FLOAT, None)],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.INFO, logger="fastgan"):
        g = fastgan.load(model.SerializeToString(), device="cpu", backend=backend)
    assert torch.equal(g.run({"x": x})["y"], x.permute(perm))
    assert f"node 'moved': perm {perm} is read as [0, 2, 3, 1]" in caplog.text


def test_movedim_as_the_torchscript_exporter_writes_it():
    class Moved(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.movedim(1, -1) * 2

    file, x = io.BytesIO(), torch.randn(2, 3, 4, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Moved(), (x,), file, dynamo=False, input_names=["x"], output_names=["y"])
    g = fastgan.load(file.getvalue(), device="cpu")
    torch.testing.assert_close(g.run({"x": x})["y"], x.movedim(1, -1) * 2)


@pytest.mark.parametrize("perm", [[0, 2, -1], [0, -4, 1], [-1, -1, -1]])
def test_what_is_no_permutation_is_refused(perm):
    graph = h.make_graph(
        [h.make_node("Transpose", ["x"], ["y"], perm=perm)],
        "transpose",
        [h.make_tensor_value_info("x", T.FLOAT, [2, 3, 4])],
        [h.make_tensor_value_info("y", T.FLOAT, None)],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(fastgan.errors.ModelFileError, match="perm"):
        read(model.SerializeToString())


MODES = [
    {"mode": mode, "coordinate_transformation_mode": transformation}
    for mode in ("linear", "cubic", "nearest")
    for transformation in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
]
MODES += [
    {"mode": "nearest", "coordinate_transformation_mode": transformation, "nearest_mode": rounding}
    for transformation in ("half_pixel", "asymmetric")
    for rounding in ("round_prefer_ceil", "floor", "ceil")
]


@pytest.mark.parametrize("attributes", MODES, ids=lambda a: "-".join(a.values()))
def test_resize_is_onnx_runtimes(attributes):
    """Sizes of all, values too: of the nearest, a rounding apart is another element."""
    from fastgan import ops

    generator = np.random.default_rng(0)
    op = ops.find("", "Resize", 13)
    for _ in range(20):
        n, m = int(generator.integers(2, 70)), int(generator.integers(2, 140))
        x = generator.random((2, 1, n, 4), dtype=np.float32)
        expected = runtime(resize(n, m, declared=False, **attributes)).run(None, {"x": x})[0]
        scales = [1.0, 1.0, float(np.float32(m / n)), 1.0]
        found = op.function(torch.from_numpy(x), None, scales, **attributes).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)


#: Sizes at which a coordinate lies a rounding from the middle of two elements, or from one of them.
TIES = [
    *(("asymmetric", "round_prefer_ceil", n, m) for n, m in ((7, 2), (7, 4), (10, 12), (13, 8))),
    *(("half_pixel_symmetric", "floor", n, m) for n, m in ((3, 1), (5, 3), (9, 5), (21, 7))),
    ("half_pixel_symmetric", "ceil", 21, 3),
]


@pytest.mark.parametrize(("transformation", "rounding", "n", "m"), TIES)
def test_resize_between_two_elements_is_onnx_runtimes(transformation, rounding, n, m):
    attributes = {"coordinate_transformation_mode": transformation, "nearest_mode": rounding}
    graph = h.make_graph(
        [h.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="nearest", **attributes)],
        "resize",
        [h.make_tensor_value_info("x", T.FLOAT, [1, 1, n, 1])],
        [h.make_tensor_value_info("y", T.FLOAT, [1, 1, m, 1])],
        [nh.from_array(np.array([1, 1, m, 1]), "sizes")],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 19)], ir_version=8)
    x = np.arange(n, dtype=np.float32).reshape(1, 1, n, 1)
    expected = runtime(model.SerializeToString()).run(None, {"x": x})[0]
    g = fastgan.load(model.SerializeToString(), device="cpu", backend="torch")
    np.testing.assert_array_equal(g.run({"x": x})["y"], expected)


CELU_INPUTS = np.array([-np.inf, -2.0, 0.0, 3.0, np.inf, np.nan], np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("alpha", [0.0, -0.0, 1e-40, -1e-40])
def test_celu_of_hardly_any_width(backend, alpha):
    """Of none the formula, and so ONNX Runtime, makes NaN; of the others it makes what we do."""
    node = h.make_node("Celu", ["x"], ["y"], alpha=alpha)
    ports = [h.make_tensor_value_info(name, T.FLOAT, [6]) for name in ("x", "y")]
    graph = h.make_graph([node], "celu", ports[:1], ports[1:])
    opsets = [h.make_opsetid("", 12)]
    model = h.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    expected = runtime(model).run(None, {"x": CELU_INPUTS})[0]
    if not alpha:
        assert np.isnan(expected[1:5]).any()
        expected = np.maximum(CELU_INPUTS, 0)
    g = fastgan.load(model, device="cpu", backend=backend, strict=True)
    np.testing.assert_allclose(g.run({"x": CELU_INPUTS})["y"], expected, atol=2e-40)


def test_celu_of_no_width_in_a_branch():
    """Of a graph within the graph, and behind a convolution, where a plan has activations."""
    celu = h.make_node("Celu", ["c"], ["b"], alpha=0.0)
    branch = h.make_graph([celu], "branch", [], [h.make_tensor_value_info("b", T.FLOAT, None)])
    nodes = [
        h.make_node("Conv", ["x", "w"], ["c"]),
        h.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
    ]
    graph = h.make_graph(
        nodes,
        "celu",
        [h.make_tensor_value_info("x", T.FLOAT, ["n", 2, 3, 3])],
        [h.make_tensor_value_info("y", T.FLOAT, None)],
        [
            nh.from_array(np.array([[[[1.0]], [[-2.0]]]], np.float32), "w"),
            nh.from_array(np.array(True), "yes"),
        ],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8)
    x = np.random.default_rng(0).normal(size=(2, 2, 3, 3)).astype(np.float32)
    for backend in BACKENDS:
        g = fastgan.load(model.SerializeToString(), device="cpu", backend=backend)
        expected = np.maximum(x[:, :1] - 2 * x[:, 1:], 0)
        np.testing.assert_allclose(g.run({"x": x})["y"], expected, rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("outputs", [["y"], ["y", "", ""], ["y", "", "q"], ["y", "p", "q"]])
def test_statistics_that_nobody_asks_for(outputs, backend):
    """ONNX Runtime ends the process where a training norm's have no names; where they have, it
    writes them over its constants, and so over equal ones, of which it makes one."""
    node = h.make_node("BatchNormalization", ["x", *"sbmv"], outputs, training_mode=1)
    graph = h.make_graph(
        [node],
        "norm",
        [h.make_tensor_value_info("x", T.FLOAT, ["n", 2, 3, 3])],
        [h.make_tensor_value_info("y", T.FLOAT, ["n", 2, 3, 3])],
        [nh.from_array(np.full(2, int(name in "sv"), np.float32), name) for name in "sbmv"],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 15)], ir_version=8)
    g = fastgan.load(model.SerializeToString(), device="cpu", backend=backend)
    for _ in range(3):
        x = 2 + 3 * torch.randn(4, 2, 3, 3)
        expected = torch.nn.functional.batch_norm(x, None, None, training=True)
        torch.testing.assert_close(g.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5)
