"""A bundle of a model: planned, lowered for any CPU, and written as one file (docs/bundle.md)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fastgan import plan as plans
from fastgan.bundle import MAGIC
from fastgan.bundle.ports import text, whole, written
from fastgan.engine.native import graph
from fastgan.engine.native.records import CONSTANTS, Constants, listed
from fastgan.errors import ArgumentError, UnsupportedError
from fastgan.host import files
from fastgan.inputs.fields import sized
from fastgan.model.opened import Model
from fastgan.model.signature import Shapes, Signature

#: Of the format that csrc/bundle reads: what a bundle in this precision needs.
VERSIONS = {"fp32": 1, "bf16": 2}

#: How a program computes. Earlier writers had 1 and 2 for chains of layers, which run as these do.
_WAYS = {"fp32": 0, "bf16": 3}

#: Kinds of sections; those from 16 to 31 are for GPUs' code, and later.
_MODEL, _PROGRAM, _WEIGHTS = 1, 2, 3

_HEADER, _ALIGNMENT = 64, 64

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle that was written.

    Attributes:
        programs: (batch, size of the images or None) of each.
        bytes: of the file.
    """

    programs: tuple[tuple[int, Size | None], ...]
    bytes: int


class _Shared(Constants):
    """The weights of all programs: those of the same numbers are one."""

    def __init__(self) -> None:
        super().__init__()
        self._by_content: dict[bytes, int] = {}

    def slot(self, tensor: Tensor) -> int:
        """See `Constants.slot`."""
        flat = tensor.detach().reshape(-1).numpy()
        key = hashlib.blake2b(flat.data, digest_size=32).digest() + whole(flat.size)
        if key not in self._by_content:
            self._by_content[key] = len(self.tensors)
            self.tensors.append(tensor)
        return CONSTANTS + self._by_content[key]


def write(
    model: Model,
    path: Path,
    batches: Sequence[int] = (1,),
    sizes: Sequence[Size] = (),
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    precision: str = "fp32",
) -> Made:
    """Write a bundle that runs a model on any CPU without Python.

    Args:
        model: as `fastgan.loading.open_model` finds it.
        batches: images to a run, a program for each.
        sizes: (height, width) of images, where the model leaves these open: those that it takes,
            or of a model that takes none, makes. Programs for each batch of each.
        progress: called with how many programs are done, of how many, and which is next.
        precision: that it computes in, "fp32" or "bf16"; the weights are of float32 all the same.

    Raises:
        ArgumentError: a batch, a size or a precision that the model does not have.
        UnsupportedError: a step that there is no native code for; the message names it.
    """
    if precision not in VERSIONS:
        raise ArgumentError("--precision", repr(precision), " or ".join(VERSIONS))
    if importlib.util.find_spec("fastgan._native") is None:
        needed = "fastgan._native: install with a C++ compiler"
        raise ArgumentError("bundle", "a fastgan without its native code", needed)
    files.check_target("-o", path, [model.file.path])
    model = _any_batch(model)
    frozen = model.signature.frozen_batch
    wrong = [n for n in batches if n < 1 or (frozen is not None and n != frozen)]
    if frozen is not None and list(batches) == [1]:
        batches = [frozen]
    elif wrong or not batches:
        needed = "at least 1" if frozen is None else f"{frozen}, which its exporter fixed"
        raise ArgumentError("--batch", ", ".join(map(str, wrong)) or "none", needed)
    constants = _Shared()
    open_size = _has_open_size(model.signature)
    if sizes and not open_size:
        raise ArgumentError("--size", "a size for a model of one size", "none")
    if open_size and not sizes:
        found = "none, for a model of any size"
        raise ArgumentError("--size", found, "such as 256x256", "a bundle is ready for these alone")
    asked = [(n, size) for size in (sizes or (None,)) for n in sorted(set(batches))]
    sections = []
    for done, (batch, size) in enumerate(asked):
        name = f"batch {batch}" + (f" of {size[1]}x{size[0]}" if size else "")
        progress(done, len(asked), name)
        sections.append((_PROGRAM, _program(model, batch, size, constants, precision)))
    progress(len(asked), len(asked), "weights")
    about = b"".join(
        (
            text(model.name),
            text(f"fastgan {importlib.metadata.version('fastgan')}"),
            whole(len(model.signature.class_names)),
            *map(text, model.signature.class_names),
            written(model.signature),
        )
    )
    heads = [(_MODEL, about), *sections]
    count = _save(path, heads, constants.tensors, VERSIONS[precision])
    return Made(tuple(asked), count)


def _any_batch(model: Model) -> Model:
    """The model with its batch open, where a plan for another one can be made."""
    opened, frozen = model.opened(), model.signature.frozen_batch
    if opened is None or frozen is None:
        return model
    try:
        plans.make(opened.file.model, opened.shapes(frozen + 1), opened.file.limits)
    except UnsupportedError:
        return model
    return opened


