"""Large weights stay where the file is, whatever way its bytes are laid out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastgan.errors import FastganError, ModelFileError
from fastgan.model.file import ModelFile, read, source
from fastgan.model.file.stored import Given, split
from fastgan.model.late import LEAST, Late
from tests.unit.models import graph_model, value

SIZE = LEAST // 4


def weight(seed: int, rows: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, SIZE)).astype(np.float32)


def model(*names: str, **others: np.ndarray) -> bytes:
    """x + each weight of two rows."""
    weights = {name: weight(i) for i, name in enumerate(names)} | others
    nodes, last = [], "x"
    for name in names:
        nodes.append(helper.make_node("Add", [last, name], [f"{name}.sum"], name=name))
        last = f"{name}.sum"
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    return graph_model(nodes, [value("x", [2, SIZE])], weights=weights)


def numbers(data: bytes) -> dict[str, np.ndarray]:
    proto = onnx.ModelProto.FromString(data)
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}


def test_large_weights_are_left_where_they_are(tmp_path: Path) -> None:
    small = np.arange(3, dtype=np.float32)
    data = model("a", "b", small=small)
    (tmp_path / "m.onnx").write_bytes(data)
    for given in (data, tmp_path / "m.onnx"):
        found = read(given)
        tensors = {n: v.const_value for n, v in found.model.graph.initializers.items()}
        assert [n for n, tensor in tensors.items() if isinstance(tensor, Late)] == ["a", "b"]
        for name, array in numbers(data).items():
            tensor = tensors[name]
            assert tensor is not None
            np.testing.assert_array_equal(tensor.numpy(), array)
        assert found.to_runtime() == data


def test_what_is_parsed_has_no_large_weights() -> None:
    data = model("a", "b", "c")
    parts = split(data, Given(data))
    assert len(parts.message) < LEAST
    assert len(parts.cut) == 3
    proto = onnx.ModelProto.FromString(bytes(parts.message))
    assert parts.joined(proto) == onnx.ModelProto.FromString(data).SerializeToString()


def test_each_reading_is_memory_of_its_own() -> None:
    tensor = read(model("a")).model.graph.initializers["a"].const_value
    assert tensor is not None
    first = tensor.numpy()
    first[:] = 0
    np.testing.assert_array_equal(tensor.numpy(), weight(0))


def message(number: int, data: bytes) -> bytes:
    size, head = len(data), bytearray()
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *head, size]) + data


def odd(how: str) -> bytes:
    """A model whose bytes are laid out as protobuf allows, but no exporter writes it."""
    data = model("a", "b")
    proto = onnx.ModelProto.FromString(data)
    if how == "two halves":  # of one graph, which protobuf joins
        graph = onnx.GraphProto()
        graph.initializer.append(proto.graph.initializer.pop())
        return proto.SerializeToString() + message(7, graph.SerializeToString())
    if how == "data twice":  # of which the last count
        tensor = proto.graph.initializer.pop()
        again = tensor.SerializeToString() + message(9, weight(7).tobytes())
        return proto.SerializeToString() + message(7, message(5, again))
    if how == "a field nobody knows":
        return data + message(15, b"x" * 9)
    if how == "graph before version":
        graph = proto.graph.SerializeToString()
        proto.ClearField("graph")
        return message(7, graph) + proto.SerializeToString()
    assert how == "numbers one by one"
    tensor = proto.graph.initializer[0]
    tensor.float_data.extend(weight(0).reshape(-1).tolist())
    tensor.ClearField("raw_data")
    return proto.SerializeToString()


@pytest.mark.parametrize(
    "how",
    [
        "two halves",
        "data twice",
        "a field nobody knows",
        "graph before version",
        "numbers one by one",
    ],
)
def test_odd_layouts_are_read_as_protobuf_reads_them(how: str) -> None:
    data = odd(how)
    found = read(data)
    tensors = found.model.graph.initializers
    for name, array in numbers(data).items():
        tensor = tensors[name].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_are_read_or_refused_as_protobuf_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = model("a", "b")
    head = data.index(weight(0).tobytes()[:16])
    for _ in range(40):
        spoilt = bytearray(data)
        for place in rng.integers(0, head, rng.integers(1, 4)):
            spoilt[place] = rng.integers(0, 256)
        try:
            tensors = read(bytes(spoilt)).model.graph.initializers
        except FastganError:
            continue
        for name, array in numbers(bytes(spoilt)).items():
            tensor = tensors[name].const_value
            assert tensor is not None
            np.testing.assert_array_equal(tensor.numpy(), array)


def test_data_of_another_length_than_the_shape(tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(model("a"))
    proto.graph.initializer[0].raw_data += bytes(4)
    with pytest.raises(ModelFileError, match=f"{2 * LEAST + 4} bytes.*{2 * LEAST} bytes for shape"):
        read(proto.SerializeToString())
    proto = onnx.ModelProto.FromString(model("a"))
    proto.graph.initializer[0].float_data.append(1)
    with pytest.raises(ModelFileError, match="data in raw_data and float_data"):
        read(proto.SerializeToString())


def test_a_mended_file_has_its_weights_still(tmp_path: Path) -> None:
    turned = weight(0).reshape(2, 1, SIZE)
    nodes = [
        helper.make_node("Add", ["x", "w"], ["t"]),
        helper.make_node("Transpose", ["t"], ["y"], perm=[0, -1, 1]),  # as TorchScript writes it
    ]
    data = graph_model(nodes, [value("x", [2, 1, SIZE])], weights={"w": turned})
    found = read(data)
    assert found.to_runtime() != data
    session = onnxruntime.InferenceSession(found.to_runtime())
    x = np.zeros((2, 1, SIZE), np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], turned.transpose(0, 2, 1))


@pytest.fixture
def stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files too."""
    monkeypatch.setattr(source, "_SMALL", 0)


