"""ONNX's own test cases of whole networks: those that its package carries, and their data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx.backend.test.loader import DATA_DIR, load_model_tests
from onnx.backend.test.runner import Runner

from fastgan.measure.conformance import Case, types


def stored_cases() -> tuple[Case, ...]:
    """The small models that the onnx package carries with their data."""
    cases = []
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for test in sorted(load_model_tests(kind=kind), key=lambda test: test.name):
            folder = Path(test.model_dir or "")
            model = onnx.load(folder / "model.onnx")
            data = tuple(
                (_stored(d, "input", model.graph.input), _stored(d, "output", model.graph.output))
                for d in sorted(folder.glob("test_data_set*"))
            )
            content = model.SerializeToString()
            facts = (content, data, test.rtol, test.atol, types(model))
            cases.append(Case(test.name, kind, "", *facts))
    return tuple(cases)


def light_cases() -> tuple[Case, ...]:
    """Well-known classifiers with constant weights, on ONNX's own dummy input."""
    cases = []
    for path in sorted(Path(DATA_DIR, "light").glob("*.onnx")):
        model = onnx.load(path)
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [
            Runner.generate_dummy_data(value)
            for value in model.graph.input
            if value.name not in weights
        ]
        expected = onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb"))
        data = ((inputs, [onnx.numpy_helper.to_array(expected)]),)
        content = model.SerializeToString()
        cases.append(Case(path.stem, "light", "", content, data, 1e-3, 1e-7, types(model)))
    return tuple(cases)


def _stored(folder: Path, prefix: str, values: Sequence[onnx.ValueInfoProto]) -> list[Any]:
    arrays: list[Any] = []
    for index in range(len(list(folder.glob(f"{prefix}_*.pb")))):
        content = (folder / f"{prefix}_{index}.pb").read_bytes()
        if values[index].type.HasField("sequence_type"):
            sequence = onnx.SequenceProto.FromString(content)
            arrays.append(onnx.numpy_helper.to_list(sequence))
        else:
            arrays.append(onnx.numpy_helper.to_array(onnx.TensorProto.FromString(content)))
    return arrays
