"""Where each op leaves the samples: the rules by which `samples.follow` goes through a graph.

A rule says where they lie in the op's result, or, in words, how they meet in it. Here are the ops
that move elements about, work along an axis or on each element; products, norms and what is left
are in `sample_rules_products`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir

from fastgan.ops.nodes import constant
from fastgan.plan.samples import ACROSS, Flow, Lay, Said, sizes

Rule = Callable[[Flow, ir.Node], Said]


# What rules share ---------------------------------------------------------------------------------


def given(node: ir.Node, name: str, default: Any) -> Any:
    """An attribute's value."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


def shape_of(node: ir.Node, position: int = 0) -> tuple[int, ...]:
    """The sizes of an input; () where it is left out."""
    value = node.inputs[position] if position < len(node.inputs) else None
    return () if value is None else sizes(value)


def integers(node: ir.Node, position: int, name: str = "") -> list[int] | None:
    """Integers from a constant input, or an attribute; None where there are neither."""
    value = node.inputs[position] if position < len(node.inputs) else None
    array = constant(value)
    if array is not None:
        return [int(i) for i in array.reshape(-1)] if array.dtype.kind in "iu" else None
    found = given(node, name, None) if value is None and name else None
    return None if found is None else [int(i) for i in found]


def first_alone(flow: Flow, node: ir.Node) -> Lay | str:
    """Where samples lie in the first input, which has them alone; the others are parameters."""
    lay = flow.lay(node, 0)
    others = any(flow.lay(node, i) for i in range(1, len(node.inputs)))
    if lay is None or others:
        return "parameters of samples"
    return lay if lay.axis >= 0 else ACROSS_AXES


ACROSS_AXES = "samples that lie across its axes"


def alone(rule: Callable[[Flow, ir.Node, Lay], Said]) -> Rule:
    """A rule of ops whose first input has the samples alone: told where they lie in it."""

    @functools.wraps(rule)
    def found(flow: Flow, node: ir.Node) -> Said:
        lay = first_alone(flow, node)
        return lay if isinstance(lay, str) else rule(flow, node, lay)

    return found


def spread(
    flow: Flow, node: ir.Node, positions: Sequence[int], shape: Sequence[int], whole: bool = False
) -> Lay | str:
    """Where inputs that broadcast to this shape leave the samples, if all agree.

    Args:
        whole: the inputs do not broadcast: each has a row for each sample.
    """
    found: Lay | None = None
    broken: ir.Node | None = None
    for position in positions:
        lay, own = flow.lay(node, position), shape_of(node, position)
        if lay is None:
            continue
        if lay.axis < 0:
            if tuple(own) != tuple(shape):
                return ACROSS_AXES
            at = Lay(-1, lay.inner)
        else:
            at = Lay(lay.axis + len(shape) - len(own), lay.inner)
            if at.axis < 0 or own[lay.axis] != shape[at.axis]:
                return "a batch that spreads along an axis"
        if found is not None and found.place != at.place:
            return "samples that lie in different axes"
        found = at
        broken = broken or lay.broken
    if found is None:
        return "parameters of samples"
    for position in positions:
        if flow.lay(node, position) is None:
            own = shape_of(node, position)
            if found.axis >= 0:
                axis = found.axis - len(shape) + len(own)
                flow.fit(node, position, axis, found.inner, whole=whole)
            elif math.prod(own) != 1:
                return ACROSS_AXES
    return Lay(found.axis, found.inner, broken=broken)


def elementwise(flow: Flow, node: ir.Node) -> Said:
    """Ops whose inputs broadcast."""
    if "axis" in node.attributes and len(shape_of(node, 1)) not in (0, len(shape_of(node))):
        return "operands aligned from the left"  # before opset 7
    return spread(flow, node, range(len(node.inputs)), sizes(node.outputs[0]))


def _known(flow: Flow, node: ir.Node) -> Said:
    """One input, whose elements keep their places."""
    lay = flow.lay(node, 0)
    return "parameters of samples" if lay is None else lay


def _drawn(flow: Flow, node: ir.Node) -> Said:
    """Each sample's numbers are its own in rows alone, since the row says which they are."""
    lay = flow.lay(node, 0)
    rows = lay is not None and lay.place == (0, 1)
    return _known(flow, node) if rows else "numbers drawn for samples that are no rows"


