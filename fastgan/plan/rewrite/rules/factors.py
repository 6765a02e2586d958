"""A tensor as a product of factors that each know which of its axes they vary along.

StyleGAN's weights of a sample, weight[o, i, k] * style[n, i] * demodulation[n, o], reach their
convolution through Mul, Reshape, Transpose and Expand, in an order that differs from one
implementation to the next. Followed backwards with every axis under a label of its own, all of them
are the same three factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.ops.registry import names
from fastgan.plan.rewrite.rules import helpers as nodes

#: A label of an axis: a number that stands for it wherever it goes.
Label = int

#: Nodes that are looked at for one product: a bound for graphs in which values meet again and
#: again. An exporter writes about fifteen.
_MOST_NODES = 100

_VIEWS = names("view")


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor: a value, and the label of each of its axes; None for an axis of length 1.

    Attributes:
        inverse: whether the product is divided by it.
    """

    value: ir.Value
    axes: tuple[Label | None, ...]
    inverse: bool = False

    @property
    def labels(self) -> frozenset[Label]:
        """The labels that it varies along."""
        return frozenset(label for label in self.axes if label is not None)

    @property
    def constant(self) -> np.ndarray[Any, Any] | None:
        """Its data, where they are known."""
        return nodes.constant(self.value)


@dataclass(frozen=True, slots=True)
class Product:
    """A product of factors: each axis of the tensor is a run of labels, the last one fastest."""

    axes: tuple[tuple[Label, ...], ...]
    factors: tuple[Factor, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        """All labels, in the order in which the tensor has them."""
        return tuple(label for axis in self.axes for label in axis)


class Labels:
    """The labels of one analysis, each with the length of its axis."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._visited = 0

    def size(self, labels: Iterable[Label]) -> int:
        """How many elements an array with these axes has."""
        return prod(self._sizes[label] for label in labels)

    def product_of(self, value: ir.Value) -> Product:
        """The factors of a value; itself alone where nothing more is known."""
        self._visited += 1
        node = value.producer()
        known = node is not None and not node.domain and self._visited < _MOST_NODES
        # What has fewer axes than a weight is a factor as it is, whatever made it.
        if node is None or not known or len(nodes.shape(value)) < 3:
            return self._leaf(value)
        found = self._through(node, value)
        return self._leaf(value) if found is None else found

    def split(self, axis: Sequence[Label], size: int) -> tuple[tuple[Label, ...], ...] | None:
        """An axis as one of `size`, and the rest; None where no labels come to that."""
        for count in range(len(axis) + 1):
            if self.size(axis[:count]) == size:
                return tuple(axis[:count]), tuple(axis[count:])
        return None

    def _through(self, node: ir.Node, value: ir.Value) -> Product | None:
        """The factors of what a node makes of factors; None for another kind of node."""
        first = node.inputs[0] if node.inputs else None
        if first is None:
            return None
        if node.op_type in ("Mul", "Div"):
            second = node.inputs[1]
            assert second is not None
            inverse = node.op_type == "Div"
            left, right = self.product_of(first), self.product_of(second)
            return self._joined(left, right, inverse, len(nodes.shape(value)))
        if node.op_type == "Reciprocal":
            inner = self.product_of(first)
            return replace(inner, factors=tuple(_inverted(f) for f in inner.factors))
        if node.op_type == "Pow":
            power = nodes.constant(node.inputs[1])
            if power is None or power.size != 1 or power.reshape(-1)[0] != 2:
                return None
            inner = self.product_of(first)
            return replace(inner, factors=inner.factors * 2)
        if node.op_type in _VIEWS:
            return self._regrouped(self.product_of(first), nodes.shape(value))
        if node.op_type == "Transpose":
            inner = self.product_of(first)
            perm = nodes.attributes(node).get("perm") or range(len(inner.axes))[::-1]
            return replace(inner, axes=tuple(inner.axes[axis] for axis in perm))
        if node.op_type == "Expand":
            return self._expanded(self.product_of(first), nodes.shape(value))
        return None

    def _leaf(self, value: ir.Value) -> Product:
        axes = tuple(self._new(size) for size in nodes.shape(value))
        flat = tuple(axis[0] if axis else None for axis in axes)
        return Product(axes, (Factor(value, flat),))

    def _new(self, size: int) -> tuple[Label, ...]:
        """The labels of a new axis: none for one of length 1."""
        if size == 1:
            return ()
        self._sizes.append(size)
        return (len(self._sizes) - 1,)

    def _joined(self, left: Product, right: Product, inverse: bool, rank: int) -> Product | None:
        """left * right, or left / right, broadcast against each other as NumPy does."""
        names: dict[Label, Label] = {}
        axes = []
        padded = [((),) * (rank - len(p.axes)) + p.axes for p in (left, right)]
        for ours, theirs in zip(*padded, strict=True):
            axes.append(ours or theirs)
            if not ours or not theirs:
                continue
            sizes = [[self.size([label]) for label in axis] for axis in (ours, theirs)]
            if sizes[0] != sizes[1]:
                return None
            names |= dict(zip(theirs, ours, strict=True))
        renamed = [
            replace(f, axes=tuple(None if a is None else names.get(a, a) for a in f.axes))
            for f in right.factors
        ]
        others = [_inverted(f) for f in renamed] if inverse else renamed
        return Product(tuple(axes), (*left.factors, *others))

    def _regrouped(self, inner: Product, shape: tuple[int, ...]) -> Product | None:
        """A view of another shape; None where it would cut an axis in pieces."""
        left, axes = inner.labels, []
        for size in shape:
            parts = self.split(left, size)
            if parts is None:
                return None
            axes.append(parts[0])
            left = parts[1]
        return replace(inner, axes=tuple(axes))

    def _expanded(self, inner: Product, shape: tuple[int, ...]) -> Product:
        old = ((),) * (len(shape) - len(inner.axes)) + inner.axes
        axes = tuple(axis or self._new(size) for axis, size in zip(old, shape, strict=True))
        return replace(inner, axes=axes)

    # What a rewrite makes of factors ------------------------------------------------------------

    def constant_of(
        self, factors: Iterable[Factor], order: Sequence[Label]
    ) -> np.ndarray[Any, Any]:
        """The product of constant factors as one float64 array, its axes in this order.

        An axis that none of them varies along has length 1.
        """
        total = np.ones((1,) * len(order))
        for factor in factors:
            array = np.asarray(factor.constant, np.float64)
            axes = [i for i, label in enumerate(factor.axes) if label is not None]
            axes.sort(key=lambda i: order.index(factor.axes[i]))
            ones = [i for i, label in enumerate(factor.axes) if label is None]
            sizes = [self.size([label]) if label in factor.labels else 1 for label in order]
            array = array.transpose([*ones, *axes]).reshape(sizes)
            total = total / array if factor.inverse else total * array
        return total

    def emit(
        self, op: Any, factors: Sequence[Factor], order: Sequence[Label], shape: Sequence[int]
    ) -> ir.Value:
        """New nodes for the product of these factors as a tensor of `shape`.

        Args:
            op: the builder of a rewrite.
            factors: one at least, with no labels but those in `order`.
            order: labels in the order in which the tensor has them.
            shape: that of the tensor; an axis whose labels no factor has may be 1 in the result.
        """
        parts = [self._emit(op, factor, order, shape) for factor in factors]
        result = parts[0]
        for part in parts[1:]:
            sizes = np.broadcast_shapes(nodes.shape(result), nodes.shape(part))
            result = nodes.shaped(op.Mul(result, part), sizes, result.type)
        return result

    def _emit(
        self, op: Any, factor: Factor, order: Sequence[Label], shape: Sequence[int]
    ) -> ir.Value:
        value = factor.value
        labelled = [i for i, label in enumerate(factor.axes) if label is not None]
        sorted_axes = sorted(labelled, key=lambda i: order.index(factor.axes[i]))
        if sorted_axes != labelled:
            perm = [*(i for i in range(len(factor.axes)) if i not in labelled), *sorted_axes]
            sizes = [nodes.shape(value)[i] for i in perm]
            value = nodes.shaped(op.Transpose(value, perm=perm), sizes, value.type)
        left, sizes = list(order), []
        for size in shape:
            parts = self.split(left, size)
            assert parts is not None
            present = [label for label in parts[0] if label in factor.labels]
            assert not present or len(present) == len(parts[0])
            sizes.append(size if present else 1)
            left = list(parts[1])
        if list(nodes.shape(value)) != sizes:
            value = nodes.reshaped(op, value, sizes)
        if factor.inverse:
            value = nodes.shaped(op.Reciprocal(value), sizes, value.type)
        return value


def _inverted(factor: Factor) -> Factor:
    return replace(factor, inverse=not factor.inverse)
