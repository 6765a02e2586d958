"""Attention as one operation: products with a softmax between them, as they are found in a plan.

Whatever an exporter writes there: a scale, by a number or by one for each head; biases and masks,
for which the batch may be reshaped (windows that share a mask); weights that are turned over for a
product from the left, as of images [N, C, pixels]. ONNX's Attention too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from fastgan.engine.native.lowering import Lowering, place
from fastgan.engine.native.records import Kind, record
from fastgan.engine.native.tensors import View, plain
from fastgan.host.native import _native
from fastgan.plan import Plan, Step
from fastgan.plan.lower import with_releases
from fastgan.plan.weights import joined, meta_of

#: The operator of what was found.
OPERATOR = "fastgan.Attention"

#: Elements of a mask that is made here.
_MOST_MASKED = 1 << 22

_RESHAPES = ("Reshape", "Unsqueeze", "Squeeze")

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor of matrices.

    Attributes:
        name: of a buffer or a weight; "" of none.
        batch: what its axes before the last two broadcast to.
        turned: whether its last two axes are the other way around.
        heads: of [batch, length, heads * size], where it is that; else 0.
        repeated: whether each of its heads is for several of the batch, which has an axis for them.
    """

    name: str = ""
    batch: Shape = ()
    turned: bool = False
    heads: int = 0
    repeated: bool = False

    def of(self, x: Tensor, batch: Shape) -> Tensor:
        """A view [*batch, rows, columns]; batch: this one's, its axes split."""
        while x.dim() < 2:
            x = x.unsqueeze(0)
        if self.heads:
            x = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        if self.repeated:
            x = x.unsqueeze(2)
        if self.turned:
            x = x.transpose(-1, -2)
        return x.expand(*self.batch, *x.shape[-2:]).view(*batch, *x.shape[-2:])


@dataclass(frozen=True)
class Attention:
    """softmax(scale * scales * query @ key + biases) @ value.

    Attributes:
        zeros: whether a query that is left no key gets zeros, else NaN.
        steps: that it stands for.
        lies: the output's axes from the outermost to the innermost in memory, as its reader wants
            them; empty where any order will do.
    """

    query: Operand
    key: Operand
    value: Operand
    out: Operand
    scale: float = 1.0
    scales: tuple[Operand, ...] = ()
    biases: tuple[Operand, ...] = ()
    zeros: bool = False
    steps: tuple[Step, ...] = ()
    lies: Shape = ()

    @property
    def read(self) -> tuple[Operand, ...]:
        """In the order of a step's inputs."""
        return (self.query, self.key, self.value, *(self.scales or (Operand(),)), *self.biases)

    @cached_property
    def batch(self) -> Shape | None:
        """The batches of all, split until they are one; None where that cannot be."""
        given = (*self.read, self.out)
        return _split([operand.batch for operand in given if operand.name])


def join(plan: Plan, opset: int) -> Plan:
    """The plan with each attention as one step.

    Args:
        plan: its elementwise steps merged (`fastgan.plan.merge`).
        opset: of its model.
    """
    finder = _Finder(plan, opset)
    made: dict[int, Step] = {}
    gone: set[int] = set()
    for step in plan.steps:
        found = finder.find(step)
        if found is not None:
            made[id(found.steps[-1])] = finder.step(found)
            gone.update(map(id, found.steps))
    if not made:
        return plan
    steps = [
        made.get(id(step), step) for step in plan.steps if id(step) in made or id(step) not in gone
    ]
    names = set(plan.inputs).union(*(step.outputs for step in steps))
    buffers = {name: buffer for name, buffer in plan.buffers.items() if name in names}
    steps = list(with_releases(steps, set(plan.outputs), buffers))
    weights = joined(plan.weights, finder.masks) if finder.masks else plan.weights
    return replace(plan, steps=tuple(steps), buffers=buffers, weights=weights)


