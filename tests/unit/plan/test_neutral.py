"""What changes nothing is no step of a plan; what only looks like it is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

import fastgan
from tests.unit.models import graph_model, value


@pytest.mark.parametrize(
    ("condition", "steps"),
    [([True], 1), ([[False], [False]], 0), ([[True], [False]], 2)],
)
def test_a_choice_that_is_made_already(condition: list[bool], steps: int) -> None:
    nodes = [
        helper.make_node("Sin", ["z"], ["x"]),
        helper.make_node("Where", ["c", "x", "z"], ["y"]),
    ]
    file = graph_model(nodes, [value("z", ["n", 2, 3])], weights={"c": np.array(condition)})
    generator = fastgan.load(file, device="cpu", backend="torch")
    z = torch.randn(1, 2, 3)
    expected = torch.where(torch.tensor(condition), z.sin(), z)
    torch.testing.assert_close(generator.run({"z": z})["y"], expected)
    plan = generator.plan(1)
    assert plan is not None
    assert sum(step.op != "Identity" for step in plan.steps) == steps
