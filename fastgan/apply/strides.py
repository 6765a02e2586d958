"""Into how many steps a graph divides the height and the width of its images.

A size that is a multiple of all of them never leaves half a step over. They are read from the
strides of convolutions and pools, the factors of Resize, SpaceToDepth and Slice, divisions in
shape chains (`height // 8`) and Reshapes into windows. What is found may be larger than a model
needs, or, behind Reshapes of an unusual kind, smaller: binding shapes decides (`fitting`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise

import onnx_ir as ir

#: For height and width.
Pair = tuple[int, int]
#: Pixels of a value for each of the image, in height and width.
_Density = tuple[Fraction, Fraction]

#: A size that is taken for the number of steps; beyond it, divisions are not image sizes.
_MOST = 1024
_LARGEST_WINDOW = 128
_STRIDED = frozenset(
    ("Conv", "MaxPool", "AveragePool", "LpPool", "ConvInteger", "QLinearConv", "FusedConv")
)
_ONE = Fraction(1)


def steps(model: ir.Model, images: Iterable[str]) -> tuple[Pair, Pair]:
    """What heights and widths are divided into.

    Args:
        images: the names of the inputs that are images or masks.

    Returns:
        Two pairs: by operators on images alone; and by shape chains and windows too. The second is
        a multiple of the first.
    """
    walk = _Walk()
    names = set(images)
    for value in model.graph.inputs:
        if value.name in names:
            walk.images[value] = (_ONE, _ONE)
    for node in model.graph:
        walk.visit(node)
    sure, likely = walk.sure, walk.likely
    return (sure[0], sure[1]), (likely[0], likely[1])


class _Walk:
    """Follows how densely each value samples the image, and each shape what it is the shape of."""

    def __init__(self) -> None:
        self.images: dict[ir.Value, _Density] = {}
        self.shapes: dict[ir.Value, _Density] = {}
        self.sure, self.likely = [1, 1], [1, 1]

    def visit(self, node: ir.Node) -> None:
        image = next((self.images[v] for v in node.inputs if v in self.images), None)
        shape = next((self.shapes[v] for v in node.inputs if v in self.shapes), None)
        if image is not None and node.op_type in ("Shape", "Size"):
            found, kept = image, self.shapes
        elif image is not None:
            found, kept = self._of_image(node, image, shape), self.images
            self._divide(found, self.sure)
        elif shape is not None:
            found, kept = self._of_shape(node, shape), self.shapes
        else:
            return
        self._divide(found, self.likely)
        kept.update(dict.fromkeys(node.outputs, found))

    def _divide(self, density: _Density, into: list[int]) -> None:
        for axis in (0, 1):
            found = math.lcm(into[axis], density[axis].denominator)
            if found <= _MOST:
                into[axis] = found

    def _of_image(self, node: ir.Node, image: _Density, shape: _Density | None) -> _Density:
        name = node.op_type
        if name in _STRIDED:
            vertical, horizontal = _last_two(node.attributes.get_ints("strides", ()))
            return image[0] / vertical, image[1] / horizontal
        if name == "ConvTranspose":
            vertical, horizontal = _last_two(node.attributes.get_ints("strides", ()))
            return image[0] * vertical, image[1] * horizontal
        if name in ("SpaceToDepth", "DepthToSpace"):
            block = max(1, node.attributes.get_int("blocksize", 1) or 1)
            factor = Fraction(block) if name == "DepthToSpace" else Fraction(1, block)
            return image[0] * factor, image[1] * factor
        if name in ("Resize", "Upsample"):
            if shape is not None:
                return shape
            scales = _scales(node)
            return image[0] * scales[0], image[1] * scales[1]
        if name == "Slice":
            skips = [abs(step) for step in _numbers(node, 4) if step and abs(step) > 1]
            return (image[0] / skips[0], image[1] / skips[-1]) if skips else image
        if name == "Reshape":
            for window in _windows(_numbers(node, 1)):
                self._divide((image[0] / window, image[1] / window), self.likely)
        return image

    def _of_shape(self, node: ir.Node, shape: _Density) -> _Density:
        """A division or a product by a constant; anything else keeps what it is the shape of."""
        numbers = [n for n in _numbers(node, 1) if n]
        if node.op_type not in ("Div", "Mul", "Mod") or len(numbers) != 1 or numbers[0] <= 0:
            return shape
        number = numbers[0]
        if node.op_type == "Mul":
            return shape[0] * number, shape[1] * number
        if number.denominator == 1 and number > _LARGEST_WINDOW:
            return shape
        divided = shape[0] / number, shape[1] / number
        if node.op_type == "Div":
            return divided
        self._divide(divided, self.likely)
        return shape


def _last_two(numbers: Iterable[int]) -> Pair:
    found = [max(1, number) for number in numbers][-2:]
    return (found[0], found[1]) if len(found) == 2 else (1, 1)


def _scales(node: ir.Node) -> _Density:
    """The factors of a Resize or an Upsample; 1 where they are not stated."""
    at = 1 if node.op_type == "Upsample" or len(node.inputs) == 2 else 2
    stated = _numbers(node, at) or [
        Fraction(scale).limit_denominator(64)
        for scale in node.attributes.get_floats("scales", ()) or ()
    ]
    if len(stated) != 4:
        return (_ONE, _ONE) if len(stated) != 2 else (stated[0] or _ONE, stated[1] or _ONE)
    last = stated[1:3] if stated[3] == 1 and stated[1] != 1 else stated[2:]  # channels last
    return last[0] or _ONE, last[1] or _ONE


def _windows(target: list[Fraction | None]) -> list[int]:
    """The sizes of windows that the shape of a Reshape splits axes into.

    Those are stated for both axes, or alone beside an axis that takes what is left:
    [n, h / 8, 8, w / 8, 8, c], [0, 0, -1, 8, 0].
    """
    given = [size if size is not None and size > 0 else None for size in target]
    found = {
        a
        for a, between, b in zip(given, given[1:], given[2:], strict=False)
        if a == b and between is None
    }
    if len(given) > 4 and len([size for size in given if size]) == 1:
        found |= {size for before, size in pairwise(given) if before is None}
    return [int(size) for size in found if size is not None and 2 <= size <= _LARGEST_WINDOW]


def stated(node: ir.Node, index: int) -> list[int]:
    """The whole numbers that a node's input states, also beside some that are computed."""
    return [int(number) for number in _numbers(node, index) if number is not None]


def _numbers(node: ir.Node, index: int) -> list[Fraction | None]:
    """The numbers of a small constant; None for each that is computed. [] for anything else."""
    value = node.inputs[index] if index < len(node.inputs) else None
    return [] if value is None else _elements(value)


def _elements(value: ir.Value, depth: int = 4) -> list[Fraction | None]:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        if tensor.size > 8 or tensor.dtype == ir.DataType.STRING:
            return []
        numbers = (float(number) for number in tensor.numpy().reshape(-1))
        return [
            Fraction(n).limit_denominator(64) if math.isfinite(n) and abs(n) < 1 << 40 else None
            for n in numbers
        ]
    node = value.producer()
    if node is None or depth == 0:
        return [None]
    if node.op_type == "Concat":
        return [n for v in node.inputs if v is not None for n in _elements(v, depth - 1)]
    if node.op_type in ("Cast", "Unsqueeze", "Identity") and node.inputs[0] is not None:
        return _elements(node.inputs[0], depth - 1)
    return [None]
