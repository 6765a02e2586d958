"""The plans of the eight models of docs/kernels.md hold nothing unfused but what it lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import fastgan
from benchmarks.gpu.zoo import SMALL, Entry
from fastgan.engine.base import Target
from fastgan.engine.triton.executable import TritonExecutable
from fastgan.model.file import read
from fastgan.plan import Step, cost

DOCUMENT = Path(__file__).parents[3] / "docs" / "kernels.md"
HEADING = "## What is left in the plans"

#: What does the work: a model is made of these.
WORK = {"fastgan.Linear", "fastgan.Conv", "fastgan.ConvTranspose", "fastgan.Normalise"}


def left_over(steps: tuple[Step, ...]) -> set[str]:
    """What a plan holds beside its work, as the document names it."""
    found = set()
    for step in steps:
        if step.op in cost.FREE or step.kernel == "in place":
            continue
        if step.op == "fastgan.Pointwise":
            program = [i.operation for i in step.attributes["program"] if i.operation != "load"]
            found.add(" ".join(program))
        elif step.op not in WORK or step.kernel == "library":
            why = re.sub(r"\d+ groups", "groups", step.note or "library")
            found.add(f"{step.op.removeprefix('fastgan.')} ({why})")
    return found


def listed() -> dict[str, set[str]]:
    """The rows of the document's table: model -> what is left in its plan."""
    section = DOCUMENT.read_text().split(HEADING)[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([\w-]+) \| `(.+?)` \|", section, re.M)
    result: dict[str, set[str]] = {}
    for model, what in rows:
        result.setdefault(model, set()).add(what)
    return result


@pytest.mark.parametrize("entry", SMALL, ids=lambda entry: entry.name)
def test_plans_are_right_and_hold_nothing_else(entry: Entry, tmp_path: Path) -> None:
    path = entry.export(tmp_path)
    x, device = entry.inputs(2, torch.device("cpu")), torch.device("cpu")
    with torch.inference_mode():
        expected = entry.module()(x)
    most = 2e-5 * max(1.0, float(expected.abs().max()))
    generator = fastgan.load(path, device="cpu", backend="torch")
    name = generator.signature.inputs[0].name
    made = generator.run({name: x})[generator.signature.outputs[0].name]
    assert (made - expected).abs().max() <= most
    if torch.cuda.is_available():
        pytest.skip("kernels are compiled where there is a GPU: see tests/gpu")
    executable = TritonExecutable(read(path), Target(device, "fp32"), {name: tuple(x.shape)})
    assert left_over(executable.plan.steps) - listed().get(entry.name, set()) == set()
    made = executable({name: x})[executable.plan.outputs[0]]
    assert (made - expected).abs().max() <= most
