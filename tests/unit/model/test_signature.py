"""What `signature.of` reads from metadata, and what it guesses without."""

import io

import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from fastgan.errors import ModelFileError
from fastgan.model import stated as signature_metadata
from fastgan.model.described import of as described_by
from fastgan.model.signature import Input, Output, Signature


def graph_of(nodes, inputs, outputs, initializers=()) -> ir.Model:
    """A model from ONNX's own helpers; inputs and outputs are (name, type, shape)."""
    infos = [
        [helper.make_tensor_value_info(*port) for port in ports] for ports in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "g", *infos, initializer=list(initializers))
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))


def through(name, type_, shape) -> Input:
    """The guess for a single input of this name, type and shape."""
    model = graph_of(
        [helper.make_node("Identity", [name], ["out"])],
        [(name, type_, shape)],
        [("out", type_, shape)],
    )
    (found,) = described_by(model).inputs
    assert found.guessed
    return found


FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


@pytest.mark.parametrize(
    ("name", "type_", "shape", "kind"),
    [
        ("z", FLOAT, ["n", 100], "latent"),
        ("noise", FLOAT, ["n", 100], "latent"),
        ("z", HALF, [1, 100, 1, 1], "latent"),
        ("x", FLOAT, ["n", 3, 64, 64], "image"),
        ("x", FLOAT, ["n", 1, "h", "w"], "image"),
        ("x", TensorProto.UINT8, ["n", 4, 64, 64], "image"),
        ("mask", FLOAT, ["n", 1, 64, 64], "mask"),
        ("noise_0", FLOAT, ["n", 1, 8, 8], "noise"),
        ("y", FLOAT, ["n", 10], "label"),
        ("label", INT64, ["n"], "label"),
        ("labels", INT64, ["n", 1], "label"),
        ("codes", INT64, ["n", 256], "tensor"),
        ("features", FLOAT, ["n", 256, 8, 8], "tensor"),
        ("w", FLOAT, ["n", 18, 512], "tensor"),
        ("flag", TensorProto.BOOL, [], "scalar"),
    ],
)
def test_guess_by_type_shape_and_name(name, type_, shape, kind):
    found = through(name, type_, shape)
    assert found.kind == kind
    assert found.shape == tuple(shape)
    assert found.distribution == ("normal" if kind in ("latent", "noise") else None)
    assert found.classes == (10 if name == "y" else None)


def test_an_unnamed_size_and_an_unknown_rank_are_told_apart():
    assert through("z", FLOAT, [None, 100]).shape == ("?", 100)
    assert through("z", FLOAT, None).shape == ()


def constant(name, value, dtype="float32"):
    return numpy_helper.from_array(torch.tensor(value).numpy().astype(dtype), name)


@pytest.mark.parametrize(
    ("tail", "bounds"),
    [
        ([("Tanh", ["x"], {})], (-1, 1)),
        ([("Sigmoid", ["x"], {})], (0, 1)),
        ([("Sigmoid", ["x"], {}), ("Identity", ["a0"], {})], (0, 1)),
        ([("Clip", ["x", "zero", "top"], {})], (0, 255)),
        ([("Tanh", ["x"], {}), ("Mul", ["a0", "half"], {}), ("Add", ["half", "a1"], {})], (0, 1)),
        ([("Tanh", ["x"], {}), ("Add", ["a0", "one"], {}), ("Div", ["a1", "two"], {})], (0, 1)),
        ([("Sigmoid", ["x"], {}), ("Sub", ["a0", "half"], {})], (-0.5, 0.5)),
        ([("Tanh", ["x"], {}), ("Transpose", ["a0"], {"perm": [0, 1, 3, 2]})], (-1, 1)),
        ([("Clip", ["x", "zero"], {})], None),
        ([("Relu", ["x"], {})], None),
        ([("Tanh", ["x"], {}), ("Add", ["a0", "x"], {})], None),
        ([("Tanh", ["x"], {}), ("Sub", ["one", "a0"], {})], (0, 2)),
        ([("Tanh", ["x"], {}), ("Mul", ["a0", "zero"], {})], None),
    ],
)
def test_output_range_from_the_last_activation(tail, bounds):
    nodes = [
        helper.make_node(op, inputs, [f"a{i}" if i < len(tail) - 1 else "out"], **attributes)
        for i, (op, inputs, attributes) in enumerate(tail)
    ]
    numbers = {"zero": 0, "half": 0.5, "one": 1, "two": 2, "top": 255}
    port = ["n", 3, 8, 8]
    model = graph_of(
        nodes,
        [("x", FLOAT, port)],
        [("out", FLOAT, port)],
        [constant(name, value) for name, value in numbers.items()],
    )
    (output,) = described_by(model).outputs
    assert output.range == (bounds or (0, 1))  # as networks of images without one mostly have it
    assert output.guessed is (bounds is None)
    assert described_by(model).image.range == output.range