@pytest.mark.usefixtures("stays_open")
def test_a_file_that_is_replaced_or_gone_is_still_the_one_that_was_read(tmp_path: Path) -> None:
    path, data = tmp_path / "m.onnx", model("a")
    path.write_bytes(data)
    found = read(path)
    (tmp_path / "other").write_bytes(data.replace(weight(0).tobytes(), bytes(2 * LEAST)))
    os.replace(tmp_path / "other", path)
    tensor = found.model.graph.initializers["a"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), weight(0))
    path.unlink()
    np.testing.assert_array_equal(tensor.numpy(), weight(0))
    assert found.to_runtime() == data


def test_a_small_file_may_be_written_to(tmp_path: Path) -> None:
    path, data = tmp_path / "m.onnx", model("a")
    path.write_bytes(data)
    found = read(path)
    path.write_bytes(bytes(len(data)))
    tensor = found.model.graph.initializers["a"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), weight(0))
    assert found.to_runtime() == data


@pytest.mark.usefixtures("stays_open")
@pytest.mark.parametrize("how", ["zeros", "cut short"])
def test_a_file_that_is_written_to_is_an_error(tmp_path: Path, how: str) -> None:
    path, data = tmp_path / "m.onnx", model("a")
    path.write_bytes(data)
    found = read(path)
    with path.open("r+b") as file:
        if how == "zeros":
            file.write(bytes(len(data)))
        else:
            file.truncate(8)
    os.utime(path, ns=(0, 1))  # a clock may be too coarse to tell
    tensor = found.model.graph.initializers["a"].const_value
    assert tensor is not None
    for reads in (tensor.numpy, found.to_runtime):
        with pytest.raises(ModelFileError, match=r"m\.onnx.*changed since it was loaded"):
            reads()


def same(found: ModelFile, data: bytes, *names: str) -> None:
    """The weights of a file are still those that it had."""
    for name in names:
        tensor = found.model.graph.initializers[name].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), numbers(data)[name])