def attention(low: Lowering, step: Step) -> None:
    """A step of `OPERATOR`."""
    a: Attention = step.attributes["attention"]
    batch = a.batch
    assert batch is not None
    name = step.outputs[0]
    shape = low.plan.buffers[name].shape
    lies = a.lies or _as_lies(low.read(a.value.name).meta, shape)
    like = plain([shape[axis] for axis in lies]).permute(sorted(lies, key=lies.index))
    out = low.write(name, like=like)
    views: list[View | None] = []
    for operand in a.read:
        view = low.read(operand.name) if operand.name else None
        views.append(view and view.of(operand.of(view.meta, batch)))
    q, k, v, scales, *biases = views
    assert q is not None
    assert k is not None
    assert v is not None
    y = out.of(a.out.of(out.meta, batch))
    nothing = [0] * (len(batch) + 2)

    def make() -> bytes:
        return record(
            Kind.ATTENTION,
            len(batch),
            batch,
            (q.shape[-2], q.shape[-1], v.shape[-2], v.shape[-1]),
            float(a.scale),
            a.zeros,
            [view.strides if view else nothing for view in (q, k, v, y, scales)],
            len(biases),
            [bias.strides for bias in biases if bias],
            [place(view) for view in (q, k, v, y, scales, *biases)],
        )

    low.add(make, q, k, v, y, scales, *biases)


def _as_lies(x: Tensor, shape: Shape) -> Shape:
    """The axes from the outermost to the innermost, as those of x are if it has as many."""
    strides = x.stride() if x.dim() == len(shape) else (0,) * len(shape)
    return tuple(sorted(range(len(shape)), key=lambda axis: -strides[axis]))


@dataclass(frozen=True)
class _Scores:
    """What was found of an attention from its softmax back."""

    query: Operand = Operand()
    key: Operand = Operand()
    scale: float = 1.0
    scales: tuple[Operand, ...] = ()
    biases: tuple[Operand, ...] = ()  # in the order in which they are added
    steps: tuple[Step, ...] = ()


