"""A size of images at which a graph's shapes can be bound, before any image is there.

A model is planned when it is loaded. Most run at 64 x 64; one with eight halvings does not, nor
one whose windows are 7 pixels wide, nor one that kept the size of its exporter's example. The graph
says what its sizes are divided into (`strides`); where that does not suffice, the node at which
binding fails says what it needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import onnx_ir as ir
from torch import Tensor

from fastgan.apply.binding import result_shape
from fastgan.apply.strides import Pair, stated, steps
from fastgan.errors import ArgumentError, FastganError, LimitError, UnsupportedError
from fastgan.model.signature import Signature, input_shapes
from fastgan.plan.specialise import MisfitError

#: Nearly every model that runs at several sizes runs at one of at least this many pixels.
LEAST = 64
_LARGER = (256, 512)
_MOST = 4096
#: Bindings tried, for a graph of few nodes; so many nodes are walked in all where it has many.
_TRIES, _FEWEST_TRIES, _NODES_WALKED = 160, 16, 60_000
#: What a size may have to be a multiple of, where shapes alone disagree.
_FACTORS = (2, 3, 5, 7)


def planned(model: ir.Model, signature: Signature) -> Signature:
    """The signature with example sizes that are multiples of what its operators divide sizes into.

    Nothing is bound, so this costs next to nothing.
    """
    names = _open_images(signature)
    if not names:
        return signature
    return with_example(signature, multiple_of(steps(model, names)[0]))


def legal(model: ir.Model, signature: Signature) -> Signature:
    """The signature with an example size at which the graph can be bound.

    Returns:
        `signature` itself where its own does, where none is found, or where the graph can't be
        bound for other reasons.
    """
    names = _open_images(signature)
    if not names:
        return signature
    try:
        found = _Search(model, signature, names).find()
    except (UnsupportedError, ArgumentError):
        return signature
    return signature if found is None else with_example(signature, found)


def multiple_of(divided: Pair, least: int = LEAST) -> Pair:
    """The smallest height and width of at least `least` that are multiples of these."""
    height, width = (-(-least // into) * into for into in divided)
    return height, width


def with_example(signature: Signature, size: Pair) -> Signature:
    """The signature with this height and width for images and masks that declare none."""
    if all(port.example == size for port in signature.inputs if port.kind in ("image", "mask")):
        return signature
    inputs = (
        replace(port, example=size) if port.kind in ("image", "mask") else port
        for port in signature.inputs
    )
    return replace(signature, inputs=tuple(inputs))


def _open_images(signature: Signature) -> list[str]:
    """The names of image and mask inputs; none where all their sizes are declared."""
    ports = [port for port in signature.inputs if port.kind in ("image", "mask")]
    is_open = any(not isinstance(size, int) for port in ports for size in port.shape[2:])
    return [port.name for port in ports] if is_open else []


class _Search:
    """Sizes tried one after another, each chosen by how the last one failed."""

    def __init__(self, model: ir.Model, signature: Signature, names: list[str]) -> None:
        self.model, self.signature = model, signature
        self.steps = steps(model, names)[1]
        image = next(port for port in signature.inputs if port.name in names)
        self.image = image.name
        self.declared = tuple(s if isinstance(s, int) else None for s in image.shape[2:4])
        nodes = list(model.graph.all_nodes())
        self.order = {node: index for index, node in enumerate(nodes)}
        self.left = max(_FEWEST_TRIES, min(_TRIES, _NODES_WALKED // max(1, len(nodes))))
        self.seen: set[Pair] = set()
        self.results: dict[Pair, tuple[int, ...]] = {}

    def find(self) -> Pair | None:
        first = next(p.example for p in self.signature.inputs if p.kind in ("image", "mask"))
        failure = self.failure(first)
        if failure is None:
            return first
        for least in (LEAST, 2 * LEAST):
            size = multiple_of(self.steps, least)
            if size == first:
                continue
            other = self.failure(size)
            if other is None:
                return size
            if _alike(failure, other):
                return None  # whatever does not fit there, it is not the size
        return (
            self.finer(first, failure)
            or self.any_of(multiple_of(self.steps, least) for least in _LARGER)
            or self.any_of(self.traced(first, failure))
            or self.any_of(self.shifted())
        )

    def failure(self, size: Pair) -> UnsupportedError | LimitError | None:
        """Why the graph can't be bound at a size; None where it can.

        Raises:
            UnsupportedError: for a reason that has nothing to do with sizes, or after many tries.
        """
        if self.left <= 0:
            raise UnsupportedError("the image's size", "none that fits", "a model that takes one")
        self.left -= 1
        self.seen.add(size)
        shapes = input_shapes(with_example(self.signature, size), 1)
        try:
            found = result_shape(self.model, shapes, self.signature.made.name)
        except (MisfitError, LimitError) as error:
            return error
        rows = shapes[self.image][0]
        if len(found) == 4 and found[0] != rows:  # one image was taken for several smaller ones
            return UnsupportedError("the result", f"{found[0]} images", f"{rows}")
        self.results[size] = found
        return None

    def any_of(self, sizes: Iterator[Pair]) -> Pair | None:
        """The first of these that fits, rather one whose result has the image's proportions.

        By its pixels alone, 24 x 96 fits wherever 48 x 48 does.
        """
        fits: Pair | None = None
        for height, width in sizes:
            size = self.declared[0] or height, self.declared[1] or width
            if size in self.seen or self.failure(size) is not None:
                continue
            result = self.results[size]
            if len(result) != 4 or result[2] * size[1] == result[3] * size[0]:
                return size
            fits = fits or size
        return fits

    def finer(self, size: Pair, failure: UnsupportedError | LimitError) -> Pair | None:
        """A multiple of more than is known, by what the failing node divides its input into.

        A multiple that takes the walk further is kept, and the next node asked.
        """
        divided = self.steps
        while isinstance(failure, MisfitError):
            reached = self.order.get(failure.node, 0)
            for factor in _factors(failure):
                more = divided[0] * factor, divided[1] * factor
                size = multiple_of(more)
                if max(size) > _MOST:
                    continue
                found = self.failure(size)
                if found is None:
                    return size
                if isinstance(found, MisfitError) and self.order.get(found.node, 0) > reached:
                    divided, failure = more, found
                    break
            else:
                return None
        return None

    def traced(self, size: Pair, failure: UnsupportedError | LimitError) -> Iterator[Pair]:
        """The sizes at which the constants of the failing node would fit: an exporter's example."""
        if not isinstance(failure, MisfitError):
            return
        shapes = [tuple(a.shape) for a in failure.arguments if isinstance(a, Tensor)]
        if failure.node.op_type == "Reshape":
            target = [n for n in failure.arguments[1] if n > 0]
            pixels = Fraction(math.prod(target), math.prod(shapes[0]) or 1)
            yield from self.of_area(pixels * size[0] * size[1])
            return
        ratios = [
            (Fraction(b, a), Fraction(a, b))
            for a, b in zip(reversed(shapes[0]), reversed(shapes[-1]), strict=False)
            if a != b and a > 0 < b
        ]
        if len(ratios) == 2:  # width first
            for width, height in zip(*ratios, strict=True):
                yield from _whole(size[0] * height, size[1] * width)
        for both in ratios:
            for ratio in both:
                yield from _whole(size[0] * ratio, size[1] * ratio)
                yield from self.of_area(ratio * size[0] * size[1])
                yield from _whole(size[0] * ratio, Fraction(size[1]))
                yield from _whole(Fraction(size[0]), size[1] * ratio)

    def of_area(self, area: Fraction) -> Iterator[Pair]:
        """Sizes of so many pixels: square, or as sizes that the graph's Reshapes state."""
        proportions = {Fraction(1): None}
        for node in self.model.graph:
            if node.op_type == "Reshape":
                sizes = [n for n in stated(node, 1) if n > 0]
                for first, middle, last in combinations(range(len(sizes) + 1), 3):
                    rows, columns = math.prod(sizes[first:middle]), math.prod(sizes[middle:last])
                    proportions[Fraction(rows, columns)] = None
        for proportion in proportions:
            height, width = area * proportion, area / proportion
            if height.denominator == width.denominator == 1:
                sides = math.isqrt(int(height)), math.isqrt(int(width))
                if sides[0] ** 2 == height and sides[1] ** 2 == width:
                    yield from _whole(Fraction(sides[0]), Fraction(sides[1]))

    def shifted(self) -> Iterator[Pair]:
        """Sizes that are no multiples: convolutions without padding between halvings."""
        most = max(self.steps)
        for least in (LEAST, *_LARGER) if most <= LEAST else ():
            height, width = multiple_of(self.steps, least)
            for more in range(1, most):
                yield height + more, width + more


def _alike(one: FastganError, two: FastganError) -> bool:
    """Whether two sizes failed at one node, for the same shapes."""
    return (one.where, one.found) == (two.where, two.found)


def _factors(failure: MisfitError) -> list[int]:
    """What sizes may lack for the failing node, the least first."""
    if failure.node.op_type != "Reshape":
        return list(_FACTORS)
    parts = [n for n in stated(failure.node, 1) if n > 1] or [
        n for n in failure.arguments[1] if n > 1
    ]
    sizes = failure.arguments[0].shape
    return sorted({part // math.gcd(size, part) for part in parts for size in sizes} - {1})


def _whole(height: Fraction, width: Fraction) -> Iterator[Pair]:
    whole = height.denominator == width.denominator == 1
    if whole and min(height, width) > 0 and max(height, width) <= _MOST:
        yield int(height), int(width)
