"""Plans: a model for one set of input shapes, as a list of steps."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from fastgan.errors import LimitError
from fastgan.limits import Limits, size_text
from fastgan.plan.types import Buffer, Epilogue, Plan, Step

__all__ = ["Buffer", "Epilogue", "Plan", "Step", "make"]


def make(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]], limits: Limits | None = None
) -> Plan:
    """specialise -> rewrite -> lower: the plan of `model` for these input shapes.

    Raises:
        UnsupportedError: where `specialise` does.
        LimitError: where `specialise` does, or one run would hold more at once than
            `limits.activation_bytes`.
    """
    # Imported here: the rewriter takes half a second to import, and ONNX Runtime needs no plan.
    from fastgan.plan.lower import lower
    from fastgan.rewrite import rewrite
    from fastgan.specialise import specialise, without_collection

    with without_collection():
        plan = lower(rewrite(specialise(model, shapes)))
    allowed = (limits or Limits()).activation_bytes
    if plan.memory_bytes > allowed:
        sizes = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise LimitError(
            f"a run on {sizes}",
            f"{size_text(plan.memory_bytes)} of tensors at once",
            f"at most {size_text(allowed)} (Limits.activation_bytes)",
            "take a smaller batch or image",
        )
    return plan
