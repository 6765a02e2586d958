"""Where the samples of a batch lie in every tensor of a graph, and where they meet.

A specialised graph is walked once. Its inputs hold the samples in their first axis; each op's rule
(`sample_rules`) says where they lie behind it, or that one sample's elements are made of another's.
A Reshape keeps the order of the elements, so what is followed is a digit of their index: element e
of the axis that holds the samples is of sample `e // inner % n`. Nothing is believed without a
rule: behind an op that has none the samples have met.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.model.late import Late
from fastgan.ops import random
from fastgan.ops.nodes import constant, is_constant
from fastgan.ops.registry import names

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Lay:
    """Where the samples lie in a value.

    Attributes:
        axis: the axis that holds them whole; -1 where none does, as behind a Reshape across them.
        inner: how many neighbours of one sample follow one another along that axis; along the
            flattened value where `axis` is -1.
        alike: whether every sample's elements are made in the same way.
        broken: the Reshape that laid them across axes, or side by side.
    """

    axis: int
    inner: int = 1
    alike: bool = True
    broken: ir.Node | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Axis and inner."""
        return self.axis, self.inner


#: Why samples meet in an op that works along the axis in which they lie.
ACROSS = "the samples' axis"


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where samples meet: the node, the reason, and the Reshapes that led to it.

    None did where the op works along an axis of the samples alone: of one sample it would make
    nothing, so that it is meant for all of them.
    """

    node: ir.Node
    reason: str
    broken: tuple[ir.Node, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """A constant of as many rows as there are samples, all alike.

    Attributes:
        axis, inner: where they lie, as in `Lay`.
        whole: whether there must be a row for each sample; else one that broadcasts will do.
    """

    axis: int
    inner: int
    whole: bool


@dataclass(slots=True)
class Names:
    """Numbers for whatever is equal: a value of two graphs that has one is made in one way.

    Attributes:
        file: the constants of the file itself, by identity: they need not be read.
    """

    file: frozenset[int] = frozenset()
    _numbers: dict[Hashable, int] = field(default_factory=dict)
    _constants: dict[int, tuple[ir.TensorProtocol, int]] = field(default_factory=dict)

    def of(self, key: Hashable) -> int:
        """The number of a key."""
        return self._numbers.setdefault(key, len(self._numbers))

    def of_constant(self, tensor: ir.TensorProtocol) -> int:
        """The number of a constant's contents."""
        if isinstance(tensor, Late):
            return self.of(("late", tensor.identity))
        if id(tensor) in self.file:
            return self.of(("file", id(tensor)))
        if id(tensor) not in self._constants:  # kept, so that no other takes its identity
            self._constants[id(tensor)] = tensor, self.of_array(tensor.numpy())
        return self._constants[id(tensor)][1]

    def of_array(self, array: Array) -> int:
        """The number of an array's contents."""
        data = np.ascontiguousarray(array)
        digest = hashlib.blake2b(data.tobytes(), digest_size=16).digest()
        return self.of(("data", str(data.dtype), data.shape, digest))


#: What a rule says: where the samples lie in every output, or in each; or why they have met.
Said = Lay | Sequence[Lay] | str


