"""y[mask] = values, as exporters write it, is Where(mask, values, y).

They write NonZero of the mask, whose size depends on data, gather and scatter at the places that it
names, and count them for the shapes in between. Here such nodes are put off, each by what it stands
for, until a ScatterND at the same places makes them one Where again; what is never scattered (as
x[mask] by itself) is refused for its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from fastgan.errors import UnsupportedError
from fastgan.model.late import Late
from fastgan.ops.nodes import to_torch, where
from fastgan.ops.registry import Op

_REDUCTIONS = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}
_BOOL = int(ir.DataType.BOOL)

#: (operator, inputs, name, attributes) -> one node of the new graph.
Emit = Callable[..., "Slot"]


@dataclass(slots=True, eq=False)
class Slot:
    """What a value of the old graph is; values that are the same share one.

    Attributes:
        tensor: with data, or a meta tensor: of what depends on data, and of a `late` constant.
        name: that it had in the old graph.
        constant: its data as the old graph holds them, so that weights are shared.
        value: its counterpart in the new graph; a known one gets it when it is first needed.
        pending: what it stands for where its shape depends on data.
    """

    tensor: Tensor
    name: str
    constant: ir.TensorProtocol | None = None
    value: ir.Value | None = None
    pending: Pending | None = None

    @property
    def late(self) -> bool:
        """Whether it is a constant whose numbers nobody has read."""
        return isinstance(self.constant, Late)

    def known(self) -> Tensor:
        """The tensor, its numbers read if it is late."""
        return to_torch(self.constant) if self.late and self.constant else self.tensor

    @property
    def computed(self) -> bool:
        """Whether it depends on data."""
        return self.tensor.is_meta and not self.late


@dataclass(frozen=True, slots=True)
class Pending:
    """A value whose shape depends on data.

    Attributes:
        kind: "places": NonZero(mask), [rank, count]; "rows": that transposed; "selected":
            full[mask], [count, *rest]; "filled": full, as often as a count says; "numbers":
            anything computed of the others' shapes.
        error: what to say where it is needed after all.
        mask: of the first three.
        full: of "selected" and "filled".
        flat: whether these are [count * rest].
    """

    kind: str
    error: UnsupportedError
    mask: Slot | None = None
    full: Slot | None = None
    flat: bool = False


def put_off(
    node: ir.Node,
    op: Op,
    inputs: Sequence[Slot | None],
    attributes: dict[str, Any],
    error: UnsupportedError | None,
    emit: Emit,
) -> Slot | None:
    """The output of a node of one output whose shape depends on data, or a Where in its place.

    Args:
        node, op: of the old graph.
        inputs: at least one of them pending, or `error` says why the shape is unknown.
        attributes: of the node.
        error: None where an input is pending.
        emit: makes a node of the new graph.

    Returns:
        None where there is no such thing: the error stands.
    """
    if node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
        return None
    given = [slot.pending for slot in inputs if slot is not None and slot.pending is not None]
    error = error or given[0].error
    if node.op_type == "ScatterND":
        return _scattered(node, inputs, attributes, emit)
    pending = _stands_for(node, op, inputs, attributes, error, emit)
    if pending is None:
        return None
    name = node.outputs[0].name or ""
    return Slot(torch.empty(0, device="meta"), name, pending=pending)


def _stands_for(
    node: ir.Node,
    op: Op,
    inputs: Sequence[Slot | None],
    attributes: dict[str, Any],
    error: UnsupportedError,
    emit: Emit,
) -> Pending | None:
    x, other = [*inputs, None, None][:2]
    if x is None:
        return None
    first, second = x.pending, None if other is None else other.pending
    match node.op_type:
        case "NonZero":
            return Pending("places", error, x) if first is None else None
        case "Transpose" if first is not None and first.kind == "places":
            rows = list(attributes.get("perm") or (1, 0)) == [1, 0]
            return Pending("rows", error, first.mask) if rows else None
        case "GatherND" if first is None and second is not None and second.kind == "rows":
            mask = second.mask
            assert mask is not None
            rank = mask.tensor.dim()
            fits = x.tensor.shape[:rank] == mask.tensor.shape and not attributes.get("batch_dims")
            return Pending("selected", error, mask, x) if fits else None
        case "Expand" if first is None:
            return Pending("filled", error, None, x)
        case "Expand" if first is not None and first.kind in ("selected", "filled"):
            return first
        case "ConstantOfShape":
            value = attributes.get("value")
            number = torch.zeros(1) if value is None else value
            return Pending("filled", error, None, Slot(number, f"{node.outputs[0].name}.value"))
        case "Reshape" if first is not None and first.kind in ("selected", "filled"):
            shape = None if other is None or second else other.tensor
            row = shape is None or shape.is_meta or shape.tolist() == [-1]
            return Pending(first.kind, error, first.mask, first.full, True) if row else None
        case "Slice" if first is not None and first.kind in ("selected", "filled"):
            return first if _is_whole(inputs) else None
    values = [p for p in (s.pending for s in inputs if s is not None) if p is not None]
    if any(p.kind == "selected" for p in values):
        return _elementwise(node, inputs, values, error, emit) if op.elementwise else None
    if node.op_type == "Shape" or all(p.kind in ("numbers", "filled") for p in values):
        return Pending("numbers", error)
    return None


def _is_whole(inputs: Sequence[Slot | None]) -> bool:
    """Whether a Slice is x[0:count] with a count computed of the mask."""
    _, starts, ends, axes, steps = [*inputs, None, None, None][:5]
    for slot, needed in ((starts, [0]), (axes, [0]), (steps, [1])):
        if slot is None:
            continue
        if slot.pending or slot.tensor.is_meta or slot.tensor.tolist() != needed:
            return False
    return starts is not None and ends is not None and ends.pending is not None


def _elementwise(
    node: ir.Node,
    inputs: Sequence[Slot | None],
    values: Sequence[Pending],
    error: UnsupportedError,
    emit: Emit,
) -> Pending | None:
    """f(a[mask], b[mask], 2) is f(a, b, 2)[mask]."""
    selected = [p for p in values if p.kind == "selected"]
    mask, flat = selected[0].mask, selected[0].flat
    assert mask is not None
    if any(p.flat != flat for p in selected):
        return None
    if any(p.mask is None or _root(p.mask) != _root(mask) for p in selected):
        return None
    shapes = {tuple(p.full.tensor.shape) for p in selected if p.full is not None}
    rest = 0 if flat else len(next(iter(shapes))) - mask.tensor.dim()
    operands: list[Slot | None] = []
    for slot in inputs:
        pending = None if slot is None else slot.pending
        operand = slot if pending is None else pending.full
        chosen = pending is not None and pending.kind == "selected"
        if slot is not None and (operand is None or not (chosen or _is_row(operand, rest))):
            return None
        operands.append(operand)
    if len(shapes) > 1:
        return None
    attributes = {key: value.value for key, value in node.attributes.items()}
    full = emit(node.op_type, operands, f"{node.outputs[0].name}.of_all", **attributes)
    return Pending("selected", error, mask, full, flat)


def _is_row(slot: Slot, rest: int) -> bool:
    """Whether it is the same for each place of a mask with so many axes behind it."""
    shape = tuple(slot.tensor.shape)
    return slot.tensor.numel() == 1 or len(_without_ones(shape)) <= rest


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape from its first axis on that is longer than 1."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def _root(mask: Slot) -> tuple[ir.Value | None, int]:
    """What a mask was before exporters repeated it along further axes, and how many it had."""
    value = mask.value
    rank = mask.tensor.dim()
    while value is not None and (node := value.producer()) is not None:
        source = node.inputs[0] if node.inputs else None
        if node.op_type not in ("Expand", "Unsqueeze") or source is None or source.shape is None:
            break
        before, after = tuple(source.shape.numpy()), tuple(value.shape.numpy())  # type: ignore[union-attr]
        axes_behind = after[: len(_trimmed(before))] == _trimmed(before)
        if not axes_behind:
            break
        value, rank = source, len(_trimmed(before))
    return value, rank


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape up to its last axis that is longer than 1."""
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _scattered(
    node: ir.Node, inputs: Sequence[Slot | None], attributes: dict[str, Any], emit: Emit
) -> Slot | None:
    x, rows, updates = [*inputs, None, None, None][:3]
    if x is None or rows is None or updates is None or x.pending or not updates.pending:
        return None
    places, new = rows.pending, updates.pending
    if places is None or places.kind != "rows" or places.mask is None or new.full is None:
        return None
    mask, shape, full = places.mask, tuple(x.tensor.shape), new.full
    rank = mask.tensor.dim()
    root, root_rank = _root(mask)
    if tuple(mask.tensor.shape) != shape[:rank]:
        return None
    if new.kind == "selected":
        same = new.mask is mask or (new.mask is not None and _root(new.mask)[0] is root)
        if not same or root is None or tuple(full.tensor.shape) != shape:
            return None
    elif new.kind == "filled":
        behind = root_rank if new.flat else rank
        if not _is_row(full, len(shape) - behind):
            return None
        if math.prod(torch.broadcast_shapes(tuple(full.tensor.shape), shape)) != math.prod(shape):
            return None
    else:
        return None
    name = node.outputs[0].name or ""
    condition = mask
    if mask.tensor.dtype is not torch.bool:
        condition = emit("Cast", [mask], f"{name}.mask", to=_BOOL)
    if rank < len(shape):
        wide = torch.tensor([*shape[:rank], *[1] * (len(shape) - rank)])
        condition = emit("Reshape", [condition, Slot(wide, f"{name}.as")], f"{name}.wide")
    reduction = attributes.get("reduction", "none")
    if reduction != "none":
        full = emit(_REDUCTIONS[reduction], [x, full], f"{name}.reduced")
    return emit("Where", [condition, full, x], name)


def refusal(node: ir.Node, name: str) -> UnsupportedError:
    """Of an operator whose output's shape depends on data."""
    return UnsupportedError(
        where(node), f"{name} of data, which decide its shape", "a constant input"
    )
