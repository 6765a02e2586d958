"""Elementwise steps that follow one another -> one `fastgan.Pointwise` step.

A device with much arithmetic for each byte of memory bandwidth runs a chain of them in the time of
the slowest, which is the time to read and write its tensors. So a step is merged into the one that
reads it wherever nobody else does and both have one shape; operands may broadcast. The result's
`program` (see `Instruction`) keeps within what a kernel has: six tensors and four kept values.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from math import prod

from torch import Tensor

from fastgan.plan import activations
from fastgan.plan.lower import with_releases
from fastgan.plan.types import Epilogue, Instruction, Plan, Step
from fastgan.plan.weights import joined, meta_of, only

MOST_TENSORS = 6
MOST_KEPT = 4
#: Steps of one chain, so that a graph of many thousand takes time in proportion.
_LONGEST = 32

#: Operators of two operands: in their order, and with the second one first.
_BINARY = {
    "Add": ("add", "add"),
    "Sub": ("sub", "rsub"),
    "Mul": ("mul", "mul"),
    "Div": ("div", "rdiv"),
}
_Operand = str | float
#: One operation: its name, its first operand, and its second or None.
_Operation = tuple[str, _Operand, "_Operand | None"]


def merge(plan: Plan, ranks: Container[int] = (2, 3, 4)) -> Plan:
    """The plan with its elementwise floating-point steps merged; those left alone are merged too,
    each into a step by itself, if `operations` knows them.

    ranks: how many axes their results may have.
    """
    plan = _without_batch_norms(_without_curves(plan))
    readers: dict[str, list[Step]] = {}
    for step in plan.steps:
        for name in set(step.inputs):
            readers.setdefault(name, []).append(step)
    chains: dict[str, _Chain] = {}
    steps: list[Step | _Chain] = []
    merged: set[int] = set()
    for step in plan.steps:
        found = operations(step, plan, ranks)
        if found is None:
            steps.append(step)
            continue
        chain, tried = _Chain.of(step, found), set(plan.outputs)
        shape = plan.buffers[step.outputs[0]].shape
        while True:
            own = {id(each) for each in chain.steps}
            ready = (
                name
                for name in chain.tensors()
                if name in chains
                and name not in tried
                and plan.buffers[name].shape == shape
                and own.issuperset(map(id, readers[name]))
            )
            before = next(ready, None)
            if before is None:
                break
            joined = chains[before].then(chain)
            if len(joined.steps) <= _LONGEST and joined.program() is not None:
                merged.add(id(chains.pop(before)))
                chain, tried = joined, set(plan.outputs)
            else:
                tried.add(before)
        chains[step.outputs[0]] = chain
        steps.append(chain)
    steps = [step for step in steps if id(step) not in merged]
    made = [step if isinstance(step, Step) else step.step(plan) for step in steps]
    kept = set(plan.inputs).union(*(step.outputs for step in made))
    buffers = {name: buffer for name, buffer in plan.buffers.items() if name in kept}
    weights = {name for step in made for name in step.inputs}
    return replace(
        plan,
        steps=tuple(with_releases(made, set(plan.outputs), buffers)),
        buffers=buffers,
        weights=only(plan.weights, weights),
    )


def _without_curves(plan: Plan) -> Plan:
    """The plan with each activation that no kernel's epilogue has as a step behind its product."""
    steps: list[Step] = []
    buffers = dict(plan.buffers)
    for step in plan.steps:
        row = activations.TABLE[step.epilogue.activation]
        if row.kernel:
            steps.append(step)
            continue
        out = buffers[step.outputs[0]]
        before = replace(out, name=f"{out.name}.before")
        buffers[before.name] = before
        alone = replace(step.epilogue, activation="none", parameters=())
        steps.append(replace(step, outputs=(before.name,), epilogue=alone, origin=step.origin[:-1]))
        steps.append(
            Step(
                op=row.onnx,
                inputs=(before.name,),
                outputs=step.outputs,
                attributes=dict(zip(row.parameters, step.epilogue.parameters, strict=True)),
                origin=step.origin[-1:],
                flops=prod(out.shape),
                bytes=2 * out.bytes,
            )
        )
    return replace(plan, steps=tuple(steps), buffers=buffers)