@alone
def _quantised(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    """Each element by its own, by one scale or those of another axis."""
    rank = len(shape_of(node))
    if math.prod(shape_of(node, 1)) == 1:
        return lay
    alone = len(shape_of(node, 1)) == 1 and given(node, "axis", 1) % rank != lay.axis
    return lay if alone else "scales along the samples' axis"


# Views --------------------------------------------------------------------------------------------


def _reshape(flow: Flow, node: ir.Node) -> Said:
    source, lay = node.inputs[0], flow.lay(node, 0)
    assert source is not None
    if lay is None:
        return "a shape of samples"
    shape = sizes(node.outputs[0])
    placed = flow.placed(shape, flow.flat(source, lay))
    beside = placed.axis > 0 == lay.axis and shape[0] == 1
    if beside or placed.axis < 0 <= lay.axis:
        # A Flatten states no sizes, so that none of a trace is in it: it is meant for all samples.
        return Lay(placed.axis, placed.inner, broken=None if node.op_type == "Flatten" else node)
    own = placed.axis >= 0 and shape[placed.axis] == flow.n
    return Lay(placed.axis, placed.inner, broken=None if own else lay.broken)


def _renamed(flow: Flow, node: ir.Node) -> Said:
    """Unsqueeze and Squeeze: the samples' axis, by its new number."""
    lay, axes = flow.lay(node, 0), integers(node, 1, "axes")
    if axes is None:
        return "axes that depend on the batch"
    if lay is None or lay.axis < 0:
        return _reshape(flow, node)
    longer = sizes(node.outputs[0]) if node.op_type == "Unsqueeze" else shape_of(node)
    changed = {axis % len(longer) for axis in axes}
    kept = [axis for axis in range(len(longer)) if axis not in changed]
    if node.op_type == "Unsqueeze":
        return Lay(kept[lay.axis], lay.inner, broken=lay.broken)
    if lay.axis in changed:
        return _reshape(flow, node)
    return Lay(kept.index(lay.axis), lay.inner, broken=lay.broken)


def _transpose(flow: Flow, node: ir.Node) -> Said:
    lay, rank = flow.lay(node, 0), len(shape_of(node))
    if lay is None or lay.axis < 0:
        return ACROSS_AXES
    perm = [int(axis) for axis in given(node, "perm", range(rank)[::-1])]
    return Lay(perm.index(lay.axis), lay.inner, broken=lay.broken)


def _expand(flow: Flow, node: ir.Node) -> Said:
    return spread(flow, node, (0,), sizes(node.outputs[0]))


# Along an axis ------------------------------------------------------------------------------------


def elsewhere(flow: Flow, node: ir.Node, axis: int | None) -> Lay | str:
    """Where samples lie, if an op works along another axis than theirs."""
    lay = first_alone(flow, node)
    if isinstance(lay, str):
        return lay
    return ACROSS if axis is None or axis % len(shape_of(node)) == lay.axis else lay


def along_last(flow: Flow, node: ir.Node) -> Said:
    """Along one axis, the last unless it says another."""
    return elsewhere(flow, node, given(node, "axis", -1))


def _along_input(flow: Flow, node: ir.Node) -> Said:
    axis = integers(node, 1)
    return elsewhere(flow, node, axis[0] if axis else None)


@alone
def along_rest(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    """Along all axes from one on."""
    axis = given(node, "axis", 1) % max(1, len(shape_of(node)))
    return ACROSS if lay.axis >= axis else lay


def _without(lay: Lay, gone: Sequence[int], keepdims: bool) -> Lay:
    return lay if keepdims else Lay(lay.axis - sum(axis < lay.axis for axis in gone), lay.inner)


@alone
def _reduce(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    rank = len(shape_of(node))
    axes = integers(node, 1, "axes")
    if not axes:
        if len(node.inputs) > 1 and node.inputs[1] is not None and axes is None:
            return "axes that depend on data"
        return lay if given(node, "noop_with_empty_axes", 0) else ACROSS
    gone = {axis % rank for axis in axes}
    return ACROSS if lay.axis in gone else _without(lay, [*gone], given(node, "keepdims", 1))


def _best(flow: Flow, node: ir.Node) -> Said:
    axis = given(node, "axis", 0) % len(shape_of(node))
    lay = elsewhere(flow, node, axis)
    return lay if isinstance(lay, str) else _without(lay, [axis], given(node, "keepdims", 1))


def _concat(flow: Flow, node: ir.Node) -> Said:
    """Along another axis; or along theirs, where each part has all samples, one part's before
    the next one's.
    """
    shape = list(sizes(node.outputs[0]))
    axis = given(node, "axis", 1) % len(shape)
    lays = [lay for i in range(len(node.inputs)) if (lay := flow.lay(node, i)) is not None]
    if len({lay.place for lay in lays}) > 1 or lays[0].axis < 0:
        return "samples that lie in different axes"
    lay = lays[0]
    for position in range(len(node.inputs)):
        if axis == lay.axis and shape_of(node, position)[axis] % (lay.inner * flow.n):
            return ACROSS
        if flow.lay(node, position) is None:
            flow.fit(node, position, lay.axis, lay.inner, whole=True)
    return Lay(lay.axis, lay.inner, broken=lay.broken)


@alone
def _split(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    if given(node, "axis", 0) % len(shape_of(node)) != lay.axis:
        return lay
    flow.fixed[node] = "pieces of the samples' axis"
    whole = all(sizes(value)[lay.axis] % (lay.inner * flow.n) == 0 for value in node.outputs)
    return lay if whole else ACROSS


@alone
def _slice(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    shape = shape_of(node)
    starts, axes = integers(node, 1, "starts"), integers(node, 3, "axes")
    if starts is None:
        return "places that depend on data"
    axes = [axis % len(shape) for axis in (range(len(starts)) if axes is None else axes)]
    steps = integers(node, 4) or [1] * len(axes)
    for start, axis, step in zip(starts, axes, steps, strict=True):
        block = lay.inner * flow.n
        if axis == lay.axis:
            first = max(0, start + shape[axis] if start < 0 else start)
            if step != 1 or first % block or sizes(node.outputs[0])[axis] % block:
                return "some of the samples"
            flow.fixed[node] = "a part of the samples' axis"
    return lay


@alone
def _pad(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    rank = len(shape_of(node))
    pads = integers(node, 1, "pads") or integers(node, 1, "paddings")
    axes = integers(node, 3) or range(rank)
    if pads is None:
        return "pads that depend on data"
    ends = zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True)
    padded = any(axis % rank == lay.axis and (a or b) for axis, a, b in ends)
    return "padding beside the samples" if padded else lay


@alone
def _same_size(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    """Resize and CenterCropPad: the samples' axis stays as long as it is."""
    if given(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return "a part of each axis"
    if node.op_type == "CenterCropPad" or given(node, "keep_aspect_ratio_policy", "stretch") != (
        "stretch"
    ):
        flow.fixed[node] = "sizes of some axes"
    same = shape_of(node)[lay.axis] == sizes(node.outputs[0])[lay.axis]
    return lay if same else "samples resized"


_ONNX: tuple[tuple[Rule, tuple[str, ...]], ...] = (
    (_known, ("CastLike", "Identity")),
    (_drawn, ("Bernoulli", "RandomNormalLike", "RandomUniformLike")),
    (_reshape, ("Reshape", "Flatten")),
    (_renamed, ("Squeeze", "Unsqueeze")),
    (_transpose, ("Transpose",)),
    (_expand, ("Expand",)),
    (first_alone, ("Tile",)),
    (along_last, ("LpNormalization", "TopK")),
    (_along_input, ("CumSum", "CumProd")),
    (
        _reduce,
        (
            *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"),
            *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
        ),
    ),
    (_best, ("ArgMax", "ArgMin")),
    (_concat, ("Concat",)),
    (_split, ("Split",)),
    (_slice, ("Slice",)),
    (_pad, ("Pad",)),
    (_same_size, ("CenterCropPad", "Resize", "Upsample")),
    (_quantised, ("QuantizeLinear", "DequantizeLinear")),
)
RULES: dict[tuple[str, str], Rule] = {
    **{("", name): rule for rule, names in _ONNX for name in names},
    ("fastgan", "Activate"): elementwise,
}
