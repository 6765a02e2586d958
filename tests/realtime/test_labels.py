"""Classes in a stream: mixed where the model takes one-hot floats, else switched."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import fastgan
from fastgan.errors import ArgumentError
from fastgan.model import stated as signature_metadata
from fastgan.model.signature import Input, Output, Signature
from fastgan.realtime import Rows
from fastgan.realtime.live.page import Serving
from fastgan.realtime.live.session import Live

CLASSES, FLOAT = 4, TensorProto.FLOAT


@pytest.fixture(scope="module", params=["float32", "int64"])
def model(request, tmp_path_factory):
    """image = reshape(z + label @ table): a class is one constant picture of 2x2."""
    one_hot = request.param == "float32"
    table = np.diag([0.2, 0.4, 0.6, 0.8]).astype(np.float32)
    label_shape = ["n", CLASSES] if one_hot else ["n"]
    label_type = FLOAT if one_hot else TensorProto.INT64
    picked = (
        helper.make_node("MatMul", ["y", "table"], ["row"])
        if one_hot
        else helper.make_node("Gather", ["table", "y"], ["row"])
    )
    nodes = [
        picked,
        helper.make_node("Add", ["z", "row"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["image"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classes",
        [
            helper.make_tensor_value_info("z", FLOAT, ["n", 4]),
            helper.make_tensor_value_info("y", label_type, label_shape),
        ],
        [helper.make_tensor_value_info("image", FLOAT, ["n", 1, 2, 2])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([-1, 1, 2, 2]), "shape"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    ports = (
        Input("z", "latent", ("n", 4), distribution="normal"),
        Input("y", "label", tuple(label_shape), request.param, classes=CLASSES),
    )
    output = Output("image", "image", ("n", 1, 2, 2), range=(0.0, 1.0))
    stated = Signature(ports, (output,), ("ant", "bee", "cat", "dog"))
    helper.set_model_props(made, {signature_metadata.KEY: signature_metadata.dump(stated)})
    path = tmp_path_factory.mktemp("models") / "classes.onnx"
    onnx.save(made, path)
    return fastgan.load(path, device="cpu"), one_hot


def shown(stream, expected) -> bool:
    """Whether one of the next frames is this: those rendered before a change come first."""
    pixels = torch.tensor(expected)
    for _ in range(8):
        images = stream.take().images.flatten(1)
        if torch.allclose(images, pixels.expand_as(images), atol=1e-6):
            return True
    return False


def test_classes_change_while_it_runs(model) -> None:
    generator, mixes = model
    with generator.stream(
        latents=Rows(torch.zeros(1, 4)), labels="bee", batch=2, format="float32", policy="every"
    ) as stream:
        assert shown(stream, [0.0, 0.4, 0.0, 0.0])
        stream.set(labels=3)
        assert shown(stream, [0.0, 0.0, 0.0, 0.8])
        stream.set(labels={"ant": 3, "dog": 1})
        assert shown(stream, [0.15, 0.0, 0.0, 0.2] if mixes else [0.2, 0.0, 0.0, 0.0])
        stream.set(labels=["cat", 0])
        frame = stream.take()
        while frame.images[0, 0, 1, 0] == 0:
            frame = stream.take()
        torch.testing.assert_close(frame.images.flatten(1)[1], torch.tensor([0.2, 0, 0, 0]))
        for wrong in ("eel", 4, {"eel": 1}, {"ant": -1}, {}, {"ant": 0}, [1]):
            with pytest.raises(ArgumentError):
                stream.set(labels=wrong)


def test_a_class_of_the_seed_stays(model) -> None:
    generator, _ = model
    zeros = Rows(torch.zeros(1, 4))
    with generator.stream(latents=zeros, seed=5, policy="every", frames=20) as stream:
        frames = [frame.images.clone() for frame in stream]
    assert frames[0].max() > 0
    assert all(torch.equal(frame, frames[0]) for frame in frames)


def test_the_live_page_lists_the_classes(model, tmp_path) -> None:
    generator, mixes = model
    taken = []

    class Sink:
        def write(self, frame, index, produced_ns) -> None:
            taken.append((tuple(frame.shape), index))
            if len(taken) == 3:
                page.stop()

        def close(self) -> None:
            pass

    with generator.stream(fps=100) as stream:
        page = Live(generator, "classes", stream, Serving(folder=tmp_path, sinks=[Sink()]))
        hello = page.hello()
        assert hello["classes"] == ["ant", "bee", "cat", "dog"]
        assert hello["mixes"] is mixes
        page._act({"labels": {"1": 0.5, "3": 0.0}})
        assert stream.controls.settings.label is not None
        page.run(0)  # sinks get frames although nobody looks
    assert [shape for shape, _ in taken][:3] == [(2, 2, 1)] * 3
