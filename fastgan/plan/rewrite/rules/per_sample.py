"""Weights of each sample's own -> one weight for all, between scales of the channels.

StyleGAN2 (Karras et al., 2020, section 2.2) gives every sample n the weights

    weight[o, i, k] * style[n, i] * demodulation[n, o]

and implementations run them as one convolution with the batch as its groups, on images that lie
side by side as channels. A convolution is linear, so the same is, with one weight for all samples:

    demodulation[n, o] * convolution(style[n, i] * x[n, i], weight)

which neither makes n weights nor needs the batch to be a number of the graph. The demodulation,
1 / sqrt(sum over i and k of (weight * style)^2), is in the same way a product of two matrices:
style^2 [n, i] by (sum over k of weight^2) [i, o].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.factors import Factor, Label, Labels
from fastgan.plan.rewrite.rules.rule import OfAny

Run = tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class _Weights:
    """The weights of all samples, taken apart.

    Attributes:
        labels: with the lengths of all axes.
        samples, before, after, kernel: the labels of the samples, the input's and the output's
            channels, and the taps.
        shared: constant factors, none of them the samples' own.
        style: factors of samples and input channels.
        gain: factors of samples and output channels.
    """

    labels: Labels
    samples: Run
    before: Run
    after: Run
    kernel: Run
    shared: tuple[Factor, ...]
    style: tuple[Factor, ...]
    gain: tuple[Factor, ...]


def _take_apart(node: ir.Node) -> _Weights | str:
    """The factors of a convolution's weights, or why they are none that can be shared."""
    x, weight = node.inputs[0], node.inputs[1]
    assert x is not None
    assert weight is not None
    group = int(nodes.attributes(node).get("group", 1))
    labels = Labels()
    product = labels.product_of(weight)
    parts = labels.split(product.axes[0], group)
    if parts is None:
        return "the groups are no samples"
    samples, first = parts
    second = product.axes[1]
    before, after = (second, first) if node.op_type == "Conv" else (first, second)
    kernel = tuple(label for axis in product.axes[2:] for label in axis)
    shared: list[Factor] = []
    style: list[Factor] = []
    gain: list[Factor] = []
    for factor in product.factors:
        array = factor.constant
        if array is not None:
            repeated = factor.labels & set(samples)
            if repeated and not _repeats(array, [factor.axes.index(label) for label in repeated]):
                return "constant weights differ from sample to sample"
            shared.append(_of_first(factor, repeated) if repeated else factor)
        elif factor.labels <= {*samples, *before}:
            style.append(factor)
        elif factor.labels <= {*samples, *after}:
            gain.append(factor)
        else:
            return "the weights are no product of a constant and scales of the channels"
    if not style and not gain:
        return "no factor depends on data"
    if not all(_whole(factor, (samples, before, after)) for factor in (*style, *gain)):
        return "a scale is of some of the channels or samples"
    return _Weights(
        labels, samples, before, after, kernel, tuple(shared), tuple(style), tuple(gain)
    )


def _whole(factor: Factor, runs: Iterable[Run]) -> bool:
    """Whether a factor varies along all labels of a run, or along none."""
    return all(factor.labels.issuperset(run) or factor.labels.isdisjoint(run) for run in runs)


def _repeats(array: np.ndarray[Any, Any], axes: list[int]) -> bool:
    """Whether the array says the same all along these axes."""
    first = array[tuple(slice(0, 1) if i in axes else slice(None) for i in range(array.ndim))]
    return bool((array == first).all())


def _of_first(factor: Factor, repeated: frozenset[Label]) -> Factor:
    """A constant factor without the axes along which it repeats."""
    array = factor.constant
    assert array is not None
    keep = tuple(0 if label in repeated else slice(None) for label in factor.axes)
    axes = tuple(label for label in factor.axes if label not in repeated)
    name = f"{factor.value.name}.shared"
    return Factor(ir.Value(name=name, const_value=ir.tensor(array[keep])), axes, factor.inverse)


