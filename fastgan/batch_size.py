"""Which batch sizes a file really runs at, whatever sizes it declares.

An exporter traces with an example and may keep the example's batch: in the declared input alone,
which is harmless, or in the graph, by a Reshape to `[4, 256, 4, 4]` or a constant of four rows,
under inputs that are declared open or not. `settle` finds out which by binding shapes for two
batch sizes, without running anything, and says so in the signature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from fastgan.errors import ArgumentError, FastganError, UnsupportedError
from fastgan.inputs import input_shapes
from fastgan.ops import random
from fastgan.signature import Signature
from fastgan.specialise import specialise

#: What the first axis of an open batch is called.
OPEN = "batch"
#: Operators whose second input is the shape that they make.
_SHAPED = ("Reshape", "Expand")
#: Sizes tried: each binds the graph once more.
_MOST_TRIED = 8
#: A larger graph is taken at its word: binding it takes a second for 10,000 nodes.
_MOST_NODES = 3_000


def settle(model: ir.Model, signature: Signature) -> Signature:
    """The signature with the batch that the graph runs at: a number, or open.

    The graph's inputs are declared so too, in place, which `plan.make` goes by: it can make of a
    graph for one batch one for any, where no sample meets another.

    Returns:
        `signature` itself where the graph holds to it, or can't be bound at all.
    """
    if len(model.graph) > _MOST_NODES:
        return signature
    declared = signature.frozen_batch
    try:
        if declared is None:
            return _close(model, signature)
        opened = _with_batch(signature, declared, OPEN)
        if not _runs_at_any(model, opened) or _shares_noise(model, opened) or _meets(model):
            return signature
    except (UnsupportedError, ArgumentError):
        return signature
    return _declared(model, opened, OPEN)


def _declared(model: ir.Model, signature: Signature, batch: int | str) -> Signature:
    """Declare the graph's inputs with the batch that the signature has; returns the signature."""
    names = {port.name for port in signature.inputs if port.shape[:1] == (batch,)}
    for value in model.graph.inputs:
        if value.name in names and value.shape is not None:
            value.shape = ir.Shape((batch, *value.shape.dims[1:]))
    return signature


def _close(model: ir.Model, signature: Signature) -> Signature:
    """The signature with the batch that the graph holds fixed, where it does under open inputs."""
    if _runs_at_any(model, signature):
        return signature
    for size in _candidates(model, signature):
        bound = _bind(model, signature, size)
        if isinstance(bound, ir.Model) and _rows(bound, signature) == size:
            return _declared(model, _with_batch(signature, OPEN, size), size)
    return signature


def _runs_at_any(model: ir.Model, signature: Signature) -> bool:
    """Whether the graph takes a batch of 1 and one of 2, and treats both alike.

    Raises:
        UnsupportedError: it can't be bound whatever the batch.
    """
    one, two = _bind(model, signature, 1), _bind(model, signature, 2)
    if isinstance(one, FastganError) and isinstance(two, FastganError):
        if (one.where, one.needed) == (two.where, two.needed) and not _of_shapes(one):
            raise one
        return False
    if isinstance(one, FastganError) or isinstance(two, FastganError):
        return False
    rows = _rows(one, signature), _rows(two, signature)
    return rows == (1, 2) and _mixing(one, two) is None


def _shares_noise(model: ir.Model, signature: Signature) -> bool:
    """Whether it draws noise for the samples of the traced batch: more of them would share it.

    `plan.make`, which knows each sample's own, is then left to open the batch.
    """
    one, two = _bind(model, signature, 1), _bind(model, signature, 2)
    assert isinstance(one, ir.Model)
    assert isinstance(two, ir.Model)
    return any(
        first.op_type in random.NAMES and _sizes(first.outputs[0]) == _sizes(second.outputs[0])
        for first, second in zip(one.graph, two.graph, strict=False)
    )