class Flow:
    """What is known of the graph so far.

    Attributes:
        n: how many samples there are.
        lays: of each value that is made of samples, where they lie.
        meetings: where samples met, in the graph's order.
        rows: constants that have a row for each sample, by node and position.
        fixed: nodes that hold the number of samples in a way that can't be changed, and why.
        shared_draws: the nodes that draw numbers once for all samples, as `specialise` counts them.
        numbers: of every value, how it is made (see `Names`); empty if not asked for.
    """

    def __init__(self, n: int, names: Names | None = None) -> None:
        self.n = n
        self.lays: dict[ir.Value, Lay] = {}
        self.meetings: list[Meeting] = []
        self.rows: dict[tuple[ir.Node, int], Rows] = {}
        self.fixed: dict[ir.Node, str] = {}
        self.shared_draws: set[int] = set()
        self.numbers: dict[ir.Value, int] = {}
        self._names = names
        self._met: set[ir.Value] = set()
        self._alike = True
        self._note: Hashable = None

    def made_apart(self, value: ir.Value) -> bool:
        """Whether row i of this value, and nothing else of it, is made of sample i."""
        lay = self.lays.get(value)
        return lay is not None and lay.place == (0, 1) and sizes(value)[0] == self.n

    # The walk -------------------------------------------------------------------------------------

    def begin(self, value: ir.Value, of_samples: bool) -> None:
        """Take a graph input for one of samples, or for one that they share."""
        if of_samples:
            self.lays[value] = Lay(0)
        if self._names is not None:
            self.numbers[value] = self._names.of(("input", value.name, of_samples))

    def visit(self, node: ir.Node, rule: Callable[[Flow, ir.Node], Said] | None) -> None:
        """Go through a node.

        Args:
            rule: of its operator; None where there is none.
        """
        given = [value for value in node.inputs if value is not None]
        if any(value in self._met for value in given):
            self._met.update(node.outputs)
            return
        self._alike, self._note = True, None
        holders = [value for value in given if value in self.lays]
        before = [self.lays[value] for value in holders]
        if before:
            said = f"{node.op_type} of samples" if rule is None else rule(self, node)
        else:
            drawn = self._from_nothing(node)
            if drawn is None:
                self._number(node)
                return
            said = drawn
        if isinstance(said, str):
            meant = said == ACROSS and all(self._alone_in_axis(value) for value in holders)
            self._meet(node, said, () if meant else before)
            return
        each = [said] * len(node.outputs) if isinstance(said, Lay) else said
        if not all(self._holds(v, lay) for v, lay in zip(node.outputs, each, strict=False)):
            self._meet(node, "samples that its result does not hold whole", before)
            return
        alike = self._alike and all(lay.alike for lay in before)
        for value, lay in zip(node.outputs, each, strict=False):
            self.lays[value] = Lay(lay.axis, lay.inner, alike and lay.alike, lay.broken)
        self._number(node)

    def _meet(self, node: ir.Node, reason: str, before: Sequence[Lay]) -> None:
        broken = tuple(lay.broken for lay in before if lay.broken is not None)
        self.meetings.append(Meeting(node, reason, broken))
        self._met.update(node.outputs)

    def _alone_in_axis(self, value: ir.Value) -> bool:
        lay = self.lays[value]
        return lay.axis >= 0 and sizes(value)[lay.axis] == self.n

    def _holds(self, value: ir.Value, lay: Lay) -> bool:
        shape = sizes(value)
        whole = math.prod(shape) if lay.axis < 0 else shape[lay.axis]
        return whole > 0 and whole % (lay.inner * self.n) == 0

    def _from_nothing(self, node: ir.Node) -> Lay | None:
        """Rows that are made for each sample from what all share: drawn, or repeated."""
        shape = sizes(node.outputs[0])
        for_each = shape[:1] == (self.n,)
        if node.op_type in random.NAMES:
            if not for_each:
                self.shared_draws.add(node.attributes["node_index"].as_int())
                return None
            if node.inputs:
                self.fit(node, 0, 0, 1, whole=True)
            return Lay(0)
        if node.op_type in ("Expand", "Tile") and for_each and node.inputs[0] is not None:
            source = sizes(node.inputs[0])
            if len(source) < len(shape) or source[:1] == (1,):
                return Lay(0)
        return None

    # What rules ask -------------------------------------------------------------------------------

    def lay(self, node: ir.Node, position: int) -> Lay | None:
        """Where the samples lie in an input; None where it is shared by all, or left out."""
        value = node.inputs[position] if position < len(node.inputs) else None
        return None if value is None else self.lays.get(value)

    def flat(self, value: ir.Value, lay: Lay) -> int:
        """`inner` along the flattened value."""
        return lay.inner * (math.prod(sizes(value)[lay.axis + 1 :]) if lay.axis >= 0 else 1)

    def placed(self, shape: Sequence[int], flat: int) -> Lay:
        """Where samples lie in a value of this shape that lie so in it flattened.

        One sample alone may lie in several axes: in one of its own, if there is one.
        """
        found: list[Lay] = []
        stride = math.prod(shape)
        for axis, size in enumerate(shape):
            whole, stride = stride, stride // size if size else 0
            if stride and flat % stride == 0 and whole % (flat * self.n) == 0:
                found.append(Lay(axis, flat // stride))
        own = [lay for lay in found if lay.inner == 1 and shape[lay.axis] == self.n]
        return (own or found or [Lay(-1, flat)])[0]

    def fit(self, node: ir.Node, position: int, axis: int, inner: int, *, whole: bool) -> None:
        """Let an input that all samples share lie along them in this axis of it, if it reaches.

        A constant whose rows are all alike gives every sample the same; of anything else that has
        several rows each sample gets its own.

        Args:
            whole: as `Rows` has it.
        """
        value = node.inputs[position] if position < len(node.inputs) else None
        if value is None or axis < 0 or (sizes(value)[axis] == 1 and not whole):
            return
        array = constant(value)
        parts = None if array is None else self._parts(array, axis, inner)
        if parts is None or not bool((parts == parts[:, :, :1]).all()):
            self._alike = False
        else:
            self.rows[node, position] = Rows(axis, inner, whole)

    def _parts(self, array: Array, axis: int, inner: int) -> Array | None:
        """[before, outer, n, inner, behind]; None where it does not divide so."""
        size = array.shape[axis]
        if size % (inner * self.n):
            return None
        before, behind = math.prod(array.shape[:axis]), math.prod(array.shape[axis + 1 :])
        return array.reshape(before, size // (inner * self.n), self.n, inner, behind)

    def note(self, note: Hashable) -> None:
        """What else than its inputs, attributes and sizes says what the node makes of a sample."""
        self._note = note

    # How values are made --------------------------------------------------------------------------

    def _number(self, node: ir.Node) -> None:
        if self._names is None:
            return
        if node.op_type in VIEWS and not node.domain and node.inputs[0] in self.lays:
            self.numbers[node.outputs[0]] = self.numbers[node.inputs[0]]
            return
        left_out = _OF_SIZES.get(node.op_type, ())
        key = (
            node.domain,
            node.op_type,
            tuple(
                (name, _plain(attribute))
                for name, attribute in sorted(node.attributes.items())
                if name not in left_out
            ),
            tuple(self._input(node, i) for i in range(len(node.inputs)) if i not in left_out),
            tuple(self._each(value) for value in (*node.inputs[:1], *node.outputs)),
            self._note,
        )
        for position, value in enumerate(node.outputs):
            self.numbers[value] = self._names.of((key, position))

    def _input(self, node: ir.Node, position: int) -> Hashable:
        assert self._names is not None
        value = node.inputs[position]
        if value is None:
            return None
        if value in self.numbers:
            return self.numbers[value], self._each(value)
        if not is_constant(value) or value.const_value is None:
            return None
        rows = self.rows.get((node, position))
        array = None if rows is None else constant(value)
        if rows is None or array is None:
            return self._names.of_constant(value.const_value)
        parts = self._parts(array, rows.axis, rows.inner)
        if parts is None:
            return self._names.of_constant(value.const_value)
        return self._names.of_array(parts[:, :, 0])

    def _each(self, value: ir.Value | None) -> Hashable:
        """The sizes of one sample, and where it lies."""
        if value is None:
            return None
        lay, shape = self.lays.get(value), list(sizes(value))
        if lay is None:
            return tuple(shape)
        if lay.axis < 0:
            return math.prod(shape) // self.n, lay.inner
        shape[lay.axis] //= self.n
        return tuple(shape), lay.place


#: Ops whose result has the elements of their first input in the same order.
VIEWS = names("view")

#: Inputs, and attributes, that only say the sizes of the result, or are noted by the rule.
_OF_SIZES: dict[str, tuple[int | str, ...]] = {
    **dict.fromkeys(("Expand", "Tile", "Split", "AffineGrid", "CenterCropPad"), (1, "split")),
    **dict.fromkeys(("RandomNormal", "RandomUniform"), ("shape",)),
    **dict.fromkeys(("Conv", "ConvTranspose"), ("group",)),
    "Resize": (3,),
    "ScatterND": (1,),
}


def sizes(value: ir.Value) -> tuple[int, ...]:
    """The static shape of a value of a specialised graph."""
    assert value.shape is not None
    dims: Any = value.shape.dims  # all of them integers, where it is static
    return tuple(dims)


def _plain(attribute: ir.Attr) -> Hashable:
    value = attribute.value
    if isinstance(value, (int, float, str, bytes)):
        return value
    if isinstance(value, Sequence):
        return tuple(value)
    return value.numpy().tobytes() if isinstance(value, ir.TensorProtocol) else id(value)
