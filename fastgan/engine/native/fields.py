"""What is no product as native operations: norms, elementwise steps, views and moves."""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor

from fastgan.engine.native.lowering import (
    Lowering,
    Rows,
    epilogue,
    grid,
    place,
    reference,
    slices,
    unsupported,
)
from fastgan.engine.native.records import Kind, listed, record
from fastgan.engine.native.tensors import View, channels_last, new, plain
from fastgan.plan import Step

#: Rows of a table: whole numbers that a float holds.
_MOST_ROWS = 1 << 24

#: Elements of a tensor that is moved by a table.
_MOST_MOVED = 1 << 22


def pointwise(low: Lowering, step: Step) -> None:
    """fastgan.Pointwise."""
    _chain(low, step, [astuple(each) for each in step.attributes["program"]])


def arithmetic(low: Lowering, step: Step) -> None:
    """An operator of two tensors that no other step was merged with."""
    _chain(low, step, [("load", 0.0, 0, -1, -1), (step.op.lower(), 0.0, 1, -1, -1)])


def _chain(low: Lowering, step: Step, program: list[tuple[Any, ...]]) -> None:
    tensors = [low.read(name) for name in step.inputs]
    shape = low.plan.buffers[step.outputs[0]].shape
    like = next((x.meta for x in tensors if x.shape == tuple(shape)), plain(shape))
    low.pointwise(program, tensors, low.write(step.outputs[0], like=like))


def normalise(low: Lowering, step: Step) -> None:
    """fastgan.Normalise: see plan/rewrite/rules/normalise.py for its attributes."""
    given = step.attributes
    x = low.read(step.inputs[0])
    gamma, beta, residual = (low.input(step, i) for i in (1, 2, 3))
    if given["over"] == "space":
        if not 3 <= len(x.shape) <= 5:
            raise unsupported(step, f"a norm over the space of {len(x.shape)} axes")
        x = slices(step, low.images(x))
        y = slices(step, low.write_images(step.outputs[0]))
        if residual is not None and len(residual.shape) == 5:
            residual = slices(step, low.images(residual))
        rows = [None if p is None else _per_image(low, p, y.shape[1]) for p in (gamma, beta)]
        fused, residual, _ = low.epilogue(step, y, residual)

        def make() -> bytes:
            return record(
                Kind.NORM,
                y.shape[0],
                given["groups"],
                grid(x),
                grid(y),
                bool(given["centre"]),
                float(given["epsilon"]),
                [0 if row is None else row.strides[0] for row in rows],
                fused,
                x.place,
                y.place,
                [place(row) for row in rows],
                place(residual),
            )

        low.add(make, x, y, *rows, residual)
        return
    last = given["over"] == "last"
    y = low.write(step.outputs[0], by_pixel=not last, like=x.meta)
    vectors = [None if p is None else _vector(low, step, p) for p in (gamma, beta)]
    _rows(low, step, x, y, vectors[0], vectors[1], residual, last=last)


def softmax(low: Lowering, step: Step) -> None:
    """Softmax over the last axis or, from opset 13 on, over another."""
    x = low.read(step.inputs[0])
    y = low.write(step.outputs[0], like=x.meta)
    axis = step.attributes.get("axis", -1 if low.opset >= 13 else 1) % len(x.shape)
    if low.opset < 13 and axis != len(x.shape) - 1:
        raise unsupported(step, "a softmax of several axes")
    if axis != len(x.shape) - 1:
        moved = x.of(x.meta.movedim(axis, -1))
        target = y.of(y.meta.movedim(axis, -1))
        _rows(low, step, moved, target, None, None, None, last=True, softmax=True)
    else:
        _rows(low, step, x, y, None, None, None, last=True, softmax=True)


def _rows(
    low: Lowering,
    step: Step,
    x: View,
    y: View,
    gamma: View | None,
    beta: View | None,
    residual: View | None,
    *,
    last: bool,
    softmax: bool = False,
) -> None:
    """Rows along the last axis, or along the channels."""
    given = step.attributes

    def flat(view: View) -> View | None:
        """[rows, channels] with the channels side by side, where a view can say so."""
        meta = view.meta if last else view.meta.movedim(1, -1)
        if meta.shape[-1] > 1 and meta.stride(-1) != 1:
            return None
        try:
            return view.of(meta.view(-1, meta.shape[-1]))
        except RuntimeError:
            return None

    def dense(shape: tuple[int, ...]) -> View:
        return new(plain(shape) if last else channels_last(shape))

    rows = flat(x)
    if rows is None:
        made = dense(x.shape)
        low.copy(x, made)
        rows = flat(made)
    target = flat(y)
    written = y
    if target is None:
        written = dense(y.shape)
        target = flat(written)
    beside = None
    if residual is not None:
        beside = flat(residual) if residual.shape == y.shape else None
        if beside is None:
            made = dense(y.shape)
            low.copy(residual, made)
            beside = flat(made)
    assert rows is not None
    assert target is not None
    source, sink = rows, target
    fused, beside, _ = low.epilogue(step, sink, beside)
    if beside is not None:
        fused = _by_row(low, step, beside)

    def make() -> bytes:
        return record(
            Kind.ROWS,
            source.shape,
            source.strides[0],
            sink.strides[0],
            softmax,
            bool(given.get("centre", False)),
            float(given.get("epsilon", 0.0)),
            fused,
            source.place,
            sink.place,
            place(gamma),
            place(beta),
            place(beside),
        )

    low.add(make, source, sink, gamma, beta, beside)
    if written is not y:
        low.copy(written, y)