def _meets(model: ir.Model) -> bool:
    """Whether its samples meet in a norm by the batch's own statistics.

    `plan.make` knows those that are of one sample each, and is left to open the batch too.
    """
    norms = (node for node in model.graph if node.op_type == "BatchNormalization")
    return any(node.attributes.get_int("training_mode", 0) for node in norms)


def _of_shapes(error: FastganError) -> bool:
    """Whether it is about inputs that do not fit an op, as a fixed batch makes them."""
    return error.found.startswith("inputs ")


def _bind(model: ir.Model, signature: Signature, size: int) -> ir.Model | FastganError:
    try:
        return specialise(model, input_shapes(signature, size))
    except UnsupportedError as error:
        return error


def _rows(bound: ir.Model, signature: Signature) -> int:
    """The first axis of the output that is made for the user; 0 if it has none."""
    output = signature.made
    sizes = [_sizes(value) for value in bound.graph.outputs if value.name == output.name]
    return sizes[0][0] if sizes and sizes[0] else 0


def _mixing(one: ir.Model, two: ir.Model) -> int | None:
    """The batch that a Reshape was made for which mixes the samples of any other; None if none.

    Samples lie one after another behind the axes that come before the batch. A Reshape keeps them
    apart where as many elements lie before the axis that grows with the batch as did before. That
    to `[4, 16, -1]` does not: its last axis grows, and each row holds a part of every sample.
    """
    for first, second in zip(one.graph, two.graph, strict=False):
        if first.op_type != second.op_type:
            return None
        if first.op_type != "Reshape" or first.inputs[0] is None or second.inputs[0] is None:
            continue
        before = _rows_before(_sizes(first.inputs[0]), _sizes(second.inputs[0]))
        after = _rows_before(_sizes(first.outputs[0]), _sizes(second.outputs[0]))
        if before is not None and after is not None and before != after:
            return _sizes(second.outputs[0])[0]
    return None


def _rows_before(one: Sequence[int], two: Sequence[int]) -> int | None:
    """The elements before the axis that differs; None where none or several do."""
    if len(one) != len(two):
        return None
    axes = [axis for axis, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    return math.prod(one[: axes[0]]) if len(axes) == 1 else None


def _sizes(value: ir.Value) -> tuple[int, ...]:
    return () if value.shape is None else tuple(int(size) for size in value.shape.numpy())


def _candidates(model: ir.Model, signature: Signature) -> list[int]:
    """Batches that the graph may have been made for, the likeliest first."""
    found: list[int] = []
    one, two = _bind(model, signature, 1), _bind(model, signature, 2)
    bound = [graph for graph in (one, two) if isinstance(graph, ir.Model)]
    if len(bound) == 2 and (mixing := _mixing(*bound)) is not None:
        found.append(mixing)
    for graph in bound:
        found.append(_rows(graph, signature))
    declared = [output.shape[0] for output in signature.outputs if output.shape]
    found += [size for size in declared if isinstance(size, int)]
    found += [_first(node.inputs[1]) for node in model.graph if node.op_type in _SHAPED]
    return list(dict.fromkeys(size for size in found if size > 0))[:_MOST_TRIED]


def _first(shape: ir.Value | None) -> int:
    """The first size of a shape that the file states; 0 where it states none."""
    tensor = None if shape is None else ir.convenience.get_const_tensor(shape)
    return 0 if tensor is None or tensor.size == 0 else int(tensor.numpy().flat[0])


def _with_batch(signature: Signature, old: int | str, new: int | str) -> Signature:
    """Every batched input, and every output, with another first axis."""

    def fits(size: int | str | None) -> bool:
        return size == old if isinstance(old, int) else not isinstance(size, int)

    inputs = tuple(
        replace(i, shape=(new, *i.shape[1:]))
        if i.shape and i.kind != "noise" and signature.has_rows(i) and fits(i.shape[0])
        else i
        for i in signature.inputs
    )
    outputs = tuple(
        replace(o, shape=(new, *o.shape[1:])) if o.shape else o for o in signature.outputs
    )
    return replace(signature, inputs=inputs, outputs=outputs)
