"""A bundle in Python: its programs as the executables of a session, nothing planned.

The file is that of one model at one size of images, the first that it holds; a batch that it holds
no program for is run as several that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from fastgan.bundle import ports
from fastgan.engine import Backend, Executable, Session, Target
from fastgan.errors import ArgumentError, BackendError, ModelFileError, Refusal
from fastgan.host.native import _native
from fastgan.images.format import ImageFormat
from fastgan.limits import Limits
from fastgan.model.file import ModelFile
from fastgan.model.opened import Model
from fastgan.model.signature import Shape, Shapes, Signature

_bundles: Any = getattr(_native, "bundle", None)


class BundleExecutable(Executable):
    """One batch of any number of samples, by the programs that there are.

    Args:
        runs: (first sample, how many, rows of the program) of each run.
        shared: the bundle and its runners.
        signature: says which inputs have a row for each sample.
        bf16: whether to compute in that.
    """

    def __init__(
        self,
        runs: list[tuple[int, int, int]],
        shared: _Programs,
        signature: Signature,
        bf16: bool,
    ) -> None:
        self._runs, self._shared, self._bf16 = runs, shared, bf16
        self._rows = {p.name for p in signature.inputs if signature.has_rows(p)}

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Executable`."""
        made: list[dict[str, Tensor]] = []
        for first, count, rows in self._runs:
            part = {
                name: _filled(x[first : first + count], rows) if name in self._rows else x
                for name, x in inputs.items()
            }
            outputs = self._shared.run(rows, part, self._bf16)
            made.append({name: y[:count] for name, y in outputs.items()})
        if len(made) == 1:
            return made[0]
        return {name: torch.cat([part[name] for part in made]) for name in made[0]}

    def images(
        self, inputs: Mapping[str, Any], image: ImageFormat, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `Executable.images`."""
        images, _ = super().images(inputs, image, out)
        return images, ~images.isfinite().all() if self._bf16 else None

    def first_nonfinite(self, inputs: Mapping[str, Tensor]) -> str | None:
        """See `Executable.first_nonfinite`: the nodes are not in a bundle."""
        return None


class _Programs:
    """The programs of one size, each made ready on first use."""

    def __init__(self, bundle: Any) -> None:
        self.bundle = bundle
        every = list(enumerate(bundle.programs))
        size = every[0][1]["height"], every[0][1]["width"]
        found = dict.fromkeys((p["height"], p["width"]) for _, p in every)
        self.sizes = tuple(pair for pair in found if all(pair))
        self.programs = {p["batch"]: (i, p) for i, p in every if (p["height"], p["width"]) == size}
        self._runners: dict[tuple[int, bool], Any] = {}

    @property
    def precision(self) -> str:
        """That it was made for."""
        return "bf16" if next(iter(self.programs.values()))[1]["bf16"] else "fp32"

    def run(self, rows: int, inputs: Mapping[str, Tensor], bf16: bool) -> dict[str, Tensor]:
        """One run of the program for so many rows."""
        index, program = self.programs[rows]
        threads = torch.get_num_threads()
        key = rows, bf16
        if key not in self._runners:
            try:
                self._runners[key] = _bundles.Runner(self.bundle, index, threads, bf16)
            except ValueError as error:
                raise ModelFileError(self.bundle.name, str(error), "a whole bundle") from error
            except RuntimeError as error:
                raise BackendError(self.bundle.name, str(error), "precision='fp32'") from error
        given, made = [], {}
        for number, sizes in program["inputs"]:
            name = self.bundle.inputs[number]["name"]
            x = inputs[name].to(torch.float32).contiguous()
            if tuple(x.shape) != sizes:
                raise ArgumentError(f"input {name!r}", f"shape {tuple(x.shape)}", f"{sizes}")
            given.append(x)
        for number, sizes in program["outputs"]:
            made[self.bundle.outputs[number]["name"]] = torch.empty(sizes)
        addresses = [x.data_ptr() for x in given], [y.data_ptr() for y in made.values()]
        self._runners[key].run(*addresses, threads)
        return made


class BundleSession(Session):
    """See the module."""

    plans = False

    def __init__(self, backend: Backend, model: Model, target: Target, shared: Any = None) -> None:
        super().__init__(backend, model, target, shared)
        self.sizes = self.shared.sizes

    def compile(self, shapes: Shapes, target: Target) -> Executable:
        """The runs that make a batch of these shapes.

        Raises:
            BackendError: no program takes images of this size, or samples that meet in this number.
        """
        programs: _Programs = self.shared
        sizes = {
            programs.bundle.inputs[number]["name"]: shape
            for number, shape in next(iter(programs.programs.values()))[1]["inputs"]
        }
        for name, shape in sizes.items():
            if name in shapes and shapes[name][1:] != shape[1:]:
                found, needed = f"{name} of {list(shapes[name][1:])}", f"{list(shape[1:])}"
                raise BackendError(self.model.name, found, needed, "make a bundle for this size")
        rows = [p.name for p in self.signature.inputs if self.signature.has_rows(p)]
        n = next((shapes[name][0] for name in rows if shapes[name]), 1)
        together = not all(output.apart for output in self.signature.outputs)
        if together and n not in programs.programs:
            needed = ", ".join(map(str, programs.programs))
            found = f"{n} samples that run together"
            raise BackendError(self.model.name, found, f"a bundle for that, not {needed}")
        runs = _runs(n, sorted(programs.programs))
        return BundleExecutable(runs, programs, self.signature, target.precision == "bf16")


class BundleBackend(Backend):
    """Runs bundles; no model is opened by it."""

    name = "bundle"
    devices = ("cpu",)
    precisions = ("fp32", "bf16")
    session = BundleSession

    def lacks(self, target: Target) -> Refusal | None:
        """See `Backend.lacks`."""
        if target.device.type == "cpu" and target.precision in self.precisions:
            return None
        return Refusal(self.name, "target", str(target), "the CPU in fp32, or bf16")


BACKEND = BundleBackend()


def open_session(path: Path, target: Target, limits: Limits, precision: str) -> Session:
    """A session on a bundle.

    Args:
        precision: that was asked for; "auto" takes the bundle's.

    Raises:
        ModelFileError: it is damaged, or of another version.
        BackendError: it can't run there.
    """
    bundle = open_bundle(path, limits)
    programs = _Programs(bundle)
    if precision == "auto":
        target = replace(target, precision=programs.precision)
    refusal = BACKEND.lacks(target)
    if refusal is not None:
        instead = "or load the ONNX file"
        raise BackendError(f"{bundle.name} on {target}", "a bundle", refusal.needed, instead)
    if target.precision == "bf16" and programs.precision == "fp32":
        instead = "make it with `fastgan bundle --precision bf16`"
        raise BackendError(f"{bundle.name} in bf16", "a bundle in fp32", "fp32", instead)
    signature = _sized(ports.read(bundle), programs)
    graph = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 18}), ir_version=10)
    file = ModelFile(graph, bundle.name, path, {}, limits, b"")
    return BundleSession(BACKEND, Model(file, signature, signature), target, programs)


def open_bundle(path: Path, limits: Limits) -> Any:
    """A `_native.bundle.Bundle`.

    Raises:
        ModelFileError: as `open_session`.
        BackendError: fastgan's native code is missing.
    """
    if _bundles is None:
        needed = "fastgan._native: install with a C++ compiler"
        raise BackendError(str(path), "a bundle, and no native code", needed)
    try:
        return _bundles.Bundle(str(path), limits.activation_bytes)
    except (OSError, ValueError, MemoryError) as error:
        raise ModelFileError(str(path), str(error), "a whole bundle") from None


def _sized(signature: Signature, programs: _Programs) -> Signature:
    """Open sizes as the programs have them; the batch stays as it is."""
    first = next(iter(programs.programs.values()))[1]
    known: dict[tuple[str, int], tuple[int, ...]] = {}
    for side in ("inputs", "outputs"):
        for number, sizes in first[side]:
            known[side, number] = sizes

    def shape(side: str, number: int, declared: Shape) -> Shape:
        sizes = known.get((side, number), ())
        if len(sizes) != len(declared) or not declared:
            return declared
        return (declared[0], *sizes[1:])

    return replace(
        signature,
        inputs=tuple(
            replace(p, shape=shape("inputs", i, p.shape)) for i, p in enumerate(signature.inputs)
        ),
        outputs=tuple(
            replace(p, shape=shape("outputs", i, p.shape)) for i, p in enumerate(signature.outputs)
        ),
    )


def _runs(n: int, batches: list[int]) -> list[tuple[int, int, int]]:
    """n samples by programs of these batches, largest first; the rest by one that is filled up."""
    found, first = [], 0
    while first < n:
        left = n - first
        rows = max((b for b in batches if b <= left), default=batches[0])
        found.append((first, min(left, rows), rows))
        first += rows
    return found


def _filled(x: Tensor, rows: int) -> Tensor:
    """With so many rows: copies of the last one."""
    if x.shape[0] == rows:
        return x
    return torch.cat([x, x[-1:].expand(rows - x.shape[0], *x.shape[1:])])
