"""Where ops that pick elements by their places leave the samples; see `sample_rules`."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fastgan.ops.nodes import constant
from fastgan.plan.sample_rules import ACROSS_AXES, Rule, alone, elsewhere, given, shape_of
from fastgan.plan.samples import ACROSS, Array, Flow, Lay, Said, sizes


def _gather(flow: Flow, node: ir.Node) -> Said:
    """What samples have, picked the same way for all; or a table, looked up by samples."""
    data, picks = flow.lay(node, 0), flow.lay(node, 1)
    axis = given(node, "axis", 0) % len(shape_of(node))
    lay = data or picks
    if lay is None or lay.axis < 0 or (data and picks):
        return "samples picked by samples"
    if data is None:
        return Lay(lay.axis + axis, lay.inner)
    if lay.axis == axis:
        return "some of the samples"
    moved = len(shape_of(node, 1)) - 1 if lay.axis > axis else 0
    return Lay(lay.axis + moved, lay.inner, broken=lay.broken)


def _elements(flow: Flow, node: ir.Node) -> Said:
    """GatherElements and ScatterElements: places along one axis, of inputs laid on each other."""
    axis, inputs = given(node, "axis", 0) % len(shape_of(node)), range(len(node.inputs))
    lays = [lay for i in inputs if (lay := flow.lay(node, i)) is not None]
    if any(lay.axis in (axis, -1) for lay in lays):
        return ACROSS
    found = {shape_of(node, i)[lays[0].axis] for i in inputs}
    if len(found) > 1 or len({lay.place for lay in lays}) > 1:
        return "samples that lie in different axes"
    for i in inputs:
        if flow.lay(node, i) is None:
            flow.fit(node, i, lays[0].axis, lays[0].inner, whole=True)
    return lays[0]


def _gather_nd(flow: Flow, node: ir.Node) -> Said:
    data, picks, batch = flow.lay(node, 0), flow.lay(node, 1), given(node, "batch_dims", 0)
    shape = shape_of(node, 1)
    if data is None and picks is not None:
        # A table, looked up by samples; or one of each, by that of each.
        if picks.axis in (-1, len(shape) - 1):
            return ACROSS_AXES
        if picks.axis < batch:
            flow.fit(node, 0, picks.axis, picks.inner, whole=True)
        return picks
    if data is None or data.axis < 0:
        return ACROSS_AXES
    if data.axis < batch:
        if picks is None:
            flow.fit(node, 1, data.axis, data.inner, whole=True)
        return data if picks is None or picks.place == data.place else "samples picked by samples"
    last = batch + shape[-1]
    if picks is not None or data.axis < last:
        return "samples picked by places"
    return Lay(len(shape) - 1 + data.axis - last, data.inner, broken=data.broken)


def _scatter_nd(flow: Flow, node: ir.Node) -> Said:
    """Into places of the other axes; or into those of each sample, where the places name it."""
    data, places, updates = (flow.lay(node, i) for i in range(3))
    array = constant(node.inputs[1])
    lay = data or updates
    if lay is None or places is not None or array is None or not array.ndim or lay.axis < 0:
        return "places that depend on samples"
    depth, rank = array.shape[-1], array.ndim - 1
    if data is not None and data.axis >= depth:
        flow.note(array.tobytes())
        at = Lay(rank + data.axis - depth, data.inner)
    elif data is None and lay.axis >= rank:
        flow.note(array.tobytes())
        at, lay = Lay(lay.axis, lay.inner), Lay(depth + lay.axis - rank, lay.inner)
    else:
        axis = 0 if data is None else data.axis
        own = _own_places(array, axis, flow.n)
        if own is None or lay.inner != 1 or shape_of(node)[axis] != flow.n:
            return "samples at each other's places"
        at, lay = Lay(own), Lay(axis, broken=lay.broken)
        flow.note((axis, np.delete(array.take(0, own), axis, -1).tobytes()))
        flow.fixed[node] = "places of samples"
    if updates is not None and updates.place != at.place:
        return "samples that lie in different axes"
    if updates is None:
        flow.fit(node, 2, at.axis, at.inner, whole=True)
    if data is None:
        flow.fit(node, 0, lay.axis, lay.inner, whole=True)
    return lay


def _own_places(array: Array, axis: int, n: int) -> int | None:
    """The axis of places along which the coordinate `axis` counts the samples, the others alike."""
    coordinate, others = array[..., axis], np.delete(array, axis, -1)
    for own in range(coordinate.ndim):
        if coordinate.shape[own] == n:
            counts = np.moveaxis(coordinate, own, -1) % n == np.arange(n)
            if counts.all() and (others == others.take([0], own)).all():
                return own
    return None


@alone
def _one_hot(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    axis = given(node, "axis", -1) % len(sizes(node.outputs[0]))
    return Lay(lay.axis + (axis <= lay.axis), lay.inner)


def _compress(flow: Flow, node: ir.Node) -> Said:
    return elsewhere(flow, node, given(node, "axis", None))


_ONNX: tuple[tuple[Rule, tuple[str, ...]], ...] = (
    (_gather, ("Gather",)),
    (_elements, ("GatherElements", "Scatter", "ScatterElements")),
    (_gather_nd, ("GatherND",)),
    (_scatter_nd, ("ScatterND",)),
    (_one_hot, ("OneHot",)),
    (_compress, ("Compress",)),
)
RULES: dict[tuple[str, str], Rule] = {("", name): rule for rule, names in _ONNX for name in names}
