"""Which kernel a step of a plan is bound to, or why none covers it."""

from __future__ import annotations

from fastgan.engine.base import Target
from fastgan.engine.triton import passes, products
from fastgan.engine.triton.binding import Binding
from fastgan.engine.triton.workspace import Workspace
from fastgan.kernels.epilogue import ACTIVATIONS
from fastgan.plan import Plan, Step

#: What chooses among the kernels for an operator: each is stated beside the bindings it chooses.
_CHOOSE = {**passes.CHOOSE, **products.CHOOSE}


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
