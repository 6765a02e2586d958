"""The networks that the CPU engine is measured over: wide ones, shipped ones, many small ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.zoo import ZOO
from fastgan import export, models
from fastgan.measure.bench.peers import ModuleMaker, registry_module
from fastgan.model.opened import Model
from tests.networks.families import FAMILIES


@dataclass(frozen=True)
class Subject:
    """A network to time.

    Attributes:
        group: "zoo", "shipped", "families" or "architectures".
        sizes: samples to a call.
        source: writes its file into a folder unless it is there; says what `fastgan.load` takes.
        module: for torch.compile, the module that was exported; None where only the file is there.
    """

    group: str
    name: str
    sizes: tuple[int, ...]
    source: Callable[[Path], str]
    module: ModuleMaker | None = None

    def modules(self, model: Model) -> tuple[ModuleMaker, str]:
        """What PyTorch runs, and what that is."""
        if self.module is None:
            return registry_module(model)
        return self.module, "the nn.Module that was exported"


def zoo() -> Iterator[Subject]:
    """As wide as in their papers: benchmarks/gpu/zoo.py."""
    for entry in ZOO:
        sizes = (1, 16, 64) if entry.name.startswith("dcgan") else (1, 4)

        def module(n: int, entry=entry):  # type: ignore[no-untyped-def]
            return entry.module()

        yield Subject("zoo", entry.name, sizes, lambda f, e=entry: str(e.export(f)), module)


def shipped() -> Iterator[Subject]:
    """The models that come with the package."""
    for name in models.names():
        yield Subject("shipped", name, (1, 4), lambda folder, name=name: name)


def families() -> Iterator[Subject]:
    """Small versions of the field's generators: tests/networks."""
    for name, family in FAMILIES.items():

        def source(folder: Path, name: str = name) -> str:
            family, path = FAMILIES[name], folder / f"family-{name}.onnx"
            if not path.exists():
                exporter = "torchscript" if family.frozen else "dynamo"
                family.export(family.make(), path, exporter)
            return str(path)

        yield Subject("families", name, (family.frozen,) if family.frozen else (1, 4), source)


def architectures() -> Iterator[Subject]:
    """Published restoration networks in small sizes, from the package spandrel: random weights."""
    from benchmarks.architectures import ARCHITECTURES

    for each in ARCHITECTURES:

        def source(folder: Path, each=each) -> str:  # type: ignore[no-untyped-def]
            path = folder / f"arch-{each.name}.onnx"
            if not path.exists():
                export(
                    each.make(),
                    path,
                    image=each.shape,
                    range=(0.0, 1.0),
                    exporter=each.exporter,
                    verify=False,
                )
            return str(path)

        yield Subject("architectures", each.name, (1, 4), source)


GROUPS: dict[str, Callable[[], Iterator[Subject]]] = {
    "zoo": zoo,
    "shipped": shipped,
    "families": families,
    "architectures": architectures,
}
