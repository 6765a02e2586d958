"""Plans: a model for one set of input shapes, as a list of steps."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from fastgan.plan.types import Buffer, Epilogue, Instruction, Plan, Step

__all__ = ["Buffer", "Epilogue", "Instruction", "Plan", "Step", "make"]


def make(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> Plan:
    """specialise -> rewrite -> lower: the plan of `model` for these input shapes.

    Raises:
        UnsupportedError: where `specialise` does.
    """
    # Imported here: the rewriter takes half a second to import, and ONNX Runtime needs no plan.
    from fastgan.plan.lower import lower
    from fastgan.rewrite import rewrite
    from fastgan.specialise import specialise, without_collection

    with without_collection():
        return lower(rewrite(specialise(model, shapes)))
