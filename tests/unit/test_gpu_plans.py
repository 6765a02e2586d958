"""The plans of the eight models of docs/kernels.md hold nothing unfused but what it lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.zoo import SMALL, Entry
from fastgan.backends.base import Target
from fastgan.backends.triton_executable import TritonExecutable
from fastgan.model_file import read
from fastgan.plan import Step, cost

DOCUMENT = Path(__file__).parents[2] / "docs" / "kernels.md"
HEADING = "## What is left in the plans"

#: What does the work: a model is made of these.
WORK = {"fastgan.Linear", "fastgan.Conv", "fastgan.ConvTranspose", "fastgan.Normalise"}

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="kernels are compiled where there is a GPU: see tests/gpu"
)


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
def test_nothing_is_left_but_what_is_listed(entry: Entry, tmp_path: Path) -> None:
    file = read(entry.export(tmp_path))
    (port,) = file.model.graph.inputs
    shapes = {str(port.name): (2, *entry.shape)}
    executable = TritonExecutable(file, Target(torch.device("cpu"), "fp32"), shapes)
    assert left_over(executable.plan.steps) - listed().get(entry.name, set()) == set()
    x = entry.inputs(2, torch.device("cpu"))
    made = executable({str(port.name): x})[executable.plan.outputs[0]]
    with torch.inference_mode():
        expected = entry.module()(x)
    assert (made - expected).abs().max() <= 2e-5 * max(1.0, float(expected.abs().max()))