def _has_open_size(signature: Signature) -> bool:
    ports = [p for p in signature.inputs if p.kind in ("image", "mask", "latent")]
    return any(not isinstance(size, int) for p in ports for size in p.shape[2:])


def _shapes(model: Model, batch: int, size: Size | None) -> Shapes:
    """Of each input, for images of this size."""
    shapes = model.shapes(batch)
    if size is None:
        return shapes
    signature = model.signature
    if signature.image is not None:
        for port in signature.inputs:
            if port.kind in ("image", "mask"):
                sides = zip(port.shape[2:], size, strict=False)
                fixed = (own if isinstance(own, int) else wanted for own, wanted in sides)
                shapes[port.name] = (*shapes[port.name][:2], *fixed)
        return shapes
    latent = signature.latent
    assert latent is not None
    name = latent.name

    def image(places: Size) -> Size:
        given = {**model.shapes(1), name: (*model.shapes(1)[name][:2], *places)}
        plan = plans.make(model.file.model, given, model.file.limits)
        height, width = plan.buffers[model.output.name].shape[-2:]
        return height, width

    port, _ = sized(signature, size, image)
    return {**shapes, name: (*shapes[name][:2], *port.sample_shape[1:])}


def _planned(model: Model, batch: int, size: Size | None) -> plans.Plan:
    try:
        return plans.make(model.file.model, _shapes(model, batch, size), model.file.limits)
    except UnsupportedError:
        if size is None:
            raise
        fits = next((other for other in _rounded_up(size) if _fits(model, batch, other)), None)
        if fits is None:  # it is not the size
            raise
        found = f"{size[1]}x{size[0]}, which this model does not take"
        raise ArgumentError("--size", found, f"one that it takes: {fits[1]}x{fits[0]}") from None


def _rounded_up(size: Size) -> Iterator[Size]:
    """Multiples of what networks halve a size by, the nearest first."""
    for step in (2, 4, 8, 16, 32, 64, 128):
        height, width = (-(-side // step) * step for side in size)
        if (height, width) != size:
            yield height, width


def _fits(model: Model, batch: int, size: Size) -> bool:
    try:
        plans.make(model.file.model, _shapes(model, batch, size), model.file.limits)
    except UnsupportedError:
        return False
    return True


def _program(
    model: Model, batch: int, size: Size | None, constants: Constants, precision: str
) -> bytes:
    plan = _planned(model, batch, size)
    made = graph.lowered(plan, model.file.model.opset_imports.get("", 1), constants)
    names = [port.name for port in model.signature.inputs]
    results = [port.name for port in model.signature.outputs]
    tensors = [
        [
            whole(ports.index(name)) + listed(meta.shape) + listed(meta.stride())
            for name, meta in given
        ]
        for ports, given in ((names, made.inputs), (results, made.outputs))
    ]
    return b"".join(
        (
            whole(batch, *(size or (0, 0))),
            *(whole(len(each)) + b"".join(each) for each in tensors),
            whole(made.arena, _WAYS[precision]),
            made.records,
        )
    )


def _save(
    path: Path, sections: list[tuple[int, bytes]], weights: Sequence[Tensor], version: int
) -> int:
    """Write the file, whole or not at all; how many bytes it has."""
    heads = [*sections, (_WEIGHTS, b"")]
    at = _aligned(_HEADER + 24 * len(heads))
    table, pieces = [], []
    for kind, data in sections:
        table.append(whole(kind, at, len(data)))
        pieces.append(data + bytes(-len(data) % _ALIGNMENT))
        at += len(pieces[-1])
    first = _aligned(8 + 16 * len(weights))
    entries, place = [], first
    for tensor in weights:
        entries.append(whole(place, tensor.numel()))
        place = _aligned(place + 4 * tensor.numel())
    table.append(whole(_WEIGHTS, at, place))
    total = at + place
    directory = b"".join(table)
    directory += bytes(-(_HEADER + len(directory)) % _ALIGNMENT)
    head = whole(len(weights)) + b"".join(entries)
    head += bytes(first - len(head))

    def parts() -> Iterator[bytes]:
        yield whole(total, len(table)) + bytes(_HEADER - 40)
        yield directory
        yield from pieces
        yield head
        for tensor in weights:
            data = tensor.detach().reshape(-1).numpy().astype("<f4", copy=False)
            yield data.tobytes()
            yield bytes(-4 * data.size % _ALIGNMENT)

    checksum = 0
    for part in parts():
        checksum = zlib.crc32(part, checksum)
    with files.whole(path) as file:
        file.write(MAGIC + whole(version, checksum))
        for part in parts():
            file.write(part)
    return total


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
