"""Which kernel a step of a plan is bound to, or why none covers it."""

from __future__ import annotations

from math import prod

from fastgan.engine.base import Target
from fastgan.engine.triton import passes, products
from fastgan.engine.triton.binding import Binding
from fastgan.engine.triton.workspace import Workspace
from fastgan.kernels.epilogue import ACTIVATIONS
from fastgan.plan import Plan, Step

#: What chooses among the kernels for an operator: each is stated beside the bindings it chooses.
_CHOOSE = {**passes.CHOOSE, **products.CHOOSE}

#: From so many elements on, places within an image, or within the one that it is a part of, take
#: more than 32 bits.
_FARTHEST = 1 << 31


def bindings(plan: Plan, target: Target, workspace: Workspace) -> list[Binding | str]:
    """Each step on a kernel, or why none covers it (`bind`)."""
    counts = (prod(b.shape[1:]) for b in plan.buffers.values() if len(b.shape) > 1)
    most = max(counts, default=0)
    made = [bind(step, plan, target, workspace) for step in plan.steps]
    if most < _FARTHEST:
        return made
    far = f"an image of {most} elements in the plan, within which this kernel counts in 32 bits"
    wide = (passes.PointwiseBinding, passes.ConcatBinding)
    return [one if isinstance(one, (str, *wide)) else far for one in made]


def bind(step: Step, plan: Plan, target: Target, workspace: Workspace) -> Binding | str:
    """The step on a kernel, or why no kernel covers it ("" where none would be expected)."""
    if step.op not in _CHOOSE:
        return ""
    kind, refusal = _CHOOSE[step.op](step, plan)
    if kind is None:
        return refusal
    if step.epilogue.activation not in ACTIVATIONS:
        return f"activation {step.epilogue.activation}"
    return kind(step, plan, target, workspace)
