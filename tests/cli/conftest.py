"""Small models, and a way to run a command and see all that it does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from fastgan.cli import app
from fastgan.model import stated as signature_metadata
from fastgan.model.signature import Input, Output, Signature

LATENT, CLASSES = 6, 4
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No interpreter in place of a GPU, a terminal of 100 columns, and the log left as it was."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    log = logging.getLogger("fastgan")
    level, handlers = log.level, list(log.handlers)
    yield
    log.setLevel(level)
    log.handlers[:] = handlers


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def fastgan() -> Callable[..., Outcome]:
    """Run `fastgan ARGUMENTS...` in this process."""

    def run(*arguments: object) -> Outcome:
        result = CliRunner().invoke(app(), [str(a) for a in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


def build(channels: int = 3, conditional: bool = False, scale: float = 1.0) -> onnx.ModelProto:
    """A generator of 8x8 images: latent [n, 6] -> Gemm, two transposed convolutions, tanh."""
    rng = np.random.default_rng(channels)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = rng.normal(0, scale * shape[0] ** -0.5, shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    weights = [weight("w0", LATENT, 16 * 4), weight("w1", 16, 8, 4, 4)]
    weights += [weight("w2", 8, channels, 3, 3)]
    weights += [numpy_helper.from_array(np.array([-1, 16, 2, 2]), "shape")]
    up = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    last = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Gemm", ["z", "w0"], ["rows"], "dense"),
        helper.make_node("Reshape", ["rows", "shape"], ["x0"], "reshape"),
        helper.make_node("ConvTranspose", ["x0", "w1"], ["x1"], "up1", **up),
        helper.make_node("Relu", ["x1"], ["x2"], "relu"),
        helper.make_node(
            "ConvTranspose", ["x2", "w2"], ["x3"], "up2", output_padding=[1, 1], **last
        ),
        helper.make_node("Tanh", ["x3"], ["image"], "tanh"),
    ]
    inputs = [helper.make_tensor_value_info("z", FLOAT, ["n", LATENT])]
    ports = [Input("z", "latent", ("n", LATENT), distribution="normal")]
    if conditional:
        weights.append(weight("classes", CLASSES, LATENT))
        inputs.append(helper.make_tensor_value_info("y", INT64, ["n"]))
        ports.append(Input("y", "label", ("n",), "int64", classes=CLASSES))
        nodes[0].input[0] = "mixed"
        nodes[:0] = [
            helper.make_node("Gather", ["classes", "y"], ["chosen"], "embed"),
            helper.make_node("Add", ["z", "chosen"], ["mixed"], "mix"),
        ]
    output = Output("image", "image", ("n", channels, 8, 8), range=(-1.0, 1.0))
    graph = helper.make_graph(
        nodes,
        "generator",
        inputs,
        [helper.make_tensor_value_info("image", FLOAT, ["n", channels, 8, 8])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    names = ("ant", "bee", "cat", "dog") if conditional else ()
    stated = signature_metadata.dump(Signature(tuple(ports), (output,), names))
    helper.set_model_props(model, {signature_metadata.KEY: stated})
    return model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rgb.onnx, grey.onnx and classes.onnx."""
    made = tmp_path_factory.mktemp("models")
    onnx.save(build(), made / "rgb.onnx")
    onnx.save(build(channels=1), made / "grey.onnx")
    onnx.save(build(conditional=True), made / "classes.onnx")
    return made


@pytest.fixture(scope="session")
def rgb(folder: Path) -> Path:
    """A generator of 8x8 images in colour."""
    return folder / "rgb.onnx"
