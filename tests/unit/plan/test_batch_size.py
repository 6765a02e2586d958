"""A batch that an exporter fixed: found whatever the file declares, and run in turns."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import fastgan
from fastgan.errors import ArgumentError
from tests.unit.models import graph_model, value

WEIGHT = np.random.default_rng(5).standard_normal((8, 48)).astype(np.float32)
BIAS = np.random.default_rng(6).standard_normal((4, 48)).astype(np.float32)


def model(
    shape: list[int], batch: int | str, *, constant: int = 0, product: str = "MatMul"
) -> bytes:
    """latent [batch, 8] -> images: a product, a Reshape to `shape`, a Tanh.

    Args:
        constant: add the first so many rows of `BIAS` to the product.
    """
    nodes = [helper.make_node(product, ["z", "weight"], ["p"])]
    if constant:
        nodes.append(helper.make_node("Add", ["p", "rows"], ["s"]))
    nodes += [
        helper.make_node("Reshape", [nodes[-1].output[0], "shape"], ["r"]),
        helper.make_node("Tanh", ["r"], ["y"]),
    ]
    weights = {"weight": WEIGHT, "shape": np.array(shape), "rows": BIAS[: constant or 1]}
    outputs = [value("y", [batch, 3, 4, 4])]
    return graph_model(nodes, [value("z", [batch, 8])], weights=weights, outputs=outputs)


def expected(z: torch.Tensor) -> torch.Tensor:
    return torch.tanh(z @ torch.from_numpy(WEIGHT)).reshape(-1, 3, 4, 4)


@pytest.mark.parametrize(
    ("shape", "declared", "frozen"),
    [
        ([-1, 3, 4, 4], "n", None),
        ([-1, 3, 4, 4], 4, None),  # in the declared shape alone
        ([4, 3, 4, 4], 4, None),  # there and in the graph, where no sample meets another
        ([4, 3, 4, 4], "n", None),  # in the graph alone
        ([1, 3, 4, 4], "n", None),
        ([5, 3, 4, 4], "n", None),  # no usual batch
    ],
)
def test_the_batch_that_the_graph_runs_at(shape, declared, frozen, caplog) -> None:
    with caplog.at_level(logging.INFO, "fastgan"):
        g = fastgan.load(model(shape, declared), device="cpu", strict=True)
    assert g.signature.frozen_batch == frozen
    notes = [r for r in caplog.records if "batch" in r.getMessage()]
    assert len(notes) == (frozen is not None or declared == 4)
    assert [r.levelno for r in notes if r.levelno > logging.INFO] == [logging.WARNING] * bool(
        frozen
    )
    for n in (1, 3, 4, 6):
        z = torch.randn(n, 8)
        assert torch.allclose(g.run({"z": z})["y"], expected(z), atol=1e-6)
        assert torch.allclose(g.generate(n, seed=n), expected(g.latents(n, seed=n)), atol=1e-6)


def test_a_constant_of_some_rows_fixes_the_batch() -> None:
    g = fastgan.load(model([-1, 3, 4, 4], "n", constant=4), device="cpu")
    assert g.signature.frozen_batch == 4
    z = torch.randn(3, 8)
    rows = torch.tanh(z @ torch.from_numpy(WEIGHT) + torch.from_numpy(BIAS[:3]))
    assert torch.allclose(g.run({"z": z})["y"], rows.reshape(3, 3, 4, 4), atol=1e-6)


def test_a_reshape_that_would_mix_samples_of_another_batch() -> None:
    """What a windowed transformer's `int(windows.shape[0] / ...)` leaves when it is traced.

    Every batch has a result of the right shape; only that of two images is right.
    """
    nodes = [
        helper.make_node("Reshape", ["x", "blocks"], ["b"]),  # [n, 3, 2, 2, 2, 2]
        helper.make_node("Transpose", ["b"], ["t"], perm=[0, 2, 4, 3, 5, 1]),
        helper.make_node("Reshape", ["t", "windows"], ["w"]),  # [4n, 4, 3]
        helper.make_node("Tanh", ["w"], ["a"]),
        helper.make_node("Reshape", ["a", "back"], ["r"]),  # [2, 2, 2, 2, 2, -1]
        helper.make_node("Transpose", ["r"], ["u"], perm=[0, 5, 1, 3, 2, 4]),
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("Reshape", ["u", "size"], ["y"]),
    ]
    weights = {
        "blocks": np.array([-1, 3, 2, 2, 2, 2]),
        "windows": np.array([-1, 4, 3]),
        "back": np.array([2, 2, 2, 2, 2, -1]),
    }
    shape = ["n", 3, 4, 4]
    data = graph_model(nodes, [value("x", shape)], weights=weights, outputs=[value("y", shape)])
    g = fastgan.load(data, device="cpu", strict=True)
    assert g.signature.frozen_batch == 2
    for n in (1, 2, 3):
        x = torch.rand(n, 3, 4, 4)
        assert torch.allclose(g(x), torch.tanh(x), atol=1e-6)


@pytest.mark.parametrize("traced", [False, True])
def test_a_constant_that_may_be_a_size_or_a_traced_batch(traced, caplog) -> None:
    """x [n, 8] laid as [2, -1, 4]: the declared output says which of the two axes is of samples."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["a"]),
        helper.make_node("Softmax", ["a"], ["y"], axis=1),
    ]
    data = graph_model(
        nodes,
        [value("x", ["n", 8])],
        weights={"shape": np.array([2, -1, 4])},
        outputs=[value("y", ["n", 2, 4] if traced else [2, "n", 4])],
    )
    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    assert ("traced batch" in caplog.text) == traced
    for n in (1, 2, 3):
        x = torch.rand(n, 8)
        expected = x.reshape((n, 2, 4) if traced else (2, n, 4)).softmax(1)
        made = g.run({"x": x})["y"]
        assert made.shape == expected.shape
        assert torch.allclose(made, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("declared", "traced"),
    [(None, False), (["a", "b"], False), (["n", 6], True), (["m", 6], True), ([3, 6], True)],
    ids=str,
)
def test_a_size_is_no_traced_batch_where_nothing_says_so(declared, traced, caplog) -> None:
    """x [n, 6] laid as [3, -1]: at 3 samples a row for each, at any other 3 longer ones.

    Only an output that is declared to have rows of 6 contradicts what the file makes of others.
    """
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["a"]),
        helper.make_node("Softmax", ["a"], ["y"], axis=-1),
    ]
    outputs = [value("y", declared)]
    weights = {"shape": np.array([3, -1])}
    data = graph_model(nodes, [value("x", ["n", 6])], weights=weights, outputs=outputs)
    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    assert ("traced batch" in caplog.text) == traced
    for n in (1, 2, 3, 6):
        x = torch.rand(n, 6)
        made = g.run({"x": x})["y"]
        assert torch.allclose(made, (x if traced else x.reshape(3, -1)).softmax(1), atol=1e-6)


