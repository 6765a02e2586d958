"""Random small graphs whose samples stay apart, meet, or are traced at one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.unit.models import graph_model, value

#: Of a traced graph.
BATCH = 2


@dataclass(frozen=True)
class Dim:
    """A size: `count`, times the batch where `open`."""

    count: int
    open: bool = False

    def at(self, batch: int) -> int:
        return self.count * (batch if self.open else 1)


@dataclass
class Tensor:
    name: str
    dims: list[Dim]

    @property
    def rank(self) -> int:
        return len(self.dims)

    @property
    def sizes(self) -> list[int]:
        """Of the traced batch."""
        return [dim.at(BATCH) for dim in self.dims]


@dataclass
class Maker:
    """Builds one graph from a seed.

    Attributes:
        traced: whether anything in it holds the batch of the trace.
    """

    seed: int
    tracing: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    traced: bool = False

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = array
        return name

    def floats(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape).astype(np.float32))

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def add(self, op: str, inputs: list[str], dims: list[Dim], outputs: int = 1, **given) -> Tensor:
        names = [f"v{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **given))
        return Tensor(names[int(self.rng.integers(outputs))], dims)

    def axis(self, x: Tensor, closed: float = 0.85) -> int:
        """One of its axes, and more likely one that does not grow with the batch."""
        still = [i for i, dim in enumerate(x.dims) if not dim.open]
        return self.pick(still if still and self.chance(closed) else range(x.rank))

    # Ops ------------------------------------------------------------------------------------------

    def unary(self, x: Tensor) -> Tensor:
        return self.add(self.pick(("Relu", "Tanh", "Sin", "Shrink", "Celu")), [x.name], x.dims)

    def binary(self, x: Tensor, others: list[Tensor]) -> Tensor:
        same = [y for y in others if y.dims == x.dims]
        if same and self.chance(0.6):
            op, y = self.pick(("Add", "Mul", "Max")), self.pick(same)
            return self.add(op, [x.name, y.name], x.dims)
        sizes = [1 if dim.open or self.chance(0.5) else dim.count for dim in x.dims]
        if self.tracing and self.chance(0.3):
            sizes, self.traced = x.sizes, True
        return self.add(self.pick(("Add", "Mul")), [x.name, self.floats(*sizes)], x.dims)

    def by_batch(self, x: Tensor) -> Tensor:
        size = self.add("Shape", ["x"], [Dim(4)])
        first = self.add("Gather", [size.name, self.ints(0)], [Dim(1)])
        number = self.add("Cast", [first.name], [Dim(1)], to=onnx.TensorProto.FLOAT)
        return self.add("Div", [x.name, number.name], x.dims)

    def reshape(self, x: Tensor) -> Tensor:
        """Two axes merged, or one split."""
        dims, at = list(x.dims), int(self.rng.integers(x.rank))
        if x.rank > 1 and self.chance(0.5) and at + 1 < x.rank:
            a, b = dims[at : at + 2]
            if a.open and b.open:
                return x
            dims[at : at + 2] = [Dim(a.count * b.count, a.open or b.open)]
        else:
            dim = dims[at]
            parts = [p for p in range(1, dim.count + 1) if dim.count % p == 0]
            part = self.pick(parts)
            halves = [Dim(dim.count // part, dim.open), Dim(part)]
            dims[at : at + 1] = halves if self.chance(0.7) else halves[::-1]
        target = [dim.at(BATCH) for dim in dims]
        opens = [i for i, dim in enumerate(dims) if dim.open]
        if self.tracing and self.chance(0.5):
            if self.chance(0.6):
                target[int(self.rng.integers(len(target)))] = -1
            if any(target[i] != -1 for i in opens):
                self.traced = True
        elif len(opens) > 1:
            return x
        else:
            for i in opens:
                target[i] = -1
        if target[0] == 1 and any(dim.open for dim in dims[1:]):
            self.traced = True  # as a trace at a batch of one would write it
        return self.add("Reshape", [x.name, self.ints(*target)], dims)

    def transpose(self, x: Tensor) -> Tensor:
        perm = [int(i) for i in self.rng.permutation(x.rank)]
        return self.add("Transpose", [x.name], [x.dims[i] for i in perm], perm=perm)

    def unsqueeze(self, x: Tensor) -> Tensor:
        axis = int(self.rng.integers(x.rank + 1))
        dims = [*x.dims[:axis], Dim(1), *x.dims[axis:]]
        return self.add("Unsqueeze", [x.name, self.ints(axis)], dims)

    def squeeze(self, x: Tensor) -> Tensor:
        ones = [i for i, dim in enumerate(x.dims) if dim == Dim(1)]
        if not ones or x.rank < 3:
            return x
        axis = self.pick(ones)
        return self.add("Squeeze", [x.name, self.ints(axis)], [*x.dims[:axis], *x.dims[axis + 1 :]])

    def concat(self, x: Tensor, others: list[Tensor]) -> Tensor:
        axis = self.axis(x, 0.7)
        y = self.pick([y for y in (x, *others) if y.dims == x.dims])
        dims = list(x.dims)
        dims[axis] = Dim(2 * dims[axis].count, dims[axis].open)
        return self.add("Concat", [x.name, y.name], dims, axis=axis)

    def cut(self, x: Tensor) -> Tensor:
        axis = self.axis(x, 0.95)
        dim = x.dims[axis]
        if dim.open or dim.count < 2:
            start, end, dims = 0, self.pick((2**31 - 1, 3)), list(x.dims)
            if dim.open and end == 3:
                return x
        else:
            start = int(self.rng.integers(dim.count))
            end = int(self.rng.integers(start + 1, dim.count + 1))
            dims = [*x.dims[:axis], Dim(end - start), *x.dims[axis + 1 :]]
        given = [self.ints(start), self.ints(end), self.ints(axis)]
        return self.add("Slice", [x.name, *given], dims)

    def gather(self, x: Tensor) -> Tensor:
        axis = self.axis(x, 0.95)
        if x.dims[axis].open:
            return x
        picks = self.rng.integers(0, x.dims[axis].count, int(self.rng.integers(1, 4)))
        if x.rank > 2 and self.chance(0.5):
            dims = [*x.dims[:axis], *x.dims[axis + 1 :]]
            return self.add("Gather", [x.name, self.constant(picks[0])], dims, axis=axis)
        dims = [*x.dims[:axis], Dim(len(picks)), *x.dims[axis + 1 :]]
        return self.add("Gather", [x.name, self.ints(*picks)], dims, axis=axis)

    def reduce(self, x: Tensor) -> Tensor:
        axis, keep = self.axis(x, 0.95), self.chance(0.7) or x.rank < 3
        kept = [Dim(1)] if keep else []
        dims = [*x.dims[:axis], *kept, *x.dims[axis + 1 :]]
        op = self.pick(("ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"))
        return self.add(op, [x.name, self.ints(axis)], dims, keepdims=int(keep))

    def along(self, x: Tensor) -> Tensor:
        axis = self.axis(x, 0.9)
        if self.chance(0.2):
            return self.add("CumSum", [x.name, self.ints(axis)], x.dims)
        if self.chance(0.2) and not x.dims[-1].open:
            scale = self.floats(x.dims[-1].count)
            return self.add("LayerNormalization", [x.name, scale], x.dims)
        return self.add(self.pick(("Softmax", "LogSoftmax")), [x.name], x.dims, axis=axis)

    def product(self, x: Tensor, others: list[Tensor]) -> Tensor:
        if x.rank < 2 or x.dims[-1].open:
            return x
        if self.chance(0.3) and x.rank > 2 and not x.dims[-2].open:
            perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
            turned = self.add("Transpose", [x.name], [x.dims[i] for i in perm], perm=perm)
            return self.add("MatMul", [x.name, turned.name], [*x.dims[:-1], x.dims[-2]])
        columns = int(self.rng.integers(1, 5))
        weight = self.floats(x.dims[-1].count, columns)
        if x.rank == 2 and self.chance(0.5):
            bias = self.floats(columns)
            return self.add("Gemm", [x.name, weight, bias], [x.dims[0], Dim(columns)])
        return self.add("MatMul", [x.name, weight], [*x.dims[:-1], Dim(columns)])

    def image(self, x: Tensor) -> Tensor:
        if x.rank != 4 or any(dim.open for dim in x.dims[1:]):
            return x
        channels = x.dims[1].count
        kind = self.pick(("Conv", "ConvTranspose", "InstanceNormalization", "GlobalAveragePool"))
        if kind == "GlobalAveragePool":
            return self.add(kind, [x.name], [*x.dims[:2], Dim(1), Dim(1)])
        if kind == "InstanceNormalization":
            return self.add(kind, [x.name, self.floats(channels), self.floats(channels)], x.dims)
        made = int(self.rng.integers(1, 4))
        shape = (made, channels) if kind == "Conv" else (channels, made)
        weight, pads = self.floats(*shape, 3, 3), [1, 1, 1, 1]
        return self.add(kind, [x.name, weight], [x.dims[0], Dim(made), *x.dims[2:]], pads=pads)

    def repeat(self, x: Tensor) -> Tensor:
        axis = self.axis(x)
        if x.dims[axis] == Dim(1):
            sizes = [1] * x.rank
            sizes[axis] = 3
            dims = [*x.dims[:axis], Dim(3), *x.dims[axis + 1 :]]
            return self.add("Expand", [x.name, self.ints(*sizes)], dims)
        repeats = [1] * x.rank
        repeats[axis] = 2
        dims = list(x.dims)
        dims[axis] = Dim(2 * dims[axis].count, dims[axis].open)
        return self.add("Tile", [x.name, self.ints(*repeats)], dims)

    def pad(self, x: Tensor) -> Tensor:
        axis = self.axis(x, 0.97)
        if x.dims[axis].open:
            return x
        pads = [0] * (2 * x.rank)
        pads[axis] = 1
        dims = list(x.dims)
        dims[axis] = Dim(dims[axis].count + 1)
        return self.add("Pad", [x.name, self.ints(*pads)], dims)

    def split(self, x: Tensor) -> Tensor:
        axis = self.axis(x)
        dim = x.dims[axis]
        if dim.count % 2:
            return x
        dims = list(x.dims)
        dims[axis] = Dim(dim.count // 2, dim.open)
        return self.add("Split", [x.name], dims, 2, axis=axis, num_outputs=2)

    # The graph ------------------------------------------------------------------------------------

    def make(self, steps: int) -> bytes:
        """input x [batch, 2..3 more axes] -> y."""
        sizes = [self.pick((1, 2, 3, 4, 6)) for _ in range(self.pick((1, 2, 3, 3)))]
        x = Tensor("x", [Dim(1, True), *map(Dim, sizes)])
        declared, values = ["n", *sizes], [x]
        one: list[Callable[[Tensor], Tensor]] = [
            *(self.unary, self.reshape, self.reshape, self.reshape, self.transpose),
            *(self.unsqueeze, self.squeeze, self.cut, self.gather, self.reduce, self.along),
            *(self.image, self.repeat, self.pad, self.split, self.transpose),
        ]
        two = [self.binary, self.concat, self.product]
        for _ in range(steps):
            kind = self.pick([*one, *two])
            made = kind(x, values) if kind in two else kind(x)
            if self.chance(0.01):
                made = self.by_batch(made)
            if np.prod(made.sizes) > 2000 or made.rank > 6 or made.rank < 1:
                continue
            values.append(made)
            x = made if self.chance(0.85) else self.pick(values)
        first = [i for i, dim in enumerate(x.dims) if dim.open]
        if len(first) == 1 and self.chance(0.8):  # mostly with the samples first again
            if x.dims[first[0]].count > 1:
                dims = list(x.dims)
                dims[first[0] : first[0] + 1] = [Dim(1, True), Dim(x.dims[first[0]].count)]
                target = [-1 if dim.open else dim.count for dim in dims]
                x = self.add("Reshape", [x.name, self.ints(*target)], dims)
            perm = [first[0], *[i for i in range(x.rank) if i != first[0]]]
            x = self.add("Transpose", [x.name], [x.dims[i] for i in perm], perm=perm)
        self.nodes.append(helper.make_node("Identity", [x.name], ["y"]))
        shape = [f"y{i}" for i in range(x.rank)]
        return graph_model(
            self.nodes, [value("x", declared)], weights=self.weights, outputs=[value("y", shape)]
        )