def _without_batch_norms(plan: Plan) -> Plan:
    """The plan with each norm of constant statistics as a product and a sum."""
    steps: list[Step] = []
    buffers, weights, made = dict(plan.buffers), plan.weights, dict[str, Tensor]()
    for step in plan.steps:
        plain = step.op == "BatchNormalization" and len(step.outputs) == 1
        if not plain or step.attributes.get("training_mode", 0):
            steps.append(step)
            continue
        x, *names = step.inputs
        if x in weights or not all(n in weights and meta_of(weights, n).dim() == 1 for n in names):
            steps.append(step)
            continue
        scale, shift, mean, variance = (weights[name].double() for name in names)
        factor = scale / (variance + step.attributes.get("epsilon", 1e-5)).sqrt()
        out = step.outputs[0]
        shape = (-1, *[1] * (len(buffers[out].shape) - 2))
        scaled, dtype = f"{out}.scaled", weights[names[0]].dtype
        buffers[scaled] = replace(buffers[out], name=scaled)
        made[f"{out}.scale"] = factor.to(dtype).reshape(shape)
        made[f"{out}.shift"] = (shift - mean * factor).to(dtype).reshape(shape)
        bare = replace(step, attributes={})
        steps.append(replace(bare, op="Mul", inputs=(x, f"{out}.scale"), outputs=(scaled,)))
        steps.append(replace(bare, op="Add", inputs=(scaled, f"{out}.shift")))
    return replace(plan, steps=tuple(steps), buffers=buffers, weights=joined(weights, made))


def operations(
    step: Step, plan: Plan, ranks: Container[int] = (2, 3, 4)
) -> list[_Operation] | None:
    """What an elementwise step does, or None where an instruction can't say it.

    An operand is the name of a buffer or weight, "" for the operation before, or a number.
    """
    if len(step.outputs) != 1 or not step.inputs or not _is_float(step.outputs[0], plan):
        return None
    rank = len(plan.buffers[step.outputs[0]].shape)
    if rank not in ranks:
        return None
    for name in step.inputs:
        if name and (not _is_float(name, plan) or len(_shape(name, plan)) > rank):
            return None
    if not any(name in plan.buffers for name in step.inputs):
        return None
    a, b = [_operand(name, plan) for name in (*step.inputs[:2], step.inputs[0])][:2]
    given = step.attributes
    match step.op:
        case "fastgan.Activate":
            return [(step.epilogue.activation, a, None)]
        case "PRelu":
            return None if isinstance(a, float) else [("leaky_relu", a, b)]
        case "Pow":
            return _power(a, b)
        case "Clip":
            return _clip(step, a, plan)
        case op if op in _BINARY and len(step.inputs) == 2 and not given:
            return [(_BINARY[op][0], a, b)]
    found = activations.of(step.op, given)
    if found is None or not found[0].instruction:
        return None
    return [(found[0].name, a, found[1][0] if found[1] else None)]


def _power(a: _Operand, b: _Operand) -> list[_Operation] | None:
    if b == 2.0:
        return [("square", a, None)]
    if b == 0.5:
        return [("sqrt", a, None)]
    if b == 3.0 and isinstance(a, str):
        return [("square", a, None), ("mul", "", a)]
    return None


def _clip(step: Step, a: _Operand, plan: Plan) -> list[_Operation] | None:
    bounds = [step.attributes.get(name) for name in ("min", "max")]
    for index, name in enumerate(step.inputs[1:]):
        if not name:
            continue
        found = _operand(name, plan)
        if not isinstance(found, float):
            return None
        bounds[index] = found
    pairs = zip(("maximum", "minimum"), bounds, strict=True)
    made: list[_Operation] = []
    for name, bound in pairs:
        if bound is not None:
            made.append((name, "" if made else a, float(bound)))
    return made or None


def _is_float(name: str, plan: Plan) -> bool:
    found = plan.buffers[name] if name in plan.buffers else meta_of(plan.weights, name)
    return found.dtype.is_floating_point


def _shape(name: str, plan: Plan) -> tuple[int, ...]:
    found = plan.buffers[name] if name in plan.buffers else meta_of(plan.weights, name)
    return tuple(found.shape)


def _operand(name: str, plan: Plan) -> _Operand:
    if name not in plan.weights or meta_of(plan.weights, name).numel() != 1:
        return name
    return float(plan.weights[name])


