"""Reading model files: what is accepted, and that each kind of bad file is one clear error."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from fastgan.errors import ArgumentError, FastganError, LimitError, ModelFileError
from fastgan.limits import Limits
from fastgan.model.file import read
from tests.unit.models import graph_model, relu_model, value
from tests.work import lines


def refused(source: object, kind: type[FastganError] = ModelFileError, **limits: float) -> str:
    """The message of the error that reading `source` raises, which is of exactly that kind."""
    with pytest.raises(FastganError) as caught:
        read(source, Limits(**limits))  # type: ignore[arg-type]
    assert type(caught.value) is kind
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_a_model_is_read_from_a_path_and_from_bytes(tmp_path: Path) -> None:
    data = relu_model()
    path = tmp_path / "relu.onnx"
    path.write_bytes(data)
    for source in (path, str(path), data, bytearray(data), memoryview(data)):
        model = read(source)
        assert [node.op_type for node in model.model.graph] == ["Relu"]
        assert model.model.opset_imports == {"": 18}
        assert model.to_runtime() == data
        assert not model.external
    assert (read(path).name, read(path).path) == ("relu.onnx", path)
    assert (read(data).name, read(data).path) == ("model bytes", None)


def test_weights_are_those_of_the_file() -> None:
    weight = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = read(graph_model([node], [value("x", [2, 4])], weights={"w": weight}))
    tensor = model.model.graph.initializers["w"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), weight)
    session = onnxruntime.InferenceSession(model.to_runtime())
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ weight, rtol=1e-5)


def _checkpoint() -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, file)
    return file.getvalue()


def _zip(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"content")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "found", "advice"),
    [
        (b"", "an empty file", "again"),
        (b"once upon a time\n" * 9, "a text file", ""),
        (b"<!DOCTYPE html><html>", "a web page", "download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS", "git lfs pull"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG image", ""),
        (b"\xff\xd8\xff\xe0" + bytes(99), "a JPEG image", ""),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "Keras", "tf2onnx"),
        (gzip.compress(bytes(99), mtime=0), "a gzip archive", "unpack"),
        (_checkpoint(), "a PyTorch checkpoint", "fastgan.export"),
        (pickle.dumps({"weight": [0.5] * 9}), "a pickle", "fastgan.export"),
        (_zip("model.onnx"), "a zip archive", "unpack"),
        (_zip("readme"), "a zip archive", ""),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"w":{"dtype":""' + bytes(9), "safetensors", "ex"),
        (b"\x00" * 64, "not ONNX", "again"),
        (os.urandom(1) + b"\xff" * 64, "not ONNX", "again"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_another_format_is_named_with_what_to_do(data: bytes, found: str, advice: str) -> None:
    message = refused(data)
    assert message.startswith("model bytes: found ")
    assert "needed an ONNX model file" in message
    assert found in message
    assert advice in message


def test_a_path_that_holds_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "generator.onnx").write_bytes(relu_model())
    assert "no such file" in refused(tmp_path / "nothing.onnx")
    assert "did you mean generator.onnx?" in refused(tmp_path / "generater.onnx")
    message = refused(tmp_path)
    assert "a folder" in message
    assert "generator.onnx" in message
    assert "null" in refused("a\0b")
    with pytest.raises(ArgumentError, match="a path or bytes"):
        read(7)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "pipe" in refused(tmp_path / "pipe.onnx")


def test_every_truncation_is_an_error_or_a_sound_model() -> None:
    weight = np.ones((4, 3), np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="first")
    data = graph_model([node], [value("x", [2, 4])], weights={"w": weight})
    for length in range(len(data)):
        with pytest.raises(FastganError):
            read(data[:length])


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # A sparse file: a terabyte that takes no room.
    message = refused(path, LimitError)
    assert "1024 GiB" in message
    assert "Limits.file_bytes" in message


def test_two_gigabytes_claimed_in_one_kilobyte() -> None:
    claim = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 29], raw_data=bytes(900))
    node = helper.make_node("Add", ["x", "w"], ["y"])
    message = refused(graph_model([node], [value("x", [1])], tensors=[claim]))
    assert "initializer 'w'" in message
    assert "900 bytes" in message
    assert "2147483648 bytes" in message
    # The same claim by protobuf itself: a field said to be 2 GiB long in a short file.
    assert "cut short" in refused(b"\x08\x08\x3a\xff\xff\xff\xff\x07" + bytes(1000))


def test_nan_and_infinity_are_weights_like_others() -> None:
    weight = np.array([np.nan, np.inf, -np.inf], np.float32)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    model = read(graph_model([node], [value("x", [3])], weights={"w": weight}))
    tensor = model.model.graph.initializers["w"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), weight)


def test_the_models_that_onnx_carries_are_read() -> None:
    from tests.fuzz.mutate import corpus

    models = corpus()
    assert len(models) > 100
    refusals = []
    for data in models:
        try:
            read(data)
        except FastganError as error:
            refusals.append(str(error))
    # Sequences as inputs are no generator's.
    assert all("sequence" in refusal or "optional" in refusal for refusal in refusals), refusals


def test_isolated_reading_gives_the_same_model_and_the_same_error(tmp_path: Path) -> None:
    path = tmp_path / "relu.onnx"
    path.write_bytes(relu_model())
    assert read(path, isolate=True).to_runtime() == read(path).to_runtime()
    bad = graph_model([helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=0)], [value("x")])
    with pytest.raises(ModelFileError) as isolated:
        read(bad, isolate=True)
    with pytest.raises(ModelFileError) as direct:
        read(bad)
    assert str(isolated.value) == str(direct.value)


def test_a_reader_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is replaced by one that crashes, hangs or fails, as a library's bug would."""
    from fastgan.model.file import isolate

    for code, found, seconds in (
        ("import os; os.abort()", "killed by SIGABRT", 300),
        ("import sys; sys.exit('no memory left')", "no memory left", 300),
        ("import time; time.sleep(600)", "does not end", 1),
    ):
        monkeypatch.setattr(isolate, "COMMAND", ("-c", code))
        monkeypatch.setattr(isolate, "START_SECONDS", float(seconds))
        with pytest.raises(ModelFileError) as caught:
            read(relu_model(), Limits(seconds=seconds), isolate=True)
        assert found in str(caught.value)


def test_an_isolated_reader_has_a_memory_limit() -> None:
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(50_000)]
    data = graph_model(nodes, [value("v0", [1])], outputs=[value("v50000")])
    with pytest.raises(LimitError, match="memory"):
        read(data, Limits(memory_bytes=8 << 20), isolate=True)


def test_reading_is_linear_in_the_graph() -> None:
    """Of shape chains, what exporters make of a reshape."""

    def work(blocks: int) -> int:
        nodes = []
        for i in range(blocks):
            nodes += [
                helper.make_node("Shape", [f"v{i}"], [f"s{i}"]),
                helper.make_node("Gather", [f"s{i}", "zero"], [f"g{i}"]),
                helper.make_node("Concat", [f"g{i}", "rest"], [f"c{i}"], axis=0),
                helper.make_node("Reshape", [f"v{i}", f"c{i}"], [f"v{i + 1}"]),
            ]
        weights = {"zero": np.array([0]), "rest": np.array([-1])}
        inputs, outputs = [value("v0", ["n", 4])], [value(f"v{blocks}")]
        data = graph_model(nodes, inputs, weights=weights, outputs=outputs)
        return lines(lambda: read(data))

    read(relu_model())
    assert work(1000) < 4.2 * work(250)
