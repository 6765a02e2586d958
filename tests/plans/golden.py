"""Writes the golden plans, `make plans`; and names what there is one of.

Each file holds a network's plan for one image: as `fastgan.plan.make` makes it, and as the triton
backend has it, elementwise steps merged, each with its kernel or the reason why it has none.
Neither depends on this machine: a CPU binds the steps to what its instructions allow, later.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from fastgan import models
from fastgan.engine import Target
from fastgan.engine.triton.executable import TritonExecutable
from fastgan.loading import open_model
from fastgan.model.file import ModelFile, read
from fastgan.plan import make, text
from tests.networks.families import FAMILIES

FOLDER = Path(__file__).parent

#: Of the two exporters the one whose graphs do not change from one version of PyTorch to the next.
EXPORTER = "torchscript"

#: What plans are made of, by the names of their files.
NAMES = (*(f"family-{name}" for name in FAMILIES), *(f"model-{name}" for name in models.names()))


def path(name: str) -> Path:
    """Where the golden plan of this name is."""
    return FOLDER / f"{name}.txt"


def plans(name: str) -> str:
    """The text of its file, made now."""
    kind, _, short = name.partition("-")
    if kind == "model":
        model = open_model(short)
        return _text(model.file, model.shapes(model.signature.frozen_batch or 1))
    family = FAMILIES[short]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "family.onnx"
        family.export(family.make(), file, EXPORTER)
        shapes = {port.name: family.shape(port, 1) for port in family.inputs}
        return _text(read(file), shapes)


def _text(model: ModelFile, shapes: Mapping[str, tuple[int, ...]]) -> str:
    plan = make(model.model, shapes)
    kernels = TritonExecutable(model, Target(torch.device("cpu"), "fp16"), shapes).plan
    return "\n".join(("plan", text.describe(plan), "", "kernels", text.describe(kernels), ""))


def stale() -> Iterator[Path]:
    """Files of what there is no more."""
    return (file for file in sorted(FOLDER.glob("*.txt")) if file.stem not in NAMES)


def main() -> None:
    """Write every golden plan anew, and say which have changed."""
    for file in stale():
        file.unlink()
        print(f"removed {file.name}")
    for name in NAMES:
        made, file = plans(name), path(name)
        if not file.exists() or file.read_text() != made:
            print(f"{'changed' if file.exists() else 'wrote'} {file.name}")
            file.write_text(made)


if __name__ == "__main__":
    main()