@pytest.mark.parametrize("backend", ["auto", "ort"])
@pytest.mark.parametrize(
    ("declared", "traced"),
    [(None, False), (["a", "b"], False), ([3, "b"], False), (["n", "b"], True)],
)
def test_a_size_of_which_only_multiples_are_taken(declared, traced, backend, caplog) -> None:
    """2 and 7 are none of 3: that the file runs at 6 says that it may mean what it says."""
    nodes = [helper.make_node("Reshape", ["x", "s"], ["r"]), helper.make_node("Sin", ["r"], ["y"])]
    data = graph_model(
        nodes,
        [value("x", ["n", 4])],
        weights={"s": np.array([3, -1])},
        outputs=[value("y", declared)],
    )
    with caplog.at_level(logging.WARNING, "fastgan"):
        g = fastgan.load(data, device="cpu", backend=backend)
    assert ("traced batch" in caplog.text) == traced
    for n in (3, 6, 9):
        x = torch.randn(n, 4)
        expected = torch.sin(x if traced else x.reshape(3, -1))
        torch.testing.assert_close(g.run({"x": x})["y"], expected)


def test_rows_that_differ() -> None:
    """Two inputs of one fixed batch, given in different numbers."""
    read = onnx.ModelProto.FromString(model([4, 3, 4, 4], 4))
    read.graph.input.append(value("c", [4, 48]))
    read.graph.node[0].output[0] = "q"
    read.graph.node.insert(1, helper.make_node("Add", ["q", "c"], ["p"]))
    g = fastgan.load(read.SerializeToString(), device="cpu")
    z, c = torch.randn(6, 8), torch.randn(6, 48)
    made = g.run({"z": z, "c": c})["y"]
    assert torch.allclose(
        made, torch.tanh(z @ torch.from_numpy(WEIGHT) + c).reshape(6, 3, 4, 4), atol=1e-6
    )
    with pytest.raises(ArgumentError, match="rows that differ: 6 of 'z', 5 of 'c'"):
        g.run({"z": z, "c": c[:5]})
    with pytest.raises(ArgumentError, match="input 'c': found no rows; needed at least one"):
        g.run({"z": z, "c": c[:0]})


