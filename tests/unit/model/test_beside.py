"""Weights in files beside the model are the loaded model's own: read once, at load."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import fastgan
from fastgan import ModelFileError, models
from fastgan.model.file import read

SIZE = 3000


def write(folder: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> Path:
    """A model of z [n, SIZE] whose weights all lie in w.bin, one behind another."""
    tensors, data = [], b""
    for name, array in weights.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        t = TensorProto(name=name, data_type=kind, dims=array.shape, data_location=1)
        for key, entry in (("location", "w.bin"), ("offset", str(len(data)))):
            t.external_data.add(key=key, value=entry)
        tensors.append(t)
        data += array.tobytes()
    (folder / "w.bin").write_bytes(data)
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", SIZE])] for n in "zy"]
    graph = helper.make_graph(nodes, "g", *ports, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def spoil(path: Path, how: str) -> None:
    """In place, as a program that writes the file again does, so that a map would see it."""
    with path.open("r+b") as file:
        if how == "zeros":
            file.write(bytes(path.stat().st_size))
        else:
            file.truncate(8)


@pytest.mark.parametrize("how", ["zeros", "cut short"])
@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_a_file_that_changes_after_load(tmp_path: Path, backend: str, how: str) -> None:
    rows = np.random.default_rng(0).random(SIZE, np.float32)
    path = write(tmp_path, [helper.make_node("Add", ["z", "rows"], ["y"])], {"rows": rows})
    generator = fastgan.load(path, device="cpu", backend=backend)
    z = torch.zeros(2, SIZE)
    generator.run({"z": z})
    spoil(tmp_path / "w.bin", how)
    for n in (2, 5):  # planned before, and only now
        result = generator.run({"z": torch.zeros(n, SIZE)})["y"]
        np.testing.assert_array_equal(result[-1].numpy(), rows)
    with pytest.raises(ModelFileError, match=r"w\.bin.*changed since it was loaded"):
        generator._session.model.file.to_runtime()


def test_a_file_that_is_touched_after_load(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random(SIZE, np.float32)
    path = write(tmp_path, [helper.make_node("Add", ["z", "rows"], ["y"])], {"rows": rows})
    found = fastgan.load(path, device="cpu")._session.model.file
    os.utime(tmp_path / "w.bin", ns=(0, 1))
    assert found.to_runtime() == str(path)


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_one_file_under_two_names(tmp_path: Path, backend: str) -> None:
    weights = {name: np.full(SIZE, i + 1, np.float32) for i, name in enumerate("ab")}
    nodes = [
        helper.make_node("Add", ["z", "a"], ["t"]),
        helper.make_node("Add", ["t", "b"], ["y"]),
    ]
    path = write(tmp_path, nodes, weights)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "./w.bin"
    path.write_bytes(model.SerializeToString())
    made = fastgan.load(path, device="cpu", backend=backend).run({"z": torch.zeros(2, SIZE)})["y"]
    assert torch.equal(made, torch.full((2, SIZE), 3.0))


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_everything_beside_the_file_a_shape_too(tmp_path: Path, backend: str) -> None:
    model = onnx.load(str(models.path("vae-digits")))
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    generator = fastgan.load(path, device="cpu", backend=backend)
    expected = fastgan.load("vae-digits", device="cpu", backend=backend).generate(3)
    torch.testing.assert_close(generator.generate(3), expected, rtol=0, atol=1e-6)


def test_each_byte_is_read_once_and_shared(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["z", "a"], ["t"]),
        helper.make_node("Add", ["t", "b"], ["y"]),
    ]
    weights = {n: np.full(SIZE, i, np.float32) for i, n in enumerate("ab", 1)}
    path = write(tmp_path, nodes, weights)
    model = read(path)
    (file,) = {id(f): f for f in model.external.values()}.values()
    assert file.data.size == 2 * 4 * SIZE
    for name, expected in weights.items():
        tensor = model.model.graph.initializers[name].const_value
        assert tensor is not None
        array = tensor.numpy()
        np.testing.assert_array_equal(array, expected)
        assert np.shares_memory(array, file.data)
        assert not array.flags.writeable


def test_odd_places_and_narrow_types(tmp_path: Path) -> None:
    """Weights at odd bytes, and of four bits each, come out as they went in."""
    values = np.arange(200) % 7
    rows = np.random.default_rng(1).random(SIZE, np.float32)
    packed = bytes(int(a) | int(b) << 4 for a, b in zip(values[::2], values[1::2], strict=True))
    (tmp_path / "w.bin").write_bytes(b"!" + rows.tobytes() + packed)
    tensors = [
        TensorProto(name="rows", data_type=1, dims=[SIZE], data_location=1),
        TensorProto(name="four", data_type=TensorProto.INT4, dims=[200], data_location=1),
    ]
    for tensor, offset in zip(tensors, (1, 1 + 4 * SIZE), strict=True):
        tensor.external_data.add(key="location", value="w.bin")
        tensor.external_data.add(key="offset", value=str(offset))
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", SIZE])] for n in "zy"]
    graph = helper.make_graph([helper.make_node("Add", ["z", "rows"], ["y"])], "g", *ports, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    held = read(tmp_path / "m.onnx").model.graph.initializers
    np.testing.assert_array_equal(held["rows"].const_value.numpy(), rows)  # type: ignore[union-attr]
    np.testing.assert_array_equal(held["four"].const_value.numpy().astype(int), values)  # type: ignore[union-attr]