def test_clip_bounds_of_old_opsets_are_attributes():
    node = helper.make_node("Clip", ["x"], ["out"], min=0.0, max=6.0)
    model = graph_of([node], [("x", FLOAT, [1, 3, 8, 8])], [("out", FLOAT, [1, 3, 8, 8])])
    assert described_by(model).outputs[0].range == (0, 6)


class Conditional(nn.Module):
    """A latent times an embedded label, as many conditional generators have it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, 16)
        self.layer = nn.ConvTranspose2d(16, 3, 8)

    def forward(self, z, label):
        return torch.sigmoid(self.layer((z * self.embedding(label))[..., None, None]))


def exported(module, *examples, names) -> ir.Model:
    """By PyTorch's TorchScript exporter, with nothing stated."""
    buffer = io.BytesIO()
    axes = {name: {0: "batch"} for name in names}
    torch.onnx.export(
        module.eval(), examples, buffer, input_names=names, dynamic_axes=axes, dynamo=False
    )
    return ir.from_proto(onnx.load_model_from_string(buffer.getvalue()))


@pytest.mark.filterwarnings("ignore:.*legacy TorchScript-based.*:DeprecationWarning")
def test_classes_are_the_rows_of_the_embedding():
    examples = torch.randn(2, 16), torch.tensor([0, 1])
    found = described_by(exported(Conditional(7), *examples, names=["z", "label"]))
    assert [(i.name, i.kind) for i in found.inputs] == [("z", "latent"), ("label", "label")]
    assert found.label.classes == 7
    assert found.latent.shape == ("batch", 16)
    assert found.frozen_batch is None
    assert found.outputs[0].range == (0, 1)


@pytest.mark.filterwarnings("ignore:.*legacy TorchScript-based.*:DeprecationWarning")
def test_an_input_with_a_value_is_not_an_input():
    model = exported(nn.Linear(4, 4), torch.randn(1, 4), names=["z"])
    proto = ir.to_proto(model)
    for tensor in proto.graph.initializer:  # as IR version 3 had every weight
        info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        proto.graph.input.append(info)
    assert [i.name for i in described_by(ir.from_proto(proto)).inputs] == ["z"]


def test_frozen_batch():
    latent = Input("z", "latent", (4, 100))
    noise = Input("n", "noise", (1, 1, 4, 4))
    assert Signature((noise, latent), ()).frozen_batch == 4
    assert Signature((noise,), ()).frozen_batch is None


# ---- metadata ----------------------------------------------------------------------------------


def labelled(metadata: str | None = None) -> ir.Model:
    model = graph_of(
        [helper.make_node("Identity", ["z"], ["out"]), helper.make_node("Identity", ["c"], ["d"])],
        [("z", FLOAT, ["n", 10]), ("c", INT64, ["n"])],
        [("out", FLOAT, ["n", 10]), ("d", INT64, ["n"])],
    )
    if metadata is not None:
        model.metadata_props[signature_metadata.KEY] = metadata
    return model


def test_metadata_round_trip():
    stated = Signature(
        (
            Input("z", "latent", ("n", 10), distribution="hypersphere"),
            Input("c", "label", ("n",), "int64", classes=3),
        ),
        (
            Output("out", "tensor", ("n", 10), range=(0.0, 255.0)),
            Output("d", "tensor", ("n",), "int64", range=(-2.0, 2.0)),
        ),
        ("cat", "dog", "eel"),
    )
    assert described_by(labelled(signature_metadata.dump(stated))) == stated
    assert "3 classes" in str(stated)
    assert "hypersphere" in stated.describe()