def test_an_index_that_no_table_has_is_one_error() -> None:
    weights = {"table": np.eye(5, 48, dtype=np.float32), "shape": np.array([-1, 3, 4, 4])}
    nodes = [
        helper.make_node("Gather", ["table", "code"], ["rows"], name="look up"),
        helper.make_node("Reshape", ["rows", "shape"], ["y"]),
    ]
    codes = value("code", ["n"], onnx.TensorProto.INT64)
    g = fastgan.load(graph_model(nodes, [codes], weights=weights), device="cpu", strict=True)
    assert g.run({"code": [4, 0]})["y"].shape == (2, 3, 4, 4)
    with pytest.raises(ArgumentError, match="look up: found index 5 is out of bounds"):
        g.run({"code": [1, 5]})


def normed(batch: int, rows: np.ndarray | None = None) -> bytes:
    """Images [batch, 3, 4, 4] -> a group norm between Reshapes to the batch, scaled, activated.

    Args:
        rows: [batch or 1, 3, 1, 1], the scales.
    """
    rows = np.ones((1, 3, 1, 1), np.float32) * 2 if rows is None else rows
    nodes = [
        helper.make_node("Reshape", ["x", "apart"], ["g"]),
        helper.make_node("InstanceNormalization", ["g", "ones", "zeros"], ["i"], epsilon=1e-5),
        helper.make_node("Reshape", ["i", "back"], ["b"]),
        helper.make_node("Mul", ["b", "rows"], ["s"]),
        helper.make_node("Mish", ["s"], ["m"]),
        helper.make_node("Add", ["m", "x"], ["y"]),
    ]
    weights = {
        "apart": np.array([batch, 1, 48]),
        "back": np.array([batch, 3, 4, 4]),
        "ones": np.ones(1, np.float32),
        "zeros": np.zeros(1, np.float32),
        "rows": rows.astype(np.float32),
    }
    shape = [batch, 3, 4, 4]
    return graph_model(nodes, [value("x", shape)], weights=weights, outputs=[value("y", shape)])


@pytest.mark.parametrize("batch", [1, 2])
def test_norms_of_each_sample_keep_samples_apart(batch) -> None:
    scales = np.linspace(0.5, 2, 3, dtype=np.float32).reshape(1, 3, 1, 1)
    data = normed(batch, np.repeat(scales, batch, 0))
    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    assert g.signature.frozen_batch is None
    x = torch.randn(5, 3, 4, 4) * torch.arange(1, 6).view(-1, 1, 1, 1)
    norm = torch.nn.functional.group_norm(x, 1) * torch.from_numpy(scales)
    assert torch.allclose(
        g.run({"x": x})["y"], torch.nn.functional.mish(norm) + x, atol=1e-5, rtol=1e-5
    )


def test_scales_that_differ_from_sample_to_sample_fix_the_batch() -> None:
    rows = np.arange(1, 7, dtype=np.float32).reshape(2, 3, 1, 1)
    g = fastgan.load(normed(2, rows), device="cpu", backend="torch")
    assert g.signature.frozen_batch == 2