@dataclass(eq=False)
class _Chain:
    """Steps to be merged, in order, and what each does."""

    steps: list[Step] = field(default_factory=list)
    done: list[list[_Operation]] = field(default_factory=list)

    @classmethod
    def of(cls, step: Step, found: list[_Operation]) -> _Chain:
        return cls([step], [found])

    def then(self, other: _Chain) -> _Chain:
        return _Chain(self.steps + other.steps, self.done + other.done)

    def tensors(self) -> list[str]:
        """What it reads from memory, in order."""
        own = {step.outputs[0] for step in self.steps}
        names = [o for each in self.done for _, *pair in each for o in pair if isinstance(o, str)]
        return [name for name in dict.fromkeys(names) if name and name not in own]

    def program(self) -> tuple[Instruction, ...] | None:
        """The instructions, or None where a kernel has too few places."""
        tensors = self.tensors()
        if len(tensors) > MOST_TENSORS:
            return None
        flat = [
            (one, step.outputs[0] if index == len(each) - 1 else "")
            for step, each in zip(self.steps, self.done, strict=True)
            for index, one in enumerate(each)
        ]
        places = {name: index for index, name in enumerate(tensors)}
        return _Compiler(flat, places).instructions()

    def step(self, plan: Plan) -> Step:
        """The merged step."""
        program, tensors, last = self.program(), self.tensors(), self.steps[-1]
        assert program is not None
        output = plan.buffers[last.outputs[0]]
        read = sum(
            plan.buffers[n].bytes if n in plan.buffers else meta_of(plan.weights, n).nbytes
            for n in tensors
        )
        return Step(
            op="fastgan.Pointwise",
            inputs=tuple(tensors),
            outputs=last.outputs,
            attributes={"program": program},
            epilogue=Epilogue(),
            origin=tuple(dict.fromkeys(n for step in self.steps for n in step.origin)),
            flops=len([i for i in program if i.operation != "load"]) * prod(output.shape),
            bytes=read + output.bytes,
        )


class _Compiler:
    """Operations in order -> instructions on one running value and some kept ones."""

    def __init__(self, flat: list[tuple[_Operation, str]], places: dict[str, int]) -> None:
        self._flat, self._places = flat, places
        self._kept: dict[str, int] = {}
        self._free = list(range(MOST_KEPT))

    def instructions(self) -> tuple[Instruction, ...] | None:
        made: list[Instruction] = []
        value = None  # the name of what the running value is
        for position, ((name, first, second), result) in enumerate(self._flat):
            if first == "" or (first == value and isinstance(first, str)):
                made.append(self._make(name, second))
            elif second == value and isinstance(second, str) and name in _SWAPPED:
                made.append(self._make(_SWAPPED[name], first))
            elif isinstance(first, float) and isinstance(second, str):
                made += [self._make("load", second), self._make(_SWAPPED[name], first)]
            else:
                made += [self._make("load", first), self._make(name, second)]
            if not result:
                value = None
                continue
            later = [pair for (_, *pair), _ in self._flat[position + 1 :]]
            self._release(later)
            value = result
            # The next operation finds it as the running value; all others have to find it kept.
            rest = later[1:] if later and self._takes(position + 1, result) else later
            if any(result in pair for pair in rest):
                if not self._free:
                    return None
                self._kept[result] = self._free.pop()
                made[-1] = replace(made[-1], keep=self._kept[result])
        return tuple(made)

    def _takes(self, position: int, value: str) -> bool:
        """Whether an operation can have the running value as its only use of it."""
        (name, first, second), _ = self._flat[position]
        return (first == value) != (second == value) and (first == value or name in _SWAPPED)

    def _release(self, later: list[list[_Operand | None]]) -> None:
        for name in [n for n in self._kept if not any(n in pair for pair in later)]:
            self._free.append(self._kept.pop(name))

    def _make(self, operation: str, operand: _Operand | None) -> Instruction:
        if operand is None:
            return Instruction(operation)
        if isinstance(operand, float):
            return Instruction(operation, number=operand)
        if operand in self._kept:
            return Instruction(operation, kept=self._kept[operand])
        return Instruction(operation, tensor=self._places[operand])


_SWAPPED = dict(_BINARY.values())