def test_what_is_not_stated_is_guessed():
    text = '{"version": 1, "inputs": [{"name": "c", "kind": "label", "classes": 5, "later": 1}]}'
    found = described_by(labelled(text))
    assert found.label == Input("c", "label", ("n",), "int64", classes=5)
    assert found.latent.guessed


def test_a_one_hot_label_has_as_many_classes_as_it_is_wide():
    text = '{"version": 1, "inputs": [{"name": "z", "kind": "label"}]}'
    assert described_by(labelled(text)).first("label") == Input("z", "label", ("n", 10), classes=10)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "the document"),
        ("{", "the document"),
        ("[" * 100_000, "the document"),
        ("9" * 5000, "the document"),
        ("[]", "the document"),
        ("null", "the document"),
        ("{}", "version"),
        ('{"version": true}', "version"),
        ('{"version": "1"}', "version"),
        ('{"version": 2}', "later fastgan"),
        ('{"version": 1, "inputs": {}}', "inputs"),
        ('{"version": 1, "inputs": [1]}', "inputs[0]"),
        ('{"version": 1, "inputs": [{"kind": "latent"}]}', "inputs[0].name"),
        ('{"version": 1, "inputs": [{"name": ["z"], "kind": "latent"}]}', "inputs[0].name"),
        ('{"version": 1, "inputs": [{"name": "z"}]}', "inputs[0].kind"),
        ('{"version": 1, "inputs": [{"name": "z", "kind": []}]}', "inputs[0].kind"),
        ('{"version": 1, "inputs": [{"name": "z", "kind": "picture"}]}', "inputs[0].kind"),
        ('{"version": 1, "inputs": [{"name": "q", "kind": "latent"}]}', "'q'"),
        ('{"version": 1, "outputs": [{"name": "z", "kind": "image"}]}', "'z'"),
        ('{"version": 1, "class_names": "ab"}', "class_names"),
        ('{"version": 1, "class_names": [1]}', "class_names"),
        ('{"version": 1, "inputs": [{"name": "z", "kind": "image"}]}', "input 'z'"),
        ('{"version": 1, "inputs": [{"name": "c", "kind": "latent"}]}', "input 'c'"),
    ],
)
def test_malformed_metadata_names_the_field(text, named):
    with pytest.raises(ModelFileError) as caught:
        described_by(labelled(text))
    assert named in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("range", "[1, -1]"),
        ("range", "[0, NaN]"),
        ("range", "[0, Infinity]"),
        ("range", "[0, 1, 2]"),
        ("range", '["0", "1"]'),
        ("range", "[false, true]"),
        ("range", "1"),
        ("classes", "0"),
        ("classes", "-3"),
        ("classes", "2.5"),
        ("classes", "true"),
        ("classes", "1e400"),
        ("distribution", '"gaussian"'),
        ("distribution", "{}"),
    ],
)
def test_malformed_values_name_the_field(key, value):
    text = f'{{"version": 1, "inputs": [{{"name": "c", "kind": "label", "{key}": {value}}}]}}'
    with pytest.raises(ModelFileError, match=rf"inputs\[0\].{key}"):
        described_by(labelled(text))


def test_two_entries_of_one_name():
    entry = '{"name": "z", "kind": "latent"}'
    with pytest.raises(ModelFileError, match=r"inputs\[1\].name"):
        described_by(labelled(f'{{"version": 1, "inputs": [{entry}, {entry}]}}'))


def test_as_many_class_names_as_classes():
    text = '{"version": 1, "inputs": [{"name": "c", "kind": "label", "classes": 3}],'
    with pytest.raises(ModelFileError, match="class_names"):
        described_by(labelled(text + '"class_names": ["a", "b"]}'))


def test_a_sequence_is_not_an_input():
    info = helper.make_tensor_sequence_value_info("s", FLOAT, [1])
    out = helper.make_tensor_value_info("out", FLOAT, [1])
    node = helper.make_node("ConcatFromSequence", ["s"], ["out"], axis=0)
    model = helper.make_model(helper.make_graph([node], "g", [info], [out]))
    with pytest.raises(ModelFileError, match="'s'"):
        described_by(ir.from_proto(model))
