"""Every rule of the graph, the attributes and the weights: broken once, named where it broke."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import AttributeProto, TensorProto, helper

from fastgan.errors import FastganError, ModelFileError, UnsupportedError
from fastgan.model.file import read
from tests.unit.models import graph_model, value


def refused(data: bytes | Path, kind: type[FastganError] = ModelFileError) -> str:
    with pytest.raises(FastganError) as caught:
        read(data)
    assert type(caught.value) is kind, caught.value
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_the_97_bytes_that_kill_onnx_runtime() -> None:
    node = helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=1 << 32, name="up")
    message = refused(graph_model([node], [value("x", [1, 4, 1, 1])]))
    assert "node 'up' (DepthToSpace): attribute 'blocksize'" in message
    assert "found 4294967296" in message
    assert "needed an integer from 1 to" in message


CONV = {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1], "pads": [1] * 4, "group": 1}


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("strides", [0, 1]),
        ("strides", [1, -2]),
        ("strides", [1 << 40, 1]),
        ("strides", [1]),
        ("dilations", [1, 0]),
        ("dilations", [1, 1, 1]),
        ("kernel_shape", [0, 3]),
        ("kernel_shape", [4, 3]),
        ("kernel_shape", [3]),
        ("pads", [-1, 0, 0, 0]),
        ("pads", [1, 1]),
        ("pads", [1 << 33] * 4),
        ("group", 0),
        ("group", -1),
        ("group", 5),
        ("auto_pad", "SAME"),
    ],
)
def test_convolution_attributes(op: str, name: str, wrong: object) -> None:
    weight = np.ones((4, 4, 3, 3), np.float32)
    inputs = [value("x", [1, 4, 8, 8])]

    def model(attributes: dict[str, object]) -> bytes:
        node = helper.make_node(op, ["x", "w"], ["y"], name="up", **attributes)
        return graph_model([node], inputs, weights={"w": weight})

    read(model(CONV))
    message = refused(model({**CONV, name: wrong}))
    assert message.startswith(f"model bytes: node 'up' ({op}): attribute '{name}': found ")
    assert "; needed " in message


@pytest.mark.parametrize(
    ("op", "attributes", "named"),
    [
        ("MaxPool", {"kernel_shape": [0, 2]}, "kernel_shape"),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [0, 1]}, "strides"),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [0, 0, 0, -1]}, "pads"),
        ("SpaceToDepth", {"blocksize": 0}, "blocksize"),
        ("DepthToSpace", {"blocksize": -2}, "blocksize"),
        ("DepthToSpace", {"blocksize": 2, "mode": "no"}, "mode"),
        ("Transpose", {"perm": [0, 0, 1]}, "perm"),
        ("Transpose", {"perm": [0, 1 << 40]}, "perm"),
        ("Softmax", {"axis": 1 << 31}, "axis"),
        ("Flatten", {"axis": -(1 << 63)}, "axis"),
        ("Split", {"axis": 0, "num_outputs": 2}, "num_outputs"),
        ("Cast", {"to": 99}, "to"),
        ("LRN", {"size": 0}, "size"),
        ("InstanceNormalization", {"epsilon": float("nan")}, "epsilon"),
        ("Softmax", {"axis": "last"}, "axis"),
        ("Softmax", {"axis": [1, 2]}, "axis"),
        ("DepthToSpace", {}, "blocksize"),
        ("RandomNormal", {"shape": [1 << 20] * 4}, "shape"),
    ],
)
def test_other_attributes(op: str, attributes: dict[str, object], named: str) -> None:
    inputs = {"RandomNormal": [], "InstanceNormalization": ["x", "x", "x"]}.get(op, ["x"])
    node = helper.make_node(op, inputs, ["y"], name="one", **attributes)
    message = refused(graph_model([node], [value("x", [1, 4, 8, 8])]))
    assert f"node 'one' ({op}): attribute '{named}': found " in message


def relu(source: str, target: str, name: str = "") -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [target], name=name)


X = [value("x", [4])]


@pytest.mark.parametrize(
    ("nodes", "where", "found"),
    [
        ([relu("b", "a", "first"), relu("a", "b"), relu("b", "y")], "'first'", "a cycle"),
        ([relu("a", "y", "self"), relu("y", "a")], "'self'", "a cycle"),
        ([relu("y", "y", "self")], "'self'", "a cycle"),
        ([relu("a", "y", "early"), relu("x", "a", "late")], "'early'", "before its definition"),
        ([relu("nowhere", "y", "first")], "input 'nowhere'", "no node, input or weight"),
        ([relu("x", "y"), relu("x", "y", "again")], "'again'", "a second definition"),
        ([relu("x", "x", "again")], "'again'", "a second definition"),
        ([relu("x", "a")], "output 'y'", "no node, input or weight"),
        ([helper.make_node("Relu", [], ["y"], name="none")], "number of inputs", "found 0"),
        ([helper.make_node("Add", ["x", ""], ["y"], name="none")], "input 1", "nothing"),
        ([helper.make_node("Relu", ["x"], ["y"], domain="far")], "'#0'", "domain 'far'"),
        ([helper.make_node("Constant", [], ["y"], name="c")], "'c'", "no value"),
    ],
)
def test_graphs(nodes: list[onnx.NodeProto], where: str, found: str) -> None:
    message = refused(graph_model(nodes, X))
    assert where in message
    assert found in message


def test_names_are_defined_once_across_inputs_and_weights() -> None:
    assert "input 'x'" in refused(graph_model([relu("x", "y")], [*X, *X]))
    twice = [TensorProto(name="w", data_type=1, dims=[0])] * 2
    assert "initializer 'w'" in refused(graph_model([relu("x", "y")], X, tensors=twice))


def test_a_subgraph_sees_what_came_before_it_and_no_more() -> None:
    branch = helper.make_graph([relu("late", "r", "inner")], "branch", [], [value("r")])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    inputs = [*X, value("c", [], TensorProto.BOOL)]
    read(graph_model([relu("x", "late"), node], inputs))
    message = refused(graph_model([node, relu("x", "late")], inputs))
    assert "'inner'" in message
    assert "else_branch of node" in message


def test_constant_ifs_that_a_runtime_does_not_survive() -> None:
    """Two Ifs with constant conditions around a subgraph that reads a value from outside."""

    def model(levels: int, condition: str) -> bytes:
        branch = helper.make_graph([relu("x", "r")], "branch", [], [value("r")])
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        for _ in range(levels):
            graph = helper.make_graph([node], "branch", [], [value("y")])
            node = helper.make_node("If", [condition], ["y"], then_branch=graph, else_branch=graph)
        inputs = [*X, value("c", [], TensorProto.BOOL)]
        return graph_model([node], inputs, weights={"yes": np.array(True)})

    read(model(1, "yes"))
    read(model(3, "c"))
    message = refused(model(2, "yes"), UnsupportedError)
    assert "conditions are constants" in message


@pytest.mark.parametrize(
    ("tensor", "found"),
    [
        (TensorProto(data_type=1, dims=[2], raw_data=bytes(7)), "7 bytes"),
        (TensorProto(data_type=1, dims=[2]), "no data"),
        (TensorProto(data_type=1, dims=[1 << 60]), "weights"),
        (TensorProto(data_type=1, dims=[-1], raw_data=bytes(4)), "[-1]"),
        (TensorProto(data_type=1, dims=[1 << 62, 1 << 62, 0, -3]), "-3"),
        (TensorProto(data_type=77, dims=[1], raw_data=bytes(4)), "data type 77"),
        (TensorProto(data_type=0, dims=[1], raw_data=bytes(4)), "undefined"),
        (TensorProto(data_type=1, dims=[1] * 65, raw_data=bytes(4)), "65 sizes"),
        (TensorProto(data_type=1, dims=[2], float_data=[1.0]), "1 values in float_data"),
        (TensorProto(data_type=1, dims=[1], int64_data=[1]), "int64_data"),
        (TensorProto(data_type=1, dims=[1], float_data=[1.0], raw_data=bytes(4)), "raw_data and"),
        (TensorProto(data_type=8, dims=[1], raw_data=b"word"), "strings"),
    ],
)
def test_weights(tensor: TensorProto, found: str) -> None:
    tensor.name = "w"
    with pytest.raises(ModelFileError) as caught:  # or its subclass for limits
        read(graph_model([relu("x", "y")], X, tensors=[tensor]))
    assert "initializer 'w'" in str(caught.value)
    assert found in str(caught.value)


def test_a_weight_is_what_is_declared_under_its_name() -> None:
    weights = {"x": np.zeros(3, np.float32)}
    assert "[3]" in refused(graph_model([relu("x", "y")], X, weights=weights))
    weights = {"x": np.zeros(4)}
    assert "double" in refused(graph_model([relu("x", "y")], X, weights=weights))


def change(data: bytes, **fields: int) -> bytes:
    model = onnx.ModelProto.FromString(data)
    for name, number in fields.items():
        setattr(model, name, number)
    return bytes(model.SerializeToString())


def test_versions() -> None:
    data = graph_model([relu("x", "y")], X)
    assert "IR version" in refused(change(data, ir_version=10_000))
    message = refused(graph_model([relu("x", "y")], X, opset=10_000))
    assert "ONNX opset: found 10000; needed 1 to" in message
    assert "opset_version" in message


def test_sizes_declared_as_minus_one_are_unknown() -> None:
    model = onnx.ModelProto.FromString(graph_model([relu("x", "y")], [value("x", [-1, 4])]))
    read(model.SerializeToString())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -2
    assert "input 'x'" in refused(bytes(model.SerializeToString()))


def test_what_the_ir_does_not_hold_is_refused_not_dropped() -> None:
    model = onnx.ModelProto.FromString(graph_model([relu("x", "y")], X))
    model.graph.sparse_initializer.add().values.name = "sparse"
    message = refused(bytes(model.SerializeToString()), UnsupportedError)
    assert "initializer 'sparse'" in message
    model = onnx.ModelProto.FromString(graph_model([relu("x", "y")], X))
    model.graph.node[0].attribute.add(name="s", type=AttributeProto.SPARSE_TENSOR)
    assert "sparse" in refused(bytes(model.SerializeToString()), UnsupportedError)


@pytest.mark.parametrize("kind", ["sequence", "optional"])
def test_a_type_of_nothing(kind: str) -> None:
    model = onnx.ModelProto.FromString(graph_model([relu("x", "y")], X))
    model.graph.output[0].type.Clear()
    getattr(model.graph.output[0].type, f"{kind}_type").SetInParent()
    assert f"output 'y': found a {kind} of nothing" in refused(model.SerializeToString())


TEXTS = {
    "NodeProto.name": lambda m: m.graph.node[0],
    "NodeProto.op_type": lambda m: m.graph.node[0],
    "NodeProto.domain": lambda m: m.graph.node[0],
    "NodeProto.overload": lambda m: m.graph.node[0],
    "NodeProto.doc_string": lambda m: m.graph.node[0],
    "AttributeProto.name": lambda m: m.graph.node[0].attribute.add(),
    "AttributeProto.ref_attr_name": lambda m: m.graph.node[0].attribute.add(),
    "GraphProto.name": lambda m: m.graph.node[0].attribute.add(name="a", type=5).g,
    "TensorProto.doc_string": lambda m: m.graph.initializer.add(name="w", data_type=1),
    "ValueInfoProto.name": lambda m: m.graph.input[0],
    "Dimension.dim_param": lambda m: m.graph.input[0].type.tensor_type.shape.dim[0],
    "Dimension.denotation": lambda m: m.graph.input[0].type.tensor_type.shape.dim[0],
    "StringStringEntryProto.value": lambda m: m.metadata_props.add(key="k"),
    "OperatorSetIdProto.domain": lambda m: m.opset_import.add(version=1),
    "FunctionProto.name": lambda m: m.functions.add(),
    "FunctionProto.input": lambda m: m.functions.add(),
    "NodeProto.output": lambda m: m.graph.node[0],
    "ModelProto.producer_name": lambda m: m,
}


@pytest.mark.parametrize("field", TEXTS)
def test_text_is_utf8_wherever_the_schema_has_text(field: str) -> None:
    """Written as text and broken in the bytes, since protobuf writes no other."""
    model = onnx.ModelProto.FromString(graph_model([relu("x", "y")], X))
    message, name = TEXTS[field](model), field.split(".")[1]
    if isinstance(getattr(message, name), str):
        setattr(message, name, "naNe")
    else:
        getattr(message, name).append("naNe")
    found = refused(model.SerializeToString().replace(b"naNe", b"na\xffe"))
    assert field in found
    assert "UTF-8" in found


def test_a_last_input_left_empty_is_left_out_where_the_runtime_needs_it() -> None:
    node = helper.make_node("LayerNormalization", ["x", "w", ""], ["y"])
    weights = {"w": np.ones(4, np.float32)}
    model = read(graph_model([node], [value("x", [2, 4])], weights=weights))
    runtime = onnx.ModelProto.FromString(model.to_runtime())
    assert list(runtime.graph.node[0].input) == ["x", "w"]
    session = onnxruntime.InferenceSession(model.to_runtime())
    assert session.run(None, {"x": np.eye(2, 4, dtype=np.float32)})[0].shape == (2, 4)


@pytest.mark.parametrize("links", [0, 2])
def test_what_a_declared_size_tells_is_followed_to_the_end(links: int) -> None:
    """A size that the file declares alone, and constants made of it one from the other."""
    x = value("x", ["n", 4, "h", "w"])
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        helper.make_node("Shape", ["r"], ["t0"]),
    ]
    for i in range(links):
        nodes.append(helper.make_node("ConstantOfShape", [f"t{i}"], [f"c{i}"]))
        nodes.append(helper.make_node("Shape", [f"c{i}"], [f"t{i + 1}"]))
    nodes.append(helper.make_node("ConstantOfShape", [f"t{links}"], ["c"]))
    nodes.append(helper.make_node("Add", ["r", "c"], ["y"]))
    model = onnx.ModelProto.FromString(graph_model(nodes, [x]))
    model.graph.value_info.append(value("r", [1, 4, 8, 8]))
    assert read(model.SerializeToString()).name == "model bytes"


class TestExternalData:
    """Weights in other files: only below the model's own folder, and only bytes that are there."""

    def model(self, location: str, offset: str = "0", length: str = "16") -> bytes:
        tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=1)
        for key, entry in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=entry)
        node = helper.make_node("Add", ["x", "w"], ["y"])
        return graph_model([node], X, tensors=[tensor])

    def write(self, folder: Path, data: bytes) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(data)
        return folder / "model.onnx"

    def test_beside_the_model(self, tmp_path: Path) -> None:
        weight = np.arange(8, dtype=np.float32)
        path = self.write(tmp_path, self.model("data/w.bin", offset="16"))
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "w.bin").write_bytes(weight.tobytes())
        model = read(path)
        assert model.external
        tensor = model.model.graph.initializers["w"].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), weight[4:])
        session = onnxruntime.InferenceSession(model.to_runtime())
        y = session.run(None, {"x": np.zeros(4, np.float32)})[0]
        np.testing.assert_array_equal(y, weight[4:])

    @pytest.mark.parametrize(
        "location",
        ["/etc/passwd", "../secret", "a/../../secret", "", ".", "C:\\secret", "..\\secret", "no"],
    )
    def test_elsewhere(self, tmp_path: Path, location: str) -> None:
        (tmp_path / "secret").write_bytes(bytes(16))
        message = refused(self.write(tmp_path / "model", self.model(location)))
        assert "initializer 'w'" in message
        assert f"external data at '{location}'" in message
        assert "below the model's own folder" in message

    def test_bytes_have_no_folder(self) -> None:
        assert "bytes have no folder" in refused(self.model("w.bin"))

    @pytest.mark.parametrize(
        ("offset", "length", "found"),
        [
            ("1", "16", "bytes 1 to 17"),
            ("0", "15", "15 bytes"),
            ("-1", "16", "'-1'"),
            ("0x0", "16", "'0x0'"),
            ("9" * 30, "16", "999"),
        ],
    )
    def test_offsets(self, tmp_path: Path, offset: str, length: str, found: str) -> None:
        path = self.write(tmp_path, self.model("w.bin", offset, length))
        (tmp_path / "w.bin").write_bytes(bytes(16))
        assert found in refused(path)

    def test_a_link_out_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(bytes(16))
        path = self.write(tmp_path / "model", self.model("w.bin"))
        (path.parent / "w.bin").symlink_to(tmp_path / "secret")
        assert "a link to" in refused(path)

    def test_a_second_name_of_another_file(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(bytes(16))
        path = self.write(tmp_path / "model", self.model("w.bin"))
        os.link(tmp_path / "secret", path.parent / "w.bin")
        assert "hard links" in refused(path)

    def test_a_hub_cache(self, tmp_path: Path) -> None:
        """Both files are links into one folder of blobs, as in the cache of a model hub."""
        blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
        blobs.mkdir()
        snapshot.mkdir(parents=True)
        (blobs / "111").write_bytes(self.model("w.bin"))
        (blobs / "222").write_bytes(np.full(4, 7, np.float32).tobytes())
        (snapshot / "model.onnx").symlink_to(blobs / "111")
        (snapshot / "w.bin").symlink_to(blobs / "222")
        tensor = read(snapshot / "model.onnx").model.graph.initializers["w"].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), np.full(4, 7, np.float32))
