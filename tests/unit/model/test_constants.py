"""Small constants at check time are what ONNX's reference makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import fastgan
from fastgan.errors import LimitError
from fastgan.limits import Limits
from fastgan.model.file import read
from fastgan.model.file.constants import SMALL, evaluate
from tests.unit.models import graph_model, value

INT = np.int64
TABLE = np.arange(12, dtype=INT).reshape(3, 4)
CASES: list[tuple[str, list[Any], dict[str, Any], int]] = [
    ("Transpose", [TABLE], {}, 1),
    ("Transpose", [TABLE.reshape(3, 2, 2)], {"perm": [2, 0, 1]}, 1),
    ("Flatten", [TABLE.reshape(3, 2, 2)], {"axis": 2}, 1),
    ("Flatten", [TABLE], {"axis": -1}, 1),
    ("Tile", [TABLE, np.array([1, 2])], {}, 1),
    ("Pad", [TABLE, np.array([0, 1, 1, 0]), np.array(7)], {}, 1),
    ("Split", [TABLE, np.array([1, 3])], {"axis": 1}, 2),
    ("Split", [TABLE], {"axis": 1, "num_outputs": 3}, 3),
    ("ScatterND", [TABLE, np.array([[1], [2]]), TABLE[:2]], {}, 1),
    ("GatherND", [TABLE, np.array([[1, 2]])], {}, 1),
    ("CumSum", [TABLE, np.array(1)], {}, 1),
    ("Clip", [TABLE, np.array(2), np.array(5)], {}, 1),
    ("TopK", [TABLE, np.array([2])], {}, 2),
    ("ReduceMean", [TABLE.astype(np.float32), np.array([1])], {}, 1),
    ("NonZero", [TABLE], {}, 1),
]


@pytest.mark.parametrize(("op", "inputs", "given", "count"), CASES, ids=[c[0] for c in CASES])
def test_as_the_reference(op: str, inputs: list[Any], given: dict[str, Any], count: int) -> None:
    names = [f"i{index}" for index in range(len(inputs))]
    node = helper.make_node(op, names, [f"o{index}" for index in range(count)], **given)
    graph = helper.make_graph([node], "g", map(value, names), map(value, node.output))
    reference = ReferenceEvaluator(graph, opsets={"": 20})
    expected = reference.run(None, dict(zip(names, inputs, strict=True)))
    for found, wanted in zip(evaluate(node, inputs, 20), expected, strict=True):
        assert found is not None
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("Tile", [TABLE, np.array([1 << 40, 1 << 20])]),
        ("Pad", [TABLE, np.array([0, 0, 1 << 60, 1 << 60])]),
        ("Tile", [TABLE, np.array([-1, 1])]),
        ("Transpose", [np.arange(3), np.arange(3)]),
        ("ScatterND", [TABLE, np.array([[9]]), TABLE[:1]]),
    ],
)
def test_what_is_large_or_wrong_is_not_known(op: str, inputs: list[Any]) -> None:
    names = [f"i{index}" for index in range(len(inputs))]
    made = evaluate(helper.make_node(op, names, ["o"]), inputs, 20)
    assert made[0] is None or made[0].size <= SMALL


def padded(by: list[int]) -> bytes:
    """A parameter padded as PyTorch's TorchScript exporter writes it: innermost axis first."""

    def node(op: str, *inputs: str, to: str, **given: Any) -> Any:
        return helper.make_node(op, list(inputs), [to], **given)

    zero = numpy_helper.from_array(np.array([0]), "zero")
    nodes = [
        node("ConstantOfShape", "more", to="zeros", value=zero),
        node("Concat", "by", "zeros", to="all", axis=0),
        node("Reshape", "all", "pairs", to="table"),
        node("Slice", "table", "last", "first", "axis", "back", to="turned"),
        node("Transpose", "turned", to="columns", perm=[1, 0]),
        node("Reshape", "columns", "row", to="flat"),
        helper.make_node("Cast", ["flat"], ["pads"], to=TensorProto.INT64),
        node("Pad", "c", "pads", to="t", mode="constant"),
        node("Mul", "t", "z", to="y"),
    ]
    sizes = {"by": by, "more": [8 - len(by)], "pairs": [-1, 2], "last": [-1], "axis": [0]}
    sizes |= {"first": [-(1 << 63) + 1], "back": [-1], "row": [-1]}
    weights: dict[str, np.ndarray] = {name: np.array(size, INT) for name, size in sizes.items()}
    weights["c"] = np.ones((1, 4, 4, 4), np.float32)
    return graph_model(nodes, [value("z", ["n", 1, 1, 1])], weights=weights)


def test_a_parameter_padded_in_the_graph() -> None:
    made = fastgan.load(padded([1, 1, 2, 2]), device="cpu").run({"z": torch.ones(2, 1, 1, 1)})
    expected = torch.nn.functional.pad(torch.ones(1, 4, 4, 4), (1, 1, 2, 2)).expand(2, -1, -1, -1)
    torch.testing.assert_close(made["y"], expected)


def test_one_that_is_padded_to_too_much() -> None:
    with pytest.raises(LimitError, match=r"a constant of shape \[1, 4, 4, 1000004\]"):
        read(padded([0, 1_000_000]), Limits(constant_bytes=1 << 20))