def _by_row(low: Lowering, step: Step, residual: View) -> bytes:
    """The epilogue of rows: their residual goes from row to row."""
    curve = low.native.Curve.__members__[step.epilogue.activation]
    return epilogue(curve, step.epilogue.slope, residual=[0, residual.strides[0], 0, 1])


def _per_image(low: Lowering, parameter: View, channels: int) -> View:
    """[C] or [N, C] as [1 or N, C] with channels side by side."""
    return low.rows(parameter.of(parameter.meta.reshape(-1, channels)))


def _vector(low: Lowering, step: Step, parameter: View) -> View:
    if math.prod(parameter.shape) != parameter.shape[-1]:
        raise unsupported(step, "a norm of rows with factors of each sample")
    return low.rows(parameter)


def concat(low: Lowering, step: Step) -> None:
    """What of it was not written in place."""
    y = low.write(step.outputs[0])
    axis = step.attributes.get("axis", 1) % len(y.shape)
    first = 0
    for name in low.parts_of(step):
        x = low.read(name)
        size = x.shape[axis]
        part = y.narrow(axis, first, size)
        in_place = (
            x.root is y.root
            and x.meta.storage_offset() == part.meta.storage_offset()
            and x.strides == part.strides
        )
        if not in_place:
            low.copy(x, part)
        first += size


def taken(low: Lowering, step: Step) -> None:
    """Gather of rows of a table, by whole numbers from 0 on."""
    table = low.plan.weights.get(step.inputs[0])
    index = low.plan.buffers.get(step.inputs[1])
    if table is None or index is None or step.attributes.get("axis", 0) != 0:
        raise unsupported(step, "a Gather that is no table of rows")
    if table.shape[0] > _MOST_ROWS:
        raise unsupported(step, f"a table of {table.shape[0]} rows")
    rows_of = low.tables.setdefault(step.inputs[1], Rows(table.shape[0], tuple(step.origin)))
    if rows_of.count != table.shape[0]:
        raise unsupported(step, "numbers of rows in tables of several lengths")
    rows, x, y = low.constant(table), low.read(step.inputs[1]), low.write(step.outputs[0])
    made = y if y.meta.is_contiguous() else new(plain(y.shape))
    run = math.prod(table.shape[1:])

    def make() -> bytes:
        sizes = (math.prod(x.shape), table.shape[0], run, run, run)
        return record(Kind.TAKE, sizes, rows.place, x.place, made.place)

    low.add(make, rows, x, made)
    if made is not y:
        low.copy(made, y)


def strided(low: Lowering, step: Step) -> None:
    """What is another view, or the elements in the same order."""
    function, given = reference(step, low.plan, low.opset)
    x = low.read(step.inputs[0])
    made = function(x.meta, *given[1:])
    parts = made if isinstance(made, tuple) else (made,)
    if not all(_shares(part, x.meta) for part in parts):
        if math.prod(x.shape) != math.prod(parts[0].shape):
            moved(low, step)
            return
        x = low.rows(x)
        made = function(x.meta, *given[1:])
        parts = made if isinstance(made, tuple) else (made,)
        if not all(_shares(part, x.meta) for part in parts):
            if len(parts) > 1:
                raise unsupported(step, "a view that is none")
            moved(low, step)  # backwards, say
            return
    for name, part in zip(step.outputs, parts, strict=False):
        low.name(name, x.of(part))