@pytest.mark.parametrize(("batch", "frozen"), [(1, None), (2, 2)])
def test_statistics_of_the_batch_are_those_of_the_exported_one(batch, frozen) -> None:
    """Those of two samples meet, of one do not: it is what the file's own batch would make."""
    node = helper.make_node(
        "BatchNormalization", ["x", "scale", "zeros", "zeros", "ones"], ["y"], training_mode=1
    )
    scale = np.linspace(0.5, 2, 3, dtype=np.float32)
    weights = {"scale": scale, "zeros": np.zeros(3, np.float32), "ones": np.ones(3, np.float32)}
    shape = [batch, 3, 4, 4]
    data = graph_model([node], [value("x", shape)], weights=weights, outputs=[value("y", shape)])
    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    assert g.signature.frozen_batch == frozen
    x = torch.randn(4, 3, 4, 4) * torch.arange(1, 5).view(-1, 1, 1, 1)
    each = [
        torch.nn.functional.batch_norm(part, None, None, torch.from_numpy(scale), training=True)
        for part in x.split(batch)
    ]
    assert torch.allclose(g.run({"x": x})["y"], torch.cat(each), atol=1e-5)


X = np.random.default_rng(7).standard_normal((6, 3)).astype(np.float32)


@pytest.mark.parametrize("backend", ["torch", "ort"])
@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (helper.make_node("ReduceMean", ["x", "first"], ["y"]), X.mean(0, keepdims=True)),
        (helper.make_node("ReduceMean", ["x", "first"], ["y"], keepdims=0), X.mean(0)),
        (helper.make_node("ReduceMax", ["x"], ["y"]), X.max(keepdims=True)),
        (helper.make_node("Transpose", ["x"], ["y"]), X.T),
        (helper.make_node("Softmax", ["x"], ["y"], axis=0), torch.from_numpy(X).softmax(0).numpy()),
        (helper.make_node("CumSum", ["x", "axis"], ["y"]), X.cumsum(0)),
    ],
    ids=lambda node: getattr(node, "op_type", ""),
)
def test_samples_that_meet_run_together(node, expected, backend) -> None:
    """An open batch, not traced: whatever comes out is of all samples that went in."""
    weights = {"first": np.array([0]), "axis": np.array(0)}
    data = graph_model([node], [value("x", ["n", 3])], weights=weights)
    g = fastgan.load(data, device="cpu", backend=backend, strict=True)
    assert g.signature.frozen_batch is None
    assert not g.signature.made.apart
    made = g.run({"x": X})["y"].numpy()
    assert made.shape == expected.shape
    assert np.allclose(made, expected, atol=1e-6)
    if len(made) == len(X):  # `generate` makes them of all n latents too
        z = g.latents(40, seed=1)
        assert torch.allclose(g.generate(40, seed=1), g.run({"x": z})["y"])
    else:
        with pytest.raises(ArgumentError, match="a row for each sample"):
            g.generate(6)


def windows(traced: list[int], relus: int = 0) -> bytes:
    """x [batch, 4] -> a Softmax of each sample, by way of a Reshape that a trace at two left.

    Args:
        relus: how many come before it.
    """
    names = ["x", *(f"r{i}" for i in range(relus))]
    nodes = [helper.make_node("Relu", names[i : i + 1], [names[i + 1]]) for i in range(relus)]
    nodes += [
        helper.make_node("Unsqueeze", [names[-1], "zero"], ["one"]),
        helper.make_node("Concat", ["one"] * 3, ["three"], axis=0),
        helper.make_node("Reshape", ["three", "fold"], ["folded"]),  # [3 * batch, 4]
        helper.make_node("Reshape", ["folded", "unfold"], ["again"]),  # [3, batch, 4]
        helper.make_node("ReduceMean", ["again", "zero"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "traced"], ["pairs"]),
        helper.make_node("Softmax", ["pairs"], ["soft"], axis=-1),
        helper.make_node("Reshape", ["soft", "fold"], ["y"]),
    ]
    shapes = {"zero": [0], "fold": [-1, 4], "unfold": [3, -1, 4], "traced": traced}
    weights = {name: np.array(sizes) for name, sizes in shapes.items()}
    shape = ["batch", 4]
    return graph_model(nodes, [value("x", shape)], weights=weights, outputs=[value("y", shape)])