@dataclass
class _Finder:
    """Finds attention in a plan."""

    plan: Plan
    opset: int
    masks: dict[str, Tensor] = field(default_factory=dict)  # that are weights of the new plan's

    def __post_init__(self) -> None:
        self._made = {name: step for step in self.plan.steps for name in step.outputs}
        self._readers: dict[str, list[Step]] = {}
        for step in self.plan.steps:
            for name in step.inputs:
                self._readers.setdefault(name, []).append(step)
        self._order = {id(step): i for i, step in enumerate(self.plan.steps)}

    def find(self, step: Step) -> Attention | None:
        """What a softmax, or an Attention, is of."""
        found = None
        if step.op == "Softmax":
            found = self._around(step)
        elif step.op == "Attention":
            found = self._whole(step)
        native = _native.runtime
        if found is None or found.batch is None or len(found.batch) > native.MOST_DIMS:
            return None
        if len(found.scales) > 1 or len(found.biases) > native.MOST_BIASES:
            return None
        if not abs(found.scale) <= torch.finfo(torch.float32).max:
            return None
        if not all(self._is_float(operand.name) for operand in (*found.read, found.out)):
            return None
        parts = sorted(found.steps, key=lambda part: self._order[id(part)])
        return replace(found, steps=tuple(parts), lies=self._lies(found.out))

    def step(self, found: Attention) -> Step:
        """Attention as a step."""
        used = [operand.name for operand in (*found.read, found.out) if operand.name]
        return Step(
            op=OPERATOR,
            inputs=tuple(operand.name for operand in found.read),
            outputs=(found.out.name,),
            attributes={"attention": found},
            origin=tuple(dict.fromkeys(name for step in found.steps for name in step.origin)),
            flops=sum(step.flops for step in found.steps),
            bytes=sum(4 * math.prod(self._shape(n)) for n in used if n not in self.masks),
        )

    def _around(self, softmax: Step) -> Attention | None:
        shape = self._shape(softmax.outputs[0])
        axis = softmax.attributes.get("axis", -1 if self.opset >= 13 else 1)
        if len(shape) < 2 or axis % len(shape) != len(shape) - 1:
            return None
        before = self._scores(softmax.inputs[0])
        behind = self._values(softmax.outputs[0])
        if before is None or behind is None:
            return None
        value, out, after = behind
        query, steps, scale = self._unscaled(before.query, before.scale)
        key, more, scale = self._unscaled(before.key, scale)
        return Attention(
            query,
            key,
            value,
            out,
            scale,
            before.scales,
            before.biases,
            steps=(*steps, *more, *before.steps, softmax, *after),
        )

    def _whole(self, step: Step) -> Attention | None:
        """ONNX's Attention."""
        a = step.attributes
        q, k, v, mask, *others = (*step.inputs, *[""] * 7)[:7]
        windows = [a.get(f"{side}_window_size", -1) for side in ("left", "right")]
        precision = a.get("softmax_precision", 0)
        if any(others) or len(step.outputs) > 1 or a.get("softcap", 0.0) or windows != [-1, -1]:
            return None
        if precision not in (0, 1):  # those of the operands, float
            return None
        heads = [0, 0] if len(self._shape(q)) == 4 else [a["q_num_heads"], a["kv_num_heads"]]
        (n, many, rows, size), (_, few, keys, _) = (
            (x[0], h, x[1], x[2] // h) if h else x
            for x, h in zip((self._shape(q), self._shape(k)), heads, strict=True)
        )
        batch, repeated = (n, many), many != few
        shared = (n, few, many // few) if repeated else batch
        out = Operand(step.outputs[0], batch, heads=heads[0])
        biases = []
        if mask:
            given = self.plan.weights.get(mask)
            if self._shape(mask)[-1] != keys:
                return None
            if given is not None and given.dtype == torch.bool:
                mask = f"{mask}.added"
                self.masks[mask] = torch.zeros(given.shape).masked_fill(~given, -math.inf)
            biases.append(Operand(mask, batch))
        if a.get("is_causal"):
            if rows * keys > _MOST_MASKED:
                return None
            name = f"fastgan.causal.{rows}.{keys}"
            self.masks[name] = torch.full((rows, keys), -math.inf).triu(1)
            biases.append(Operand(name, batch))
        scale = a.get("scale")
        return Attention(
            Operand(q, batch, heads=heads[0]),
            Operand(k, shared, True, heads[1], repeated),
            Operand(v, shared, False, heads[1], repeated),
            out,
            1 / math.sqrt(size) if scale is None else scale,
            biases=tuple(biases),
            zeros=True,
            steps=(step,),
        )

    def _scores(self, name: str) -> _Scores | None:
        """What scores are of: a product, reshaped, scaled, and with biases."""
        step = self._made.get(name)
        if step is None or not self._is_alone(name):
            return None
        shape = self._shape(name)
        if step.op in ("MatMul", "Einsum"):
            operands = self._factors(step)
            return operands and _Scores(*operands, steps=(step,))
        if step.op in _RESHAPES:
            if self._shape(step.inputs[0])[-2:] != shape[-2:]:
                return None
            found = self._scores(step.inputs[0])
            return found and replace(found, steps=(step, *found.steps))
        if step.op != "fastgan.Pointwise":
            return None
        for position, given in enumerate(step.inputs):
            if given in self._made and self._shape(given) == shape and self._is_alone(given):
                found = self._affine(step, position, shape)
                if found is not None:
                    return found
        return None

    def _affine(self, step: Step, position: int, shape: Shape) -> _Scores | None:
        """Scores that are input `position` of a chain, scaled, then with biases."""
        scale, scales, biases, there = 1.0, list[int](), list[int](), False
        for each in step.attributes["program"]:
            name, given = each.operation, each.tensor
            if each.kept >= 0 or each.keep >= 0:
                return None
            if name in ("load", "add") and given == position and not there:
                there = True
            elif name in ("load", "add") and given >= 0:
                biases.append(given)
            elif name == "mul" and there and not biases and given >= 0:
                scales.append(given)
            elif name == "mul" and there and not biases:
                scale *= each.number
            elif name == "div" and there and not biases and given < 0 and each.number != 0:
                scale /= each.number
            else:
                return None
        # One for each of the batch.
        alike = all(set(self._shape(step.inputs[i])[-2:]) <= {1} for i in scales)
        found = self._scores(step.inputs[position]) if there and alike else None
        scaled = scale != 1.0 or bool(scales)
        if found is None or (scaled and found.biases):
            return None
        batch = shape[:-2]
        return replace(
            found,
            scale=found.scale * scale,
            scales=(*found.scales, *(Operand(step.inputs[i], batch) for i in scales)),
            biases=(*found.biases, *(Operand(step.inputs[i], batch) for i in biases)),
            steps=(step, *found.steps),
        )

    def _factors(self, step: Step) -> tuple[Operand, Operand] | None:
        """The tensors of a product, rows of the first by columns of the second."""
        if len(step.inputs) != 2:
            return None
        first, second = step.inputs
        shapes = [self._shape(name) for name in step.inputs]
        batch = self._shape(step.outputs[0])[:-2]
        if any(len(shape) < 2 for shape in shapes):
            return None
        if second in self.plan.weights and len(shapes[1]) == 2:  # a linear map is faster
            return None
        turned = False
        if step.op == "Einsum":
            given, _, made = step.attributes["equation"].replace(" ", "").partition("->")
            left, _, right = given.partition(",")
            if len(made) < 2 or left[:-1] != made[:-1] or len(set(left + made[-1:])) <= len(made):
                return None
            inner, column = left[-1], made[-1]
            turned = right == f"{made[:-2]}{column}{inner}"
            if not turned and right != f"{made[:-2]}{inner}{column}":
                return None
        return Operand(first, batch), Operand(second, batch, turned)

    def _unscaled(self, operand: Operand, scale: float) -> tuple[Operand, tuple[Step, ...], float]:
        """What an operand is a multiple of, which nobody else reads, and the step in between."""
        step = self._made.get(operand.name)
        if step is None or step.op != "fastgan.Pointwise" or not self._is_alone(operand.name):
            return operand, (), scale
        program = step.attributes["program"]
        parts = [(each.operation, each.tensor) for each in program]
        by_number = parts == [("load", 0), ("mul", -1)]
        given = step.inputs[0]
        kept = any(each.kept >= 0 or each.keep >= 0 for each in program)
        if not by_number or kept or self._shape(given) != self._shape(operand.name):
            return operand, (), scale
        return replace(operand, name=given), (step,), scale * program[1].number

    def _values(self, name: str) -> tuple[Operand, Operand, tuple[Step, ...]] | None:
        """What weights are multiplied with, the product, and the steps there."""
        steps: list[Step] = []
        turned, count = False, math.prod(self._shape(name)[:-2])
        while self._is_alone(name):
            shape, step = self._shape(name), self._readers[name][0]
            steps.append(step)
            made = step.outputs[0]
            if step.op in _RESHAPES and self._shape(made)[-2:] == shape[-2:]:
                name = made
                continue
            if step.op == "Transpose" and not turned:
                axes = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
                if list(step.attributes.get("perm", ())) != axes:
                    return None
                name, turned = made, True
                continue
            if step.op not in ("MatMul", "Einsum"):
                return None
            operands, batch = self._factors(step), self._shape(made)[:-2]
            if operands is None or math.prod(batch) != count:
                return None
            first, second = operands
            if first.name == name and not turned:
                return second, Operand(made, batch), tuple(steps)
            if second.name == name and turned and not second.turned:
                return replace(first, turned=True), Operand(made, batch, True), tuple(steps)
            return None
        return None

    def _lies(self, out: Operand) -> Shape:
        """The order in which the output's only reader turns it over to be row by row; or in which
        pixels [N, channels, pixels] are images with the channels of each side by side.
        """
        readers = self._readers.get(out.name, [])
        if len(readers) == 1 and readers[0].op == "Transpose" and self._is_alone(out.name):
            return tuple(readers[0].attributes.get("perm", ()))
        axes = range(len(self._shape(out.name)))
        if out.name in self.plan.outputs or not out.turned:
            return ()
        return (*axes[:-2], axes[-1], axes[-2])

    def _is_alone(self, name: str) -> bool:
        """Whether one step alone reads it, once."""
        return name not in self.plan.outputs and len(self._readers.get(name, ())) == 1

    def _shape(self, name: str) -> Shape:
        buffer = self.plan.buffers.get(name)
        if buffer is not None:
            return buffer.shape
        return tuple(meta_of(self.plan.weights, name).shape)

    def _is_float(self, name: str) -> bool:
        buffer = self.plan.buffers.get(name)
        if buffer is not None:
            return buffer.dtype == torch.float32
        if not name or name in self.masks:
            return True
        return meta_of(self.plan.weights, name).is_floating_point()


def _split(batches: list[Shape]) -> Shape | None:
    """The shape that all of them are when their axes are split; None where there is none."""
    ends = {1}
    for batch in batches:
        for i in range(len(batch)):
            ends.add(math.prod(batch[i:]))
    ordered = sorted(ends)
    if len({math.prod(batch) for batch in batches}) > 1:
        return None
    if any(b % a for a, b in pairwise(ordered)):
        return None
    return tuple(b // a for a, b in pairwise(ordered))[::-1]
