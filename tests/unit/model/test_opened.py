"""One way from a file to a model: `load`, `inspect` and `compare` judge the same one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

import fastgan
from fastgan import loading
from fastgan.cli import app
from fastgan.loading import open_model
from fastgan.measure import bench
from fastgan.model.file import ModelFile
from fastgan.recipes.evaluation import report
from tests.drawing import new_numpy

#: By what is odd of each: the Reshape's target and the batch and shape that are declared.
FILES = {
    "channels last": ([-1, 8, 8, 3], "n", ["n", 8, 8, 3]),
    "a batch that only a Reshape states": ([4, 3, 8, 8], "n", ["n", 3, 8, 8]),
    "a batch declared, and only declared": ([-1, 3, 8, 8], 4, [4, 3, 8, 8]),
}


def file(path: Path, target: list[int], batch: object, shape: list[object]) -> Path:
    """A linear layer of 8 numbers whose rows become images."""
    weight = new_numpy().standard_normal((8, 192)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["z", "w"], ["p"]),
        helper.make_node("Reshape", ["p", "s"], ["r"]),
        helper.make_node("Tanh", ["r"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [batch, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.array(target, np.int64), "s"),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.mark.parametrize("name", FILES)
def test_inspect_and_compare_judge_what_load_runs(name: str, tmp_path: Path) -> None:
    path = file(tmp_path / "m.onnx", *FILES[name])
    loaded = fastgan.load(path)
    assert loaded.generate(3).shape == (3, 3, 8, 8)
    shown = json.loads(CliRunner().invoke(app(), ["inspect", str(path), "--json"]).stdout)
    told = [(port["name"], port["kind"], port["shape"]) for port in shown["outputs"]]
    sizes = "[" + ", ".join(map(str, loaded.signature.outputs[0].shape)) + "]"
    assert told == [("y", "image", sizes)]
    compared = CliRunner().invoke(app(), ["compare", str(path), "--n", "4"])
    assert compared.exit_code == 0, compared.output
    for backend in ("torch", "ort"):
        rows = (line.split() for line in compared.stdout.splitlines())
        assert next(row for row in rows if row[:3] == [backend, "cpu", "fp32"])[-1] == "ok"


def test_a_model_says_its_shapes_and_what_it_makes(tmp_path: Path) -> None:
    model = open_model(file(tmp_path / "m.onnx", *FILES["channels last"]))
    assert model.shapes(5) == {"z": (5, 8)}
    assert (model.output.shape[1:], model.output.channels_last) == ((3, 8, 8), True)
    with pytest.raises(AttributeError):
        model.signature = model.declared  # type: ignore[misc]


@pytest.mark.parametrize("command", ["inspect", "compare", "profile", "bench", "evaluate"])
def test_a_command_reads_the_file_once(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(file(tmp_path / "m.onnx", *FILES["channels last"]))
    read, reads = loading.read, []

    def counted(*given: Any, **options: Any) -> ModelFile:
        reads.append(given)
        return read(*given, **options)

    monkeypatch.setattr(loading, "read", counted)
    if command == "bench":
        kinds = {"fp32": 1.0, "bf16": 1.0}
        monkeypatch.setattr(bench.ceilings, "products", lambda device, wanted: kinds)
        bench.run(path, sizes=[1], seconds=0.01, peers=[])
    elif command == "evaluate":
        report.measure(path, lambda generator: {}, ("fp32", "fp32"))
    else:
        result = CliRunner().invoke(app(), [command, path])
        assert result.exit_code == 0, result.output
    assert len(reads) == 1
