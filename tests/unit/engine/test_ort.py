"""The ONNX Runtime backend: versions that the installed runtime does not know, missing installs."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import fastgan
from fastgan import BackendError, FastganError

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def model(opset: int, ir_version: int, op: str = "Tanh") -> bytes:
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])] for name in ("z", "y")
    ]
    graph = helper.make_graph([helper.make_node(op, ["z"], ["y"], name="only")], "g", *ports)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString()


NEWEST = onnx.defs.onnx_opset_version()


@pytest.mark.parametrize(
    ("opset", "ir_version"),
    [(18, 8), (NEWEST, 10), (18, onnx.IR_VERSION), (NEWEST, onnx.IR_VERSION)],
)
def test_newer_versions_are_stamped_down(opset: int, ir_version: int) -> None:
    generator = fastgan.load(model(opset, ir_version), backend="ort", device="cpu")
    z = torch.randn(3, 4)
    assert torch.allclose(generator.run({"z": z})["y"], z.tanh(), atol=1e-6)


def test_an_op_that_changed_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastgan.engine.ort import versions as ort_versions

    since = {NEWEST: NEWEST}
    monkeypatch.setattr(ort_versions, "_since", lambda op, opset: since.get(opset, 13))
    refused = f"Current official support for domain ai.onnx is till opset {NEWEST - 1}."
    session = types.SimpleNamespace()

    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError(refused)

    session.InferenceSession = refuse
    session.SessionOptions = onnxruntime.SessionOptions
    monkeypatch.setattr("fastgan.engine.ort.backend._runtime", lambda: session)
    with pytest.raises(BackendError) as caught:
        fastgan.load(model(NEWEST, 10), backend="ort", device="cpu")
    for part in ("only", "Tanh", str(NEWEST - 1), "newer onnxruntime"):
        assert part in str(caught.value)


def test_a_refusal_of_another_kind_is_passed_on() -> None:
    with pytest.raises(FastganError) as caught:
        fastgan.load(model(18, 8, op="NoSuchOp"), device="cpu")
    assert "NoSuchOp" in str(caught.value)
    assert "only" in str(caught.value)


def test_without_onnxruntime_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match="pip install"):
        fastgan.load(model(18, 8), backend="ort", device="cpu")
    # Nothing else needs it.
    assert fastgan.load(model(18, 8), device="cpu").generate(2).shape == (2, 4)


def fixed_rows(**attributes: object) -> bytes:
    """A Reshape to rows of 3, whatever comes; ONNX Runtime sees only when it runs."""
    shape = helper.make_tensor("rows", TensorProto.INT64, [2], [-1, 3])
    ports = [
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", "m"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["k", 3])],
    ]
    node = helper.make_node("Reshape", ["z", "rows"], ["y"], name="to_rows")
    graph = helper.make_graph([node], "g", *ports, [shape])
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def test_a_run_that_fails_is_one_line_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    generator = fastgan.load(fixed_rows(), backend="ort", device="cpu")
    with pytest.raises(BackendError, match=r"node 'to_rows' \(Reshape\), run by ONNX.* z \[2, 4\]"):
        generator.run({"z": torch.zeros(2, 4)})
    assert generator.run({"z": torch.zeros(2, 6)})["y"].shape == (4, 3)  # goes on afterwards
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


@pytest.mark.parametrize("shape", [(2, 5), (2,), (2, 4, 1)])
@pytest.mark.parametrize("bound", [False, True])
def test_sizes_that_a_session_refuses_are_the_arguments(
    shape: tuple[int, ...], bound: bool
) -> None:
    generator = fastgan.load(model(18, 8), backend="ort", device="cpu")
    executable = generator._session.executable({"z": (2, 4)})
    executable._binds = bound
    with pytest.raises(fastgan.ArgumentError, match="ONNX Runtime on z"):
        executable({"z": torch.zeros(shape)})


def test_an_output_that_is_no_numbers() -> None:
    ports = [
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["n", 4])],
    ]
    node = helper.make_node("Cast", ["z"], ["y"], to=TensorProto.STRING)
    graph = helper.make_graph([node], "g", *ports)
    opsets = [helper.make_opsetid("", 18)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    with pytest.raises(FastganError, match="output 'y'"):
        fastgan.load(made, backend="ort", device="cpu").run({"z": torch.zeros(1, 4)})


# Bound tensors ------------------------------------------------------------------------------------


KINDS = "float32 float16 float64 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool"


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("dtype", KINDS.split())
def test_every_type_goes_in_and_out_where_it_lies(dtype: str, bound: bool) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ports = [[helper.make_tensor_value_info(n, kind, ["n", 3])] for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", *ports)
    opsets = [helper.make_opsetid("", 18)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    executable = fastgan.load(data, backend="ort", device="cpu")._session.executable({"x": (2, 3)})
    executable._binds = bound
    x = torch.from_numpy(np.array([[0, 1, 2], [3, 1, 0]]).astype(dtype))
    made = executable({"x": x})["y"]
    assert made.dtype == x.dtype
    assert torch.equal(made, x)
    first = made.clone()
    again = executable({"x": x.flip(0)})["y"]  # a result is not written over by the next
    assert torch.equal(made, first)
    assert torch.equal(again, x.flip(0))


@pytest.mark.parametrize("bound", [False, True])
def test_empty_and_strided_tensors(bound: bool) -> None:
    generator = fastgan.load(model(18, 8), backend="ort", device="cpu")
    executable = generator._session.executable({"z": (2, 4)})
    executable._binds = bound
    assert executable({"z": torch.empty(0, 4)})["y"].shape == (0, 4)
    z = torch.randn(4, 3).t()
    assert torch.allclose(executable({"z": z})["y"], z.tanh(), atol=1e-6)


# Threads and providers ----------------------------------------------------------------------------


def test_a_session_has_the_threads_of_its_model() -> None:
    for threads in (1, 3):
        generator = fastgan.load(model(18, 8), backend="ort", device="cpu", threads=threads)
        runtime = generator._session.runtime()
        assert runtime.get_session_options().intra_op_num_threads == threads


def test_providers_are_passed_through(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    session = ort.InferenceSession

    def spy(source: object, options: object, providers: list) -> object:
        asked.append(providers)
        return session(source, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "InferenceSession", spy)
    given = [("CPUExecutionProvider", {"use_arena": "0"})]
    generator = fastgan.load(model(18, 8), backend="ort", device="cpu", providers=given)
    assert asked == [given]
    assert generator.generate(2).shape == (2, 4)
    # One that is listed, but whose libraries do not come up, is no silent fallback.
    both = ["OpenVINOExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: both)
    with pytest.raises(BackendError, match="OpenVINOExecutionProvider did not come up"):
        fastgan.load(model(18, 8), backend="ort", device="cpu", providers=both[:1])
    assert asked[-1] == both


@pytest.mark.parametrize(
    ("providers", "backend", "message"),
    [
        (["TensorrtExecutionProvider"], "auto", "backend='ort'"),
        ([("TensorrtExecutionProvider", 3)], "ort", "names, or"),
        (["NoSuchExecutionProvider"], "ort", "CPUExecutionProvider; needed NoSuch"),
    ],
)
def test_providers_that_are_none(providers: list, backend: str, message: str) -> None:
    with pytest.raises(FastganError, match=message):
        fastgan.load(model(18, 8), backend=backend, device="cpu", providers=providers)


#: Loads a layer and runs it on no rows, or on sequences of no steps, in a process of its own.
EMPTY = """
import sys, numpy, fastgan
model, *sizes = sys.argv[1:]
g = fastgan.load(model, backend="ort", device="cpu", strict=True)
for _ in range(2):
    found = g.run({"x": numpy.zeros([int(size) for size in sizes], "f")})
    print(*[[*value.shape] for value in found.values()])