class ShareWeight(OfAny):
    """Conv with weights of each sample's own -> Mul, Conv with one weight, Mul."""

    def refuses(self, x: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(out)
        if nodes.is_constant(node.inputs[1]):
            return "the weight is constant"
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            return "it has a bias, which no scale of the weights scales"
        if nodes.shape(x)[0] != 1:
            return "the samples do not lie side by side as channels"
        found = _take_apart(node)
        return found if isinstance(found, str) else None

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(out)
        found = _take_apart(node)
        assert isinstance(found, _Weights)
        size = found.labels.size
        samples, before, after = (size(r) for r in (found.samples, found.before, found.after))
        spatial = nodes.shape(x)[2:]
        ones = [1] * len(spatial)

        # x [1, N * I, *size] -> [N, I, *size], scaled
        images = nodes.reshaped(op, x, [samples, before, *spatial])
        if found.style:
            order = (*found.samples, *found.before)
            scale = found.labels.emit(op, found.style, order, [samples, before, *ones])
            images = nodes.shaped(op.Mul(images, scale), nodes.shape(images), x.type)

        # [O, I, *kernel], or [I, O, *kernel] of a transposed convolution
        kernel = nodes.shape(_weight(node))[2:]
        channels = (found.after, found.before)
        if node.op_type == "ConvTranspose":
            channels = (found.before, found.after)
        order = (*channels[0], *channels[1], *found.kernel)
        array = found.labels.constant_of(found.shared, order)
        array = np.broadcast_to(array, [size([label]) for label in order])
        array = array.reshape(size(channels[0]), size(channels[1]), *kernel)
        weight = ir.tensor(array.astype(_dtype(x)), name=f"{out.name}.weight")
        changes = {**node.attributes, "group": ir.AttrInt64("group", 1)}
        y = getattr(op, node.op_type)(images, op.initializer(weight), **changes)
        y = nodes.shaped(y, [samples, after, *nodes.shape(out)[2:]], x.type)
        nodes.producer(y).name = node.name

        if found.gain:
            order = (*found.samples, *found.after)
            scale = found.labels.emit(op, found.gain, order, [samples, after, *ones])
            y = nodes.shaped(op.Mul(y, scale), nodes.shape(y), x.type)
        flat = ir.tensor(np.array(nodes.shape(out), np.int64), name=f"{out.name}.shape")
        return op.Reshape(y, op.initializer(flat))


class SumOfSquares(OfAny):
    """ReduceSum of a constant times scales of fewer axes -> MatMul of the two.

    Worth it only where the product is larger than the scales: a norm of data stays what it is.
    """

    def refuses(self, x: ir.Value, out: ir.Value) -> str | None:
        found = self._sum(nodes.producer(out))
        return found if isinstance(found, str) else None

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value) -> Any:
        found = self._sum(nodes.producer(out))
        assert isinstance(found, _Sum)
        labels = found.labels
        sizes = [labels.size(run) for run in (found.kept, found.summed, found.after)]
        rows = labels.emit(op, found.scales, (*found.kept, *found.summed), sizes[:2])
        if found.squared:
            rows = nodes.shaped(op.Mul(rows, rows), nodes.shape(rows), x.type)
        matrix = ir.tensor(found.matrix.astype(_dtype(x)), name=f"{out.name}.matrix")
        y = op.MatMul(rows, op.initializer(matrix))
        y = nodes.shaped(y, [sizes[0], sizes[2]], x.type)
        shape = ir.tensor(np.array(nodes.shape(out), np.int64), name=f"{out.name}.shape")
        y = op.Reshape(y, op.initializer(shape))
        if self.of != "ReduceL2":
            return y
        return op.Sqrt(nodes.shaped(y, nodes.shape(out), x.type))

    def _sum(self, node: ir.Node) -> _Sum | str:
        x, axes = node.inputs[0], nodes.reduced_axes(node)
        assert x is not None
        if axes is None or len(nodes.shape(x)) < 3:
            return "the axes depend on data, or it sums no weights"
        labels = Labels()
        product = labels.product_of(x)
        factors = product.factors * (1 if self.of == "ReduceSum" else 2)
        shared = [f for f in factors if f.constant is not None]
        scales = [f for f in factors if f.constant is None]
        of_scales = frozenset(label for f in scales for label in f.labels)
        of_shared = frozenset(label for f in shared for label in f.labels)
        reduced = {label for axis in axes for label in product.axes[axis]}
        order = product.labels
        kept = tuple(label for label in order if label in of_scales - reduced)
        summed = tuple(label for label in order if label in of_scales & reduced)
        alone = tuple(label for label in order if label in reduced - of_scales)
        after = tuple(label for label in order if label not in reduced | of_scales)
        if not scales or not summed or not (alone or after):
            return "nothing constant is summed"
        if not all(_whole(factor, (kept, summed)) for factor in scales):
            return "a scale is of some of the channels or samples"
        if of_shared & set(kept):
            return "constants differ from sample to sample"
        if [label for label in order if label not in reduced] != [*kept, *after]:
            return "the result is not rows by columns"
        array = labels.constant_of(shared, (*summed, *after, *alone))
        sizes = [labels.size([label]) for label in (*summed, *after, *alone)]
        full = np.broadcast_to(array, sizes).reshape(
            labels.size(summed), labels.size(after), labels.size(alone)
        )
        # Every scale twice is the square of the product of each once.
        half = scales[: len(scales) // 2]
        squared = len(scales) % 2 == 0 and _same(half, scales[len(scales) // 2 :])
        chosen = tuple(half if squared else scales)
        return _Sum(labels, kept, summed, after, full.sum(-1), chosen, squared)


@dataclass(frozen=True, slots=True)
class _Sum:
    """scales [kept, summed], squared or not, by matrix [summed, after]."""

    labels: Labels
    kept: Run
    summed: Run
    after: Run
    matrix: np.ndarray[Any, Any]
    scales: tuple[Factor, ...]
    squared: bool


def _same(left: Iterable[Factor], right: Iterable[Factor]) -> bool:
    return [(f.value, f.axes, f.inverse) for f in left] == [
        (f.value, f.axes, f.inverse) for f in right
    ]


def _weight(node: ir.Node) -> ir.Value:
    weight = node.inputs[1]
    assert weight is not None
    return weight


def _dtype(value: ir.Value) -> Any:
    assert value.dtype is not None
    return value.dtype.numpy()


RULES = (
    *(ShareWeight.rule(operator) for operator in ("Conv", "ConvTranspose")),
    *(SumOfSquares.rule(o) for o in ("ReduceSum", "ReduceSumSquare", "ReduceL2")),
)
