"""A graph that was exported at one batch size, at any other.

Exporters freeze the batch where a model reshapes by it; StyleGAN2 with the batch as the groups of a
convolution can't be exported otherwise. In the rewritten graph what depended on it is gone, and
most often each sample's row of every tensor follows from the same sample's rows of the inputs
alone, in the same way. `samples` finds out: then the graph for n samples is the same with other
shapes, and a few constants that name them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from fastgan.errors import UnsupportedError
from fastgan.ops.nodes import constant, where
from fastgan.plan.following import follow
from fastgan.plan.sample_rules import integers
from fastgan.plan.samples import Array, Flow, Rows, sizes

NEEDED = "samples that do not depend on each other"


def rebatch(model: ir.Model, inputs: Mapping[str, int], count: int) -> None:
    """Make a specialised and rewritten model one for `count` samples, in place.

    Args:
        model: planned for `inputs[name]` samples.
        inputs: the names of the inputs whose first axis is the samples, all of one length.
        count: the samples wanted.

    Raises:
        UnsupportedError: a node whose samples may depend on each other, or that is not known.
    """
    frozen = next(iter(inputs.values()))
    for value in model.graph.inputs:
        if value.name in inputs and sizes(value)[0] != frozen:
            raise UnsupportedError(
                f"input {value.name!r}", f"{sizes(value)[0]} samples", f"{frozen}, as others have"
            )
    flow = follow(model, inputs, frozen)
    _check(model, flow)
    changes = _Changes(flow, count)
    for node in model.graph:
        if node.outputs[0] in flow.lays:
            changes.visit(node)
    changes.apply()


def _check(model: ir.Model, flow: Flow) -> None:
    """Raises UnsupportedError where samples meet, differ, or hold the graph to their number."""
    for meeting in flow.meetings:
        raise UnsupportedError(where(meeting.node), meeting.reason, NEEDED)
    for node, reason in flow.fixed.items():
        raise UnsupportedError(where(node), reason, NEEDED)
    for value, lay in flow.lays.items():
        maker = value.producer()
        if maker is not None and not flow.made_apart(value):
            raise UnsupportedError(where(maker), "samples in another axis than the first", NEEDED)
        if maker is not None and not lay.alike:
            raise UnsupportedError(where(maker), "rows that differ from sample to sample", NEEDED)
    for value in model.graph.outputs:
        if value not in flow.lays:
            raise UnsupportedError(f"output {value.name!r}", "no axis of samples", "one")


class _Changes:
    """What becomes of each node for another number of samples."""

    def __init__(self, flow: Flow, count: int) -> None:
        self.flow, self.count = flow, count
        self._constants: dict[tuple[ir.Node, int], Array] = {}
        self._attributes: list[tuple[ir.Node, ir.Attr]] = []

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """The new shape of a value."""
        own = (self.count,) if value in self.flow.lays else sizes(value)[:1]
        return (*own, *sizes(value)[1:])

    def visit(self, node: ir.Node) -> None:
        """Note what names the samples."""
        made = list(self.shape(node.outputs[0]))
        attributes, kind = node.attributes, node.op_type if not node.domain else ""
        if kind in ("Reshape", "Expand") and len(node.inputs) > 1:
            self._constants[node, 1] = np.array(made, np.int64)
        elif kind == "Reshape" or ("shape" in attributes and kind.startswith("Random")):
            self._attributes.append((node, ir.AttrInt64s("shape", made)))
        elif kind == "AffineGrid":
            size = constant(node.inputs[1])
            assert size is not None
            self._constants[node, 1] = np.array([self.count, *size[1:]], np.int64)
        elif kind == "Resize" and len(node.inputs) > 3 and node.inputs[3] is not None:
            if "axes" in attributes:
                raise UnsupportedError(where(node), "sizes of some axes", NEEDED)
            self._constants[node, 3] = np.array(made, np.int64)
        elif kind == "Tile" and node.inputs[0] not in self.flow.lays:
            source = sizes(node.inputs[0]) if node.inputs[0] is not None else ()
            repeats = [size // own for size, own in zip(made, source, strict=True)]
            self._constants[node, 1] = np.array(repeats, np.int64)
        elif kind in ("Flatten", "Squeeze", "Unsqueeze") and not _keeps_first(node):
            raise UnsupportedError(where(node), "samples in an axis that goes", NEEDED)
        for position, value in enumerate(node.inputs):
            rows = self.flow.rows.get((node, position))
            array = None if rows is None else constant(value)
            if rows is not None and array is not None:
                self._constants[node, position] = self._each(array, rows)

    def _each(self, array: Array, rows: Rows) -> Array:
        """A constant with a row for each of the new samples, or with one that broadcasts."""
        return np.repeat(array.take([0], rows.axis), self.count if rows.whole else 1, rows.axis)

    def apply(self) -> None:
        """Change the graph."""
        shapes = {value: self.shape(value) for value in self.flow.lays}
        for (node, position), array in self._constants.items():
            old = node.inputs[position]
            assert old is not None
            name = f"{node.outputs[0].name}.{position}.rows"
            node.replace_input_with(position, _constant(array, name, old))
        for node, attribute in self._attributes:
            node.attributes[attribute.name] = attribute
        for value, shape in shapes.items():
            value.shape = ir.Shape(shape)


def _keeps_first(node: ir.Node) -> bool:
    """Whether an op that is told which axes come, go or end leaves the first one as it is."""
    source, made = node.inputs[0], node.outputs[0]
    assert source is not None
    if node.op_type == "Flatten":
        stated = node.attributes.get("axis")
        return (1 if stated is None else int(stated.value)) % len(sizes(source)) == 1
    axes = integers(node, 1, "axes")
    longer = max(len(sizes(source)), len(sizes(made)))
    return axes is not None and all(axis % longer for axis in axes)


def _constant(array: Array, name: str, like: ir.Value) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    shape = ir.Shape(array.shape)
    return ir.Value(name=name, shape=shape, type=like.type, const_value=tensor)
