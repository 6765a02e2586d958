"""A bundle in Python: its programs as the executables of a session, nothing planned.

The file is that of one model at some sizes of images, of which the first is meant where nothing
says another; a batch that it holds no program for is run as several that it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from fastgan.bundle import ports
from fastgan.engine import Backend, Executable, Session, Target
from fastgan.engine.runs import filled_up
from fastgan.errors import ArgumentError, BackendError, ModelFileError, Refusal
from fastgan.host.native import _native
from fastgan.images.format import ImageFormat
from fastgan.limits import Limits
from fastgan.model.file import ModelFile
from fastgan.model.opened import Model
from fastgan.model.signature import Input, Shape, Shapes, Signature

_bundles: Any = getattr(_native, "bundle", None)


class BundleExecutable(Executable):
    """One batch of any number of samples, by the programs that there are.

    Args:
        runs: (first sample, how many, rows of the program) of each run.
        programs: for images of one size.
        signature: says which inputs have a row for each sample.
        bf16: whether to compute in that.
    """

    def __init__(
        self,
        runs: list[tuple[int, int, int]],
        programs: _Programs,
        signature: Signature,
        bf16: bool,
    ) -> None:
        self._runs, self._programs, self._bf16 = runs, programs, bf16
        self._rows = {p.name for p in signature.inputs if signature.has_rows(p)}

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Executable`."""
        made: list[dict[str, Tensor]] = []
        for first, count, rows in self._runs:
            part = {
                name: filled_up(x[first : first + count], rows) if name in self._rows else x
                for name, x in inputs.items()
            }
            outputs = self._programs.run(rows, part, self._bf16)
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
    """The programs of one size, each made ready on first use.

    Attributes:
        size: (height, width) of the images; (0, 0) where the model says it.
        batches: that there are, the smallest first.
    """

    def __init__(self, bundle: Any, size: tuple[int, int]) -> None:
        self.bundle, self.size = bundle, size
        every = enumerate(bundle.programs)
        self._by_batch = {p["batch"]: (i, p) for i, p in every if _size_of(p) == size}
        self.batches = sorted(self._by_batch)
        self._first = next(iter(self._by_batch.values()))[1]
        self._runners: dict[tuple[int, bool], Any] = {}

    @property
    def precision(self) -> str:
        """That they were made for."""
        return "bf16" if self._first["bf16"] else "fp32"

    def shapes(self, side: str) -> dict[int, tuple[int, ...]]:
        """Of the "inputs" or the "outputs", by their numbers; the batch is that of one program."""
        return dict(self._first[side])

    def takes(self, shapes: Shapes) -> bool:
        """Whether these are the shapes of its inputs, whatever the batch."""
        own = {self.bundle.inputs[i]["name"]: shape for i, shape in self.shapes("inputs").items()}
        return all(shapes[name][1:] == own[name][1:] for name in own.keys() & shapes.keys())

    def run(self, rows: int, inputs: Mapping[str, Tensor], bf16: bool) -> dict[str, Tensor]:
        """One run of the program for so many rows."""
        index, program = self._by_batch[rows]
        threads = torch.get_num_threads()
        key = rows, bf16
        if key not in self._runners:
            try:
                self._runners[key] = _bundles.Runner(self.bundle, index, threads, bf16)
            except ValueError as error:
                raise ModelFileError(self.bundle.name, str(error), "a whole bundle") from error
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
        self.sizes = tuple(programs.size for programs in self.shared if all(programs.size))

    def compile(self, shapes: Shapes, target: Target) -> Executable:
        """The runs that make a batch of these shapes.

        Raises:
            BackendError: no program takes images of this size, or samples that meet in this number.
        """
        programs = next((each for each in self.shared if each.takes(shapes)), None)
        if programs is None:
            given = ", ".join(f"{name} of {list(shape[1:])}" for name, shape in shapes.items())
            needed = " or ".join(f"{width}x{height}" for height, width in self.sizes)
            instead = "make a bundle for this size"
            raise BackendError(self.model.name, given, f"images of {needed or 'its size'}", instead)
        rows = [p.name for p in self.signature.inputs if self.signature.has_rows(p)]
        n = next((shapes[name][0] for name in rows if shapes[name]), 1)
        together = not all(output.apart for output in self.signature.outputs)
        if together and n not in programs.batches:
            needed = ", ".join(map(str, programs.batches))
            found = f"{n} samples that run together"
            raise BackendError(self.model.name, found, f"a bundle for that, not {needed}")
        runs = _runs(n, programs.batches)
        return BundleExecutable(runs, programs, self.signature, target.precision == "bf16")

    def field(self, size: tuple[int, int]) -> Input | None:
        """See `Session.field`."""
        latent = self.signature.latent
        for programs in self.shared:
            for number, shape in programs.shapes("inputs").items():
                if programs.size == size and latent is self.signature.inputs[number]:
                    return replace(latent, shape=(latent.shape[0], *shape[1:]))
        return None


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
    every = [_Programs(bundle, size) for size in dict.fromkeys(map(_size_of, bundle.programs))]
    made_for = every[0].precision
    if precision == "auto":
        target = replace(target, precision=made_for)
    refusal = BACKEND.lacks(target)
    if refusal is not None:
        instead = "or load the ONNX file"
        raise BackendError(f"{bundle.name} on {target}", "a bundle", refusal.needed, instead)
    if target.precision == "bf16" and made_for == "fp32":
        instead = "make it with `fastgan bundle --precision bf16`"
        raise BackendError(f"{bundle.name} in bf16", "a bundle in fp32", "fp32", instead)
    signature = _sized(ports.read(bundle), every)
    graph = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 18}), ir_version=10)
    file = ModelFile(graph, bundle.name, path, {}, limits, bytes)
    return BundleSession(BACKEND, Model(file, signature, signature), target, every)


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


def _size_of(program: Mapping[str, Any]) -> tuple[int, int]:
    return program["height"], program["width"]


def _sized(signature: Signature, every: Sequence[_Programs]) -> Signature:
    """Open sizes as the programs have them; the batch stays as it is.

    Sizes of images that differ between programs stay open, and are the first's as an example; a
    latent is of the first's.
    """

    def known(side: str, number: int, declared: Shape, of: Sequence[_Programs] = every) -> Shape:
        found = [programs.shapes(side).get(number, ()) for programs in of]
        if not declared or any(len(shape) != len(declared) for shape in found):
            return declared
        sizes = zip(declared[1:], *(shape[1:] for shape in found), strict=True)
        return (declared[0], *(own[0] if len(set(own)) == 1 else open_ for open_, *own in sizes))

    def sized(number: int, port: Input) -> Input:
        of = every if port.kind in ("image", "mask") else every[:1]
        shape = known("inputs", number, port.shape, of)
        sides = every[0].shapes("inputs").get(number, ())[2:]
        example = (sides[0], sides[1]) if len(sides) == 2 else port.example
        return replace(port, shape=shape, example=example)

    return replace(
        signature,
        inputs=tuple(sized(i, port) for i, port in enumerate(signature.inputs)),
        outputs=tuple(
            replace(port, shape=known("outputs", i, port.shape))
            for i, port in enumerate(signature.outputs)
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
