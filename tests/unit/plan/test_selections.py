"""y[mask] = values becomes one Where; x[mask] alone is refused. Against ONNX Runtime."""

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh
from torch import Tensor, nn

import fastgan

SHAPE = (2, 3, 4, 5)


def exported(function) -> bytes:
    """A function of x as the TorchScript exporter writes it."""

    class Module(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Module(), (torch.rand(SHAPE),), file, dynamo=False, opset_version=17, input_names=["x"]
        )
    return file.getvalue()


def graph(nodes, output=SHAPE, **constants) -> bytes:
    made = h.make_graph(
        nodes,
        "selection",
        [h.make_tensor_value_info("x", T.FLOAT, SHAPE)],
        [h.make_tensor_value_info("y", T.FLOAT, output)],
        [nh.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = h.make_model(made, opset_imports=[h.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString()


HALF, ROW = np.float32(0.5), np.array([-1])
PLACES = [
    h.make_node("NonZero", ["mask"], ["nz"]),
    h.make_node("Transpose", ["nz"], ["at"], perm=[1, 0]),
]
COUNT = [
    h.make_node("Reshape", ["mask", "row"], ["flat"]),
    h.make_node("Cast", ["flat"], ["ones"], to=T.INT64),
    h.make_node("ReduceSum", ["ones"], ["count"], keepdims=1),
]
SCATTER = h.make_node("ScatterND", ["x", "at", "new"], ["y"])


def by_dynamo() -> bytes:
    """y[mask] = 0, its places counted from the mask."""
    nodes = [h.make_node("Greater", ["x", "half"], ["mask"]), *PLACES, *COUNT]
    nodes += [
        h.make_node("Expand", ["zero", "count"], ["many"]),
        h.make_node("Reshape", ["many", "row"], ["new"]),
        SCATTER,
    ]
    return graph(nodes, half=HALF, row=ROW, zero=np.float32(0))


def a_row_at_leading_axes() -> bytes:
    """x[x[..., 0] > .5] = [1, .., 5]: the mask is of the first three axes."""
    nodes = [
        h.make_node("Gather", ["x", "first"], ["some"], axis=3),
        h.make_node("Greater", ["some", "half"], ["mask"]),
        *PLACES,
        *COUNT,
        h.make_node("Concat", ["count", "five"], ["sizes"], axis=0),
        h.make_node("Expand", ["values", "sizes"], ["new"]),
        SCATTER,
    ]
    values = np.arange(5, dtype=np.float32)
    return graph(nodes, half=HALF, row=ROW, first=np.array(0), five=np.array([5]), values=values)


def a_row_flat() -> bytes:
    """The same with a mask repeated along the last axis, and the values in one row."""
    nodes = [
        h.make_node("Gather", ["x", "first"], ["some"], axis=3),
        h.make_node("Greater", ["some", "half"], ["mask"]),
        h.make_node("Unsqueeze", ["mask", "row"], ["thin"]),
        h.make_node("Expand", ["thin", "whole"], ["wide"]),
        h.make_node("NonZero", ["wide"], ["nz"]),
        PLACES[1],
        *COUNT,
        h.make_node("Concat", ["count", "five"], ["sizes"], axis=0),
        h.make_node("Expand", ["values", "sizes"], ["many"]),
        h.make_node("Reshape", ["many", "row"], ["new"]),
        SCATTER,
    ]
    values = np.arange(5, dtype=np.float32)
    constants = {"first": np.array(0), "five": np.array([5]), "whole": np.array(SHAPE)}
    return graph(nodes, half=HALF, row=ROW, values=values, **constants)


def reduced() -> bytes:
    """index_put with accumulate: x[mask] += x[mask] * x[mask]; of numbers instead of booleans."""
    nodes = [
        h.make_node("Relu", ["x"], ["positive"]),
        h.make_node("Floor", ["positive"], ["mask"]),
        *PLACES,
        h.make_node("GatherND", ["x", "at"], ["some"]),
        h.make_node("Mul", ["some", "some"], ["new"]),
        h.make_node("ScatterND", ["x", "at", "new"], ["y"], reduction="add"),
    ]
    return graph(nodes)


def assigned(x: Tensor) -> Tensor:
    y = x.clone()
    y[x > 0.5] = 0
    return y


def gathered(x: Tensor) -> Tensor:
    y, z, mask = x.clone(), x * 2, x > 0.5
    y[mask] = z[mask]
    return y


def hue(x: Tensor) -> Tensor:
    """As HVI-CIDNet: the mask is of what the channels come to, the values are computed."""
    most = x.max(1)[0]
    h = torch.zeros_like(most)
    mask = x[:, 0] == most
    h[mask] = 4.0 + (x[:, 1] - x[:, 2])[mask] / (most[mask] + 1e-8)
    h[most == x[:, 1]] = 0.25
    return h


def added(x: Tensor) -> Tensor:
    y = x.clone()
    y[x > 0.5] += 1
    return y


CASES = {
    "dynamo": by_dynamo,
    "a row at leading axes": a_row_at_leading_axes,
    "a row, flat": a_row_flat,
    "a reduction": reduced,
    **{f.__name__: lambda f=f: exported(f) for f in (assigned, gathered, hue, added)},
}


def values(seed: int) -> np.ndarray:
    """Some of both, all, none."""
    x = np.random.default_rng(seed).random(SHAPE, dtype=np.float32) * 2
    return x + seed - 1 if seed else x


@pytest.mark.parametrize("case", CASES)
def test_is_onnx_runtimes(case):
    model = CASES[case]()
    g = fastgan.load(model, device="cpu", backend="torch", strict=True)
    session = onnxruntime.InferenceSession(model)
    for seed in range(3):
        x = values(seed)
        found = next(iter(g.run({"x": x}).values())).numpy()
        np.testing.assert_allclose(found, session.run(None, {"x": x})[0], rtol=1e-5, atol=1e-6)
    assert not {"NonZero", "ScatterND"} & {step.op for step in g.plan(2).steps}


def x_of_mask():
    nodes = [h.make_node("Greater", ["x", "half"], ["mask"]), *PLACES]
    return graph([*nodes, h.make_node("GatherND", ["x", "at"], ["y"])], ["count"], half=HALF)


def values_of_another_mask():
    """As many, for once: whether they fit depends on data."""
    nodes = [
        h.make_node("Greater", ["x", "half"], ["mask"]),
        h.make_node("Less", ["x", "half"], ["other"]),
        *PLACES,
        h.make_node("NonZero", ["other"], ["nz2"]),
        h.make_node("Transpose", ["nz2"], ["at2"], perm=[1, 0]),
        h.make_node("GatherND", ["x", "at2"], ["new"]),
        SCATTER,
    ]
    return graph(nodes, half=HALF)


def a_list_of_values():
    """Five values for as many places: which is which depends on the order of the places."""
    nodes = [
        h.make_node("Greater", ["x", "half"], ["mask"]),
        *PLACES,
        *COUNT,
        h.make_node("Expand", ["values", "count"], ["new"]),
        SCATTER,
    ]
    return graph(nodes, half=HALF, row=ROW, values=np.arange(5, dtype=np.float32))


@pytest.mark.parametrize("case", [x_of_mask, values_of_another_mask, a_list_of_values])
def test_what_depends_on_the_places_is_refused(case):
    model = case()
    onnx.checker.check_model(model)
    with pytest.raises(fastgan.errors.BackendError, match="NonZero of data, which decide its sh"):
        fastgan.load(model, device="cpu", backend="torch", strict=True)
    assert fastgan.load(model, device="cpu").backend == "ort"