@pytest.mark.usefixtures("stays_open")
@pytest.mark.parametrize("how", ["touched", "written anew", "longer"])
def test_a_file_of_the_same_bytes_is_the_same(tmp_path: Path, how: str) -> None:
    path, data = tmp_path / "m.onnx", model("a", "b")
    path.write_bytes(data)
    found = read(path)
    if how == "longer":
        path.write_bytes(data + b"more")
    elif how == "written anew":
        path.write_bytes(data)
    os.utime(path, ns=(0, 1))
    same(found, data, "a", "b")
    assert found.to_runtime() == data


@pytest.mark.usefixtures("stays_open")
def test_a_bit_that_changes_is_an_error_whatever_the_clock_says(tmp_path: Path) -> None:
    path, data = tmp_path / "m.onnx", model("a", "b")
    path.write_bytes(data)
    found, before = read(path), path.stat()
    place = data.index(weight(1).tobytes()) + LEAST
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([data[place] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    same(found, data, "a")
    tensor = found.model.graph.initializers["b"].const_value
    assert tensor is not None
    for reads in (tensor.numpy, found.to_runtime):
        with pytest.raises(ModelFileError, match=r"m\.onnx.*changed since it was loaded"):
            reads()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors that were taken, by number."""
    numbers, dup = [], os.dup

    def watched(descriptor: int) -> int:
        numbers.append(dup(descriptor))
        return numbers[-1]

    monkeypatch.setattr(os, "dup", watched)
    return numbers


@pytest.mark.usefixtures("stays_open")
@pytest.mark.parametrize("reused", [False, True])
def test_a_program_that_closes_all_descriptors(
    tmp_path: Path, taken: list[int], reused: bool
) -> None:
    """As daemons do; what has the number next is neither read nor closed."""
    path, data, other = tmp_path / "m.onnx", model("a"), tmp_path / "other"
    path.write_bytes(data)
    other.write_bytes(bytes(len(data)))
    found = read(path)
    (number,) = taken
    os.close(number)
    with other.open("rb") as file:
        if reused:
            os.dup2(file.fileno(), number)
        same(found, data, "a")
        assert len(taken) == 2
        os.close(taken[1])
        path.unlink()
        if not reused:
            number = taken[1]
            os.dup2(file.fileno(), number)
        tensor = found.model.graph.initializers["a"].const_value
        assert tensor is not None
        with pytest.raises(ModelFileError, match=r"m\.onnx.*no such file"):
            tensor.numpy()
        del found
        assert os.path.samestat(os.fstat(number), other.stat())
        os.close(number)


@pytest.mark.usefixtures("stays_open")
def test_a_name_that_is_another_file_once_the_descriptor_is_closed(
    tmp_path: Path, taken: list[int]
) -> None:
    path, data = tmp_path / "m.onnx", model("a")
    path.write_bytes(data)
    found = read(path)
    os.close(taken[0])
    (tmp_path / "new").write_bytes(data.replace(weight(0).tobytes(), bytes(2 * LEAST)))
    os.replace(tmp_path / "new", path)
    with pytest.raises(ModelFileError, match=r"m\.onnx.*changed since it was loaded"):
        found.to_runtime()


@pytest.mark.usefixtures("stays_open")
def test_a_file_is_closed_with_its_model(tmp_path: Path, taken: list[int]) -> None:
    """At once, though the nodes of its graph hold each other."""
    (tmp_path / "m.onnx").write_bytes(model("a"))
    found = read(tmp_path / "m.onnx")
    graph = found.model.graph
    os.fstat(taken[0])
    del found
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(taken[0])
    assert len(graph)


def test_types_that_numpy_does_not_know_stay_in_the_message() -> None:
    proto = onnx.ModelProto.FromString(model("a"))
    tensor = proto.graph.initializer[0]
    tensor.data_type, tensor.raw_data = TensorProto.BFLOAT16, bytes(LEAST)
    tensor.dims[:] = [2, SIZE // 2, 1]
    assert not split(proto.SerializeToString(), Given(b"")).cut
