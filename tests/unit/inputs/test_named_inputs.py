"""Inputs beside a latent or an image: scalars, psi, StyleGAN's classes, labels of no width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import fastgan
from fastgan import ArgumentError
from fastgan.inputs.make import Inputs
from fastgan.model import stated as signature_metadata
from fastgan.model.signature import Input, Output, Signature
from tests.unit.models import graph_model, value

BACKENDS = ["torch", "ort"]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def scaled(shape: Sequence[int | str], dtype: int = FLOAT, name: str = "w") -> bytes:
    """An image times a number: y = x * w, where w is of this shape."""
    nodes = [
        helper.make_node("Cast", [name], ["f"], to=FLOAT),
        helper.make_node("Reshape", ["f", "sizes"], ["four"]),
        helper.make_node("Mul", ["x", "four"], ["y"]),
    ]
    images = ["n", 3, "h", "v"]
    return graph_model(
        nodes,
        [value("x", images), value(name, shape, dtype)],
        weights={"sizes": np.array([-1, 1, 1, 1])},
        outputs=[value("y", images)],
    )


class Forgetful(dict[Any, Any]):
    """Forgets all as soon as something is looked up, as another thread may."""

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        self.clear()
        return found

    def get(self, key: Any, default: Any = None) -> Any:
        found = super().get(key, default)
        self.clear()
        return found


def test_a_kind_that_another_thread_forgets() -> None:
    port = Input("x", "tensor", ("n", "m"))
    inputs = Inputs(Signature((port,), (Output("y", "tensor", ("n", "m")),)), torch.device("cpu"))
    x = torch.zeros(2, 3)
    expected = inputs.given({"x": x})
    inputs._passed = Forgetful(inputs._passed)
    for _ in range(3):
        made, rows = inputs.given({"x": x})
        assert made["x"].is_set_to(expected[0]["x"])
        assert rows is expected[1] is None


def generator(
    *inputs: onnx.ValueInfoProto, nodes: Sequence[onnx.NodeProto], width: int, batch: object = "n"
) -> bytes:
    """A generator of what the nodes make of its inputs, "h" [n, width]."""
    weight = np.random.default_rng(0).standard_normal((width, 48)).astype(np.float32) * 0.3
    last = [
        helper.make_node("MatMul", ["h", "weight"], ["m"]),
        helper.make_node("Tanh", ["m"], ["t"]),
        helper.make_node("Reshape", ["t", "sizes"], ["y"]),
    ]
    weights = {"weight": weight, "sizes": np.array([-1, 3, 4, 4])}
    outputs = [value("y", [batch, 3, 4, 4])]
    return graph_model([*nodes, *last], inputs, weights=weights, outputs=outputs)


def psi_model(shape: Sequence[int | str] = (), name: str = "psi", batch: object = "n") -> bytes:
    node = helper.make_node("Mul", ["z", name], ["h"])
    return generator(value("z", [batch, 8]), value(name, shape), nodes=[node], width=8)


# Beside an image --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), ("n",), ("n", 1), ("n", 1, 1, 1)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_scalar_in_every_form(backend: str, shape: tuple[int | str, ...]) -> None:
    model = fastgan.load(scaled(shape), backend=backend, device="cpu")
    port = model.signature.inputs[1]
    assert (port.kind, port.shape) == ("scalar", shape)
    x = torch.rand(3, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    forms = (0.7, np.float32(0.7), np.float64(0.7), np.array(0.7), torch.tensor(0.7), [0.7])
    for w in (*forms, np.array([0.7])[::-1], torch.tensor([0.7])):
        assert torch.allclose(model(x, w=w, batch_size=2), x * 0.7, atol=1e-6), w
    if shape[:1] == ("n",):  # one for each image, whatever the batch
        w = [0.1, 0.2, 0.3]
        expected = x * torch.tensor(w)[:, None, None, None]
        for given in (w, np.array(w), torch.tensor(w)):
            assert torch.allclose(model(x, w=given, batch_size=2), expected, atol=1e-6)
    tiles = model(x, w=0.7, tile=4, tile_pad=2)
    assert torch.allclose(tiles, x * 0.7, atol=1e-6)
    listed = model([x[0], x[1, :, :4], x[2]], w=2)
    assert torch.allclose(listed[1], x[1, :, :4] * 2)


@pytest.mark.parametrize("shape", [(), ("n",)], ids=str)
def test_what_is_no_number_is_refused(shape: tuple[int | str, ...]) -> None:
    model = fastgan.load(scaled(shape), device="cpu")
    x = torch.rand(2, 3, 8, 8)
    absurd = (True, "much", float("nan"), np.inf, 1e300, [1.0, 2.0, 3.0], np.zeros((2, 2)), [None])
    for w in (*absurd, 1j):
        with pytest.raises(ArgumentError, match="w"):
            model(x, w=w)
    with pytest.raises(ArgumentError, match=r"'w'.*g\(images, w=0\.7\).*--input w="):
        model(x)


@pytest.mark.parametrize("name", ["t", "timestep", "scale"])
def test_whole_numbers(name: str) -> None:
    model = fastgan.load(scaled([1], INT64, name), device="cpu")
    assert model.signature.inputs[1].kind == "scalar"
    x = torch.rand(2, 3, 8, 8)
    for given in (3, 3.0, np.int32(3), torch.tensor(3), [3]):
        assert torch.allclose(model(x, **{name: given}), x * 3)
    with pytest.raises(ArgumentError, match="int64"):
        model(x, **{name: 0.5})


@pytest.mark.parametrize("backend", BACKENDS)
def test_run_takes_scalars_too(backend: str) -> None:
    model = fastgan.load(scaled(()), backend=backend, device="cpu")
    x = torch.rand(2, 3, 4, 4)
    for w in (0.5, [0.5], torch.tensor(0.5)):
        assert torch.allclose(model.run({"x": x, "w": w})["y"], x / 2)
    with pytest.raises(ArgumentError, match="shape"):
        model.run({"x": x, "w": [0.5, 0.6]})
    with pytest.raises(ArgumentError, match="array or a tensor"):
        model.run({"x": x, "w": "half"})


# In generate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), ("n",), ("n", 1)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_psi(backend: str, shape: tuple[int | str, ...]) -> None:
    data = psi_model(shape)
    if shape == ("n",):  # [n] against [n, 8] does not broadcast
        shaped = [
            helper.make_node("Reshape", ["psi", "column"], ["p"]),
            helper.make_node("Mul", ["z", "p"], ["h"]),
        ]
        proto = onnx.load_from_string(
            generator(value("z", ["n", 8]), value("psi", shape), nodes=shaped, width=8)
        )
        column = onnx.numpy_helper.from_array(np.array([-1, 1]), "column")
        proto.graph.initializer.append(column)
        data = proto.SerializeToString()
    model = fastgan.load(data, backend=backend, device="cpu")
    psi = model.signature.inputs[1]
    assert (psi.kind, psi.default) == ("scalar", 1.0)
    z = model.latents(5, seed=3)

    def by_run(numbers: list[float]) -> torch.Tensor:
        rows = [
            model.run({"z": z[i : i + 1], "psi": np.full([1] * len(shape), number, np.float32)})
            for i, number in enumerate(numbers)
        ]
        return torch.cat([row["y"] for row in rows])

    close = {"atol": 1e-6}
    assert torch.allclose(model.generate(5, seed=3, batch_size=2), by_run([1.0] * 5), **close)
    for call in ({"psi": 0.7}, {"truncation": 0.7}, {"psi": np.float32(0.7)}, {"psi": [0.7]}):
        made = model.generate(5, seed=3, batch_size=2, **call)
        assert torch.allclose(made, by_run([0.7] * 5), **close), call
    assert torch.equal(model.latents(5, seed=3, truncation=0.7), z)
    if shape[:1] == ("n",):
        each = [0.1, 0.4, 0.7, 1.0, -0.5]
        made = model.generate(5, seed=3, batch_size=2, psi=each)
        assert torch.allclose(made, by_run(each), **close)
    with pytest.raises(ArgumentError, match="psi beside it"):
        model.generate(2, psi=0.5, truncation=0.5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_psi_of_a_batch_that_the_exporter_fixed(backend: str) -> None:
    model = fastgan.load(psi_model((1,), batch=1), backend=backend, device="cpu")
    one = model.generate(1, psi=0.5, start=2)
    assert torch.allclose(model.generate(3, psi=0.5)[2:], one, atol=1e-6)
    z = model.latents(3)
    made = model.run({"z": z, "psi": [0.5]})["y"]
    assert torch.allclose(made[2:], one, atol=1e-6)


def test_a_scalar_that_must_be_given_is_named() -> None:
    model = fastgan.load(psi_model(name="strength"), device="cpu")
    with pytest.raises(ArgumentError, match=r"'strength'.*generate\(n, strength=0\.7\)"):
        model.generate(2)
    with pytest.raises(ArgumentError, match=r"psi.*no such input.*strength"):
        model.generate(2, psi=1)
    assert model.generate(2, strength=0.5).shape == (2, 3, 4, 4)


def test_frames_of_a_stream_take_them() -> None:
    model = fastgan.load(psi_model(name="strength"), device="cpu")
    frames = {}
    for strength in (0.5, 0.25):
        with model.stream(latents=[3], frames=1, format="float32", strength=strength) as stream:
            frames[strength] = next(stream).images.clone()
        made = model.generate(1, seed=3, strength=strength)
        assert torch.allclose(frames[strength], made, atol=1e-6)
    assert not torch.allclose(frames[0.5], frames[0.25])
    with pytest.raises(ArgumentError, match="no such input"):
        model.stream(latents=[3], frames=1, speeed=2, strength=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_stylegans_classes(backend: str) -> None:
    node = helper.make_node("Concat", ["z", "c"], ["h"], axis=1)
    data = generator(value("z", ["n", 8]), value("c", ["n", 10]), nodes=[node], width=18)
    model = fastgan.load(data, backend=backend, device="cpu")
    port = model.signature.inputs[1]
    assert (port.kind, port.classes) == ("label", 10)
    one_hot = torch.eye(10)[[3, 3]]
    z = model.latents(2)
    expected = model.run({"z": z, "c": one_hot})["y"]
    for call in ({"labels": 3}, {"c": 3}, {"c": one_hot}, {"c": one_hot[0]}, {"c": [3, 3]}):
        assert torch.allclose(model.generate(2, **call), expected, atol=1e-6), call
    with pytest.raises(ArgumentError, match="beside it"):
        model.generate(2, labels=3, c=3)
    with pytest.raises(ArgumentError, match="c"):
        model.generate(2, c=torch.zeros(2, 9))


def test_a_code_alone_is_a_latent() -> None:
    node = helper.make_node("Identity", ["c"], ["h"])
    model = fastgan.load(generator(value("c", ["n", 8]), nodes=[node], width=8), device="cpu")
    assert model.signature.inputs[0].kind == "latent"


@pytest.mark.parametrize("batch", ["n", 1], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_label_of_no_width(backend: str, batch: object) -> None:
    node = helper.make_node("Concat", ["z", "label"], ["h"], axis=1)
    inputs = value("z", [batch, 8]), value("label", [batch, 0])
    data = generator(*inputs, nodes=[node], width=8, batch=batch)
    model = fastgan.load(data, backend=backend, device="cpu")
    made = model.generate(3, batch_size=None)
    plain = helper.make_node("Identity", ["z"], ["h"])
    alone = fastgan.load(generator(value("z", ["n", 8]), nodes=[plain], width=8), device="cpu")
    assert torch.allclose(made, alone.generate(3), atol=1e-6)
    with pytest.raises(ArgumentError, match="without classes"):
        model.generate(1, labels=0)


def test_latents_of_ones_own() -> None:
    model = fastgan.load(psi_model(), device="cpu")
    z = model.latents(3, seed=5)
    for given in (z, z.numpy(), z.tolist()):
        assert torch.equal(model.generate(3, z=given), model.generate(3, seed=5))
    rows = model.generate(3, z=z[0])
    assert torch.allclose(rows[1], rows[0], atol=1e-6)
    with pytest.raises(ArgumentError, match="'z'"):
        model.generate(3, z=z[:2])
    for wrong in (z.to("meta"), z.to_sparse()):
        with pytest.raises(ArgumentError, match="a dense tensor"):
            model.generate(3, z=wrong)


@pytest.mark.parametrize("inputs", [None, 3, [1], {3: 1}])
def test_what_names_no_inputs(inputs: object) -> None:
    model = fastgan.load(psi_model(), device="cpu")
    with pytest.raises(ArgumentError, match="inputs"):
        model.run(inputs)
    with pytest.raises(ArgumentError, match="sizes"):
        model.warm_up(3)


# What a file says -------------------------------------------------------------------------------


def test_scalars_in_the_metadata() -> None:
    ports = (
        Input("z", "latent", ("n", 8), distribution="normal"),
        Input("strength", "scalar", (), default=0.5),
    )
    output = Output("y", "image", ("n", 3, 4, 4))
    stated = signature_metadata.dump(Signature(ports, (output,)))
    proto = onnx.load_from_string(psi_model(name="strength"))

    def load(text: str) -> fastgan.Generator:
        helper.set_model_props(proto, {signature_metadata.KEY: text})
        return fastgan.load(proto.SerializeToString(), device="cpu")

    model = load(stated)
    assert model.signature.inputs == ports
    assert torch.equal(model.generate(2), model.generate(2, strength=0.5))
    # What files said before there were scalars: it is one all the same.
    old = load(stated.replace('"scalar"', '"tensor"').replace(', "default": 0.5', ""))
    assert old.signature.inputs[1] == replace(ports[1], default=None)
    with pytest.raises(fastgan.ModelFileError, match="one number"):
        load(stated.replace('"latent", "distribution": "normal"', '"scalar"'))
    with pytest.raises(fastgan.ModelFileError, match="default"):
        load(stated.replace("0.5", '"half"'))


def test_export_states_a_scalar(tmp_path) -> None:
    class Times(torch.nn.Module):
        def forward(self, z: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return torch.tanh(z * w).reshape(-1, 3, 2, 2)

    inputs = [Input("z", "latent", ("batch", 12)), Input("w", "scalar", (), default=0.25)]
    fastgan.export(Times(), tmp_path / "t.onnx", inputs=inputs)
    model = fastgan.load(tmp_path / "t.onnx", device="cpu")
    z = model.latents(2)
    assert torch.allclose(model.generate(2), torch.tanh(z / 4).reshape(-1, 3, 2, 2), atol=1e-6)