@pytest.mark.parametrize("relus", [0, 3100])
@pytest.mark.parametrize("traced", [[2, -1], [2, 4], [1, -1]])
def test_the_batch_of_a_trace_is_followed_to(traced, relus) -> None:
    g = fastgan.load(windows(traced, relus), device="cpu", backend="torch", strict=True)
    assert g.signature.frozen_batch == traced[0]
    x = torch.rand(5, 4)
    assert torch.allclose(g.run({"x": x})["y"], x.softmax(1), atol=1e-6)


def computed(first: int, made: str) -> list[onnx.NodeProto]:
    """Nodes that lay x [n, 4] as [first, n // first, 4], by sizes of its own batch."""
    return [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Slice", ["sizes", "zero", "one"], ["n"]),
        helper.make_node("Div", ["n", "first"], ["part"]),
        helper.make_node("Concat", ["first", "part", "four"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], [made]),
    ]


@pytest.mark.parametrize("n", [2, 4, 6])
@pytest.mark.parametrize("how", ["flat", 1, 2])
def test_samples_laid_together_by_the_batch_itself_are_meant_to_meet(how, n) -> None:
    flat = helper.make_node("Flatten", ["x"], ["laid"], axis=0)
    nodes = [flat] if how == "flat" else computed(how, "laid")
    nodes += [
        helper.make_node("Softmax", ["laid"], ["soft"], axis=1),
        helper.make_node("Reshape", ["soft", "rows"], ["y"]),
    ]
    sizes = {"zero": [0], "one": [1], "four": [4], "rows": [-1, 4], "first": [how]}
    weights = {k: np.array(v) for k, v in sizes.items() if v != ["flat"]}
    shape = ["batch", 4]
    data = graph_model(nodes, [value("x", shape)], weights=weights, outputs=[value("y", shape)])
    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    x = torch.rand(n, 4)
    laid = x.reshape(1, -1) if how == "flat" else x.reshape(how, n // how, 4)
    assert torch.allclose(g.run({"x": x})["y"], laid.softmax(1).reshape(n, 4), atol=1e-6)


@pytest.mark.parametrize("shape", [["n", 3, 4, 4], [1, 3, 4, 4], [2, 3, 4, 4]])
@pytest.mark.parametrize("weight", [[3, 2, 3, 3], [3, 1, 3, 3]])
def test_weights_given_as_an_input_are_no_batch(shape, weight, caplog) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
    data = graph_model([node], [value("x", shape), value("w", weight)])
    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    assert g.signature.frozen_batch is None
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    x, w = torch.rand(2, 3, 4, 4), torch.rand(weight)
    expected = torch.nn.functional.conv_transpose2d(x, w)
    assert torch.allclose(g.run({"x": x, "w": w})["y"], expected, atol=1e-5)


def test_samples_that_meet_in_a_fixed_batch_are_never_filled_up() -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    data = graph_model([node], [value("x", [2, 3])])
    g = fastgan.load(data, device="cpu", backend="torch", strict=True)
    made = g.run({"x": X[:4]})["y"].numpy()
    each = [torch.from_numpy(part).softmax(0).numpy() for part in (X[:2], X[2:4])]
    assert np.allclose(made, np.concatenate(each), atol=1e-6)
    for refused in (lambda: g.run({"x": X[:3]}), lambda: g.generate(3)):
        with pytest.raises(ArgumentError, match="a multiple of 2"):
            refused()


def test_a_traced_batch_of_one_comes_before_the_sizes_of_windows() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "windows"], ["w"]),
        helper.make_node("Transpose", ["w"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("Softmax", ["t"], ["s"], axis=-1),
        helper.make_node("Reshape", ["s", "rows"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, 1, ["n", 128]) for name in "xy"]
    shapes = {"windows": [1, 8, 8, -1], "rows": [-1, 128]}
    constants = [onnx.numpy_helper.from_array(np.array(s), name) for name, s in shapes.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    opset = [helper.make_opsetid("", 17)]
    file = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    x = np.random.default_rng(0).standard_normal((3, 128), np.float32)
    want = x.reshape(3, 8, 8, 2).swapaxes(2, 3)
    want = np.exp(want) / np.exp(want).sum(-1, keepdims=True)
    got = fastgan.load(file, backend="torch", strict=True).run({"x": x})["y"].numpy()
    np.testing.assert_allclose(got, want.reshape(3, 128), atol=1e-6)