def _shares(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage()._cdata == b.untyped_storage()._cdata


def cast(low: Lowering, step: Step) -> None:
    """Cast to the float32 that all numbers are here."""
    low.name(step.outputs[0], low.read(step.inputs[0]))


def scattered(low: Lowering, step: Step) -> None:
    """ScatterND into one box of places that are known: a copy beside another."""
    indices = low.plan.weights.get(step.inputs[1])
    if indices is None or step.attributes.get("reduction", "none") != "none":
        raise unsupported(step, "places that depend on data, or a sum there")
    y = low.write(step.outputs[0])
    depth = indices.shape[-1]
    places = indices.reshape(-1, depth)
    places = torch.where(places < 0, places + torch.tensor(y.shape[:depth]), places)
    first, last = places.amin(0), places.amax(0)
    axes = [torch.arange(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)]
    if not torch.equal(places, torch.cartesian_prod(*axes).reshape(-1, depth)):
        raise unsupported(step, "places that are no box, in order")
    box = y
    for axis, found in enumerate(axes):
        box = box.narrow(axis, int(found[0]), len(found))
    updates = low.rows(low.read(step.inputs[2]))
    low.copy(low.read(step.inputs[0]), y)
    low.copy(updates.of(updates.meta.view(box.shape)), box)


def gather(low: Lowering, step: Step) -> None:
    """Elements at constant indices: another view where they follow each other. Rows of a table."""
    if step.inputs[1] not in low.plan.weights:
        taken(low, step)
        return
    x, indices = low.read(step.inputs[0]), low.plan.weights[step.inputs[1]]
    axis = step.attributes.get("axis", 0) % len(x.shape)
    found = (indices.flatten() % x.shape[axis]).tolist()
    if indices.dim() == 0:
        low.name(step.outputs[0], x.of(x.meta.select(axis, found[0])))
    elif indices.dim() == 1 and found and found == list(range(found[0], found[0] + len(found))):
        low.name(step.outputs[0], x.narrow(axis, found[0], len(found)))
    else:
        moved(low, step)


def moved(low: Lowering, step: Step) -> None:
    """Elements put elsewhere, whatever the operator: it says where from, asked about indices."""
    x = low.read(step.inputs[0])
    y = low.write(step.outputs[0], like=x.meta if x.meta.is_contiguous() else None)
    size = math.prod(x.shape)
    if max(size, math.prod(y.shape)) > _MOST_MOVED:
        raise unsupported(step, f"{size} elements to be moved")
    function, given = reference(step, low.plan, low.opset)
    numbers = torch.arange(1, size + 1, dtype=torch.float64).reshape(x.shape)
    sources = function(numbers, *given[1:])
    other = function(torch.zeros_like(numbers), *given[1:])
    sources, other = sources.expand(y.shape), other.expand(y.shape)
    fill = float(other.flatten()[0])
    new_ones = other != 0
    if bool((other != fill).any() & new_ones.any()) and bool(new_ones.any()):
        raise unsupported(step, "several values beside the elements")
    sources = torch.where(new_ones, torch.zeros_like(sources), sources).long() - 1
    probe = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    picked = probe.flatten()[sources.clamp(0, size - 1)]
    if not torch.equal(torch.where(sources < 0, other, picked), function(probe, *given[1:])):
        raise unsupported(step, "elements that are not those of its input")  # a mean of some
    own = _offsets(x.meta).flatten()
    found = torch.where(sources < 0, -1, own[sources.clamp(min=0)])
    axes = sorted(range(y.meta.dim()), key=lambda i: -y.meta.stride()[i])
    source = found.permute(axes).flatten()
    target = _offsets(y.meta).permute(axes).flatten()
    run = _run(source, target)
    tables = listed(source[::run]) + listed(target[::run])

    def make() -> bytes:
        return record(
            Kind.GATHER,
            run,
            tables,
            fill,
            x.of(_from_start(x.meta)).place,
            y.of(_from_start(y.meta)).place,
        )

    low.add(make, x, y)


def _from_start(meta: Tensor) -> Tensor:
    return meta.as_strided((1,), (1,), int(meta.storage_offset()))


def _offsets(meta: Tensor) -> Tensor:
    """Where each element lies, from the first one on."""
    found = torch.zeros((), dtype=torch.int64)
    for size, stride in zip(meta.shape, meta.stride(), strict=True):
        found = found.unsqueeze(-1) + torch.arange(size) * stride
    return found


def _run(source: Tensor, target: Tensor) -> int:
    """How many elements lie side by side in both, wherever one looks."""
    count = len(source)
    run = 1
    for size in (2048, 1024, 512, 256, 128, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2):
        if count % size:
            continue
        steps = torch.arange(size)
        s, t = source.view(-1, size), target.view(-1, size)
        nowhere = s[:, :1] < 0  # else -1 and 0 would look like neighbours
        regular = s == torch.where(nowhere, -1, s[:, :1] + steps)
        if bool(regular.all()) and bool((t == t[:, :1] + steps).all()):
            run = size
            break
    return run