full = g.run({"x": numpy.ones([2, 3, 4], "f")})
print(*[[*value.shape] for value in full.values()])
"""


@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("sizes", [(3, 0, 4), (0, 3, 4)])
@pytest.mark.parametrize("by_sample", [False, True])
def test_no_rows_into_a_recurrent_layer(
    op: str, gates: int, sizes: tuple[int, ...], by_sample: bool, tmp_path: Path
) -> None:
    """ONNX Runtime ends the process there."""
    x = "x"
    nodes = []
    if by_sample:
        nodes, x = [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2])], "t"
    nodes.append(helper.make_node(op, [x, "w", "r"], ["y", "h"], hidden_size=5))
    weights = [
        onnx.numpy_helper.from_array(np.ones((1, 5 * gates, inner), np.float32), name)
        for name, inner in (("w", 4), ("r", 5))
    ]
    names = ["n", "t", 4] if by_sample else ["t", "n", 4]
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, names)
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "yh"]
    graph = helper.make_graph(nodes, "g", [port], made, weights)
    opsets = [helper.make_opsetid("", 17)]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    command = [sys.executable, "-c", EMPTY, str(path), *map(str, sizes)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    time, batch = (sizes[1], sizes[0]) if by_sample else sizes[:2]
    if sizes[0] == 0:  # the rows of all inputs: none of them is refused as everywhere
        assert result.returncode == 1
        assert "ArgumentError" in result.stderr
        return
    assert result.returncode == 0, result.stderr
    empty = f"{[time, 1, batch, 5]} {[1, batch, 5]}"
    full = "[3, 1, 2, 5] [1, 2, 5]" if by_sample else "[2, 1, 3, 5] [1, 3, 5]"
    assert result.stdout.splitlines() == [empty, empty, full]
