"""Weights that are read, or computed of others, when somebody needs their numbers.

What only asks for shape and type, as planning mostly does, costs no memory. And two plans of one
model, each of which makes its own tensors, can tell that they need the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]

#: The types that late tensors are of.
LATE = frozenset((ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE))

#: Smaller tensors, in bytes, are in memory from the start.
LEAST = 1 << 16


class Late(ir.LazyTensor):
    """A tensor whose numbers are made anew, in memory of their own, whenever they are asked for.

    Args:
        read: makes the numbers, of this type and shape; the array is the caller's.
        dtype, shape: of them.
        identity: equal for equal numbers of the same model, whoever made the tensor.
        name: what it is called.
        holder: gives what `read` reads from, which has to stay meanwhile. The tensor, and a graph
            that it is in, does not hold that by itself; the model and its plans do. None: itself.
    """

    def __init__(
        self,
        read: Callable[[], Array],
        dtype: ir.DataType,
        shape: Sequence[int],
        identity: Hashable,
        name: str | None = None,
        holder: Callable[[], Any] | None = None,
    ) -> None:
        def make() -> ir.TensorProtocol:
            return ir.Tensor(read(), dtype=dtype, name=name)

        super().__init__(make, dtype=dtype, shape=ir.Shape(shape), cache=False, name=name)
        self.identity, self.holder = identity, holder or (lambda: None)


def computed(
    source: ir.TensorProtocol,
    what: str,
    function: Callable[[Array, Array | None], Array],
    by: Sequence[Array | float | int | tuple[int, ...]] = (),
    shape: Sequence[int] | None = None,
) -> ir.TensorProtocol:
    """A tensor computed of another one: late where that is.

    Args:
        source: what it is computed of.
        what: names the computation.
        function: makes an array, of the same type, of the source's; the second argument is where
            it may put it, if it is of the same shape: the source's own memory where nobody else
            has that, so that a large weight is not held twice.
        by: the numbers that `function` computes with.
        shape: of the result, if it is another one.
    """
    if not isinstance(source, Late):
        return ir.tensor(np.ascontiguousarray(function(source.numpy(), None)))
    numbers = tuple(n.tobytes() if isinstance(n, np.ndarray) else n for n in by)
    sizes = tuple(source.shape.numpy() if shape is None else shape)
    read: Callable[[], Array] = source.numpy

    def make() -> Array:
        array = read()
        return np.ascontiguousarray(function(array, array))

    identity = (what, source.identity, sizes, *numbers)
    return Late(make, source.dtype, sizes, identity, holder=source.holder)


def scaled(source: ir.TensorProtocol, factor: Array) -> ir.TensorProtocol:
    """A tensor times a factor that broadcasts to it, multiplied in double precision."""

    def multiply(array: Array, out: Array | None) -> Array:
        out = np.empty_like(array) if out is None else out
        return np.multiply(array, factor, out=out, dtype=np.float64, casting="unsafe")

    return computed(source, "scaled", multiply, (factor.shape, factor))
