"""Plans: a model for one set of input shapes, as a list of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from fastgan.errors import LimitError
from fastgan.host import debug
from fastgan.host.garbage import collected_at_the_end
from fastgan.limits import Limits, size_text
from fastgan.plan import text
from fastgan.plan.types import Buffer, Epilogue, Instruction, Plan, Step

if TYPE_CHECKING:
    from fastgan.plan.rewrite.watch import Watch

__all__ = ["Buffer", "Epilogue", "Instruction", "Plan", "Step", "make"]


def make(
    model: ir.Model,
    shapes: Mapping[str, tuple[int, ...]],
    limits: Limits | None = None,
    watch: Watch | None = None,
    *,
    late: bool = False,
) -> Plan:
    """specialise -> rewrite -> lower: the plan of `model` for these input shapes.

    Where the file was exported at another batch size, the graph of that size is made one for the
    samples wanted (see `rebatch`). `watch` is told what the passes do; with FASTGAN_DEBUG=rewrite
    or =plan stderr is. `late`: its weights may be read when they are asked for (`Weights`).

    Raises:
        UnsupportedError: where `specialise` or `rebatch` does.
        LimitError: where `specialise` does, or one run would hold more at once than
            `limits.activation_bytes`.
    """
    # Imported here: the rewriter takes half a second to import, and ONNX Runtime needs no plan.
    from fastgan.plan.lower import lower
    from fastgan.plan.rebatch import rebatch
    from fastgan.plan.rewrite import rewrite
    from fastgan.plan.rewrite.watch import Watch
    from fastgan.plan.specialise import specialise

    told = debug.wants("rewrite")
    if told and watch is None:
        watch = Watch()
    frozen = _frozen(model, shapes)
    declared = {name: (frozen[name], *s[1:]) if name in frozen else s for name, s in shapes.items()}
    with collected_at_the_end():
        rewritten = rewrite(specialise(model, declared), watch)
        if frozen:
            rebatch(rewritten, frozen, next(shapes[name][0] for name in frozen))
        plan = lower(rewritten)
        del rewritten
    if not late:
        plan = replace(plan, weights=dict(plan.weights))
    if told and watch is not None:
        debug.tell("rewrite", "\n".join((text.heading(plan), *watch.report())))
    if debug.wants("plan"):
        debug.tell("plan", text.describe(plan))
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


def _frozen(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The inputs for which another batch is asked than the file declares, each with that."""
    found = {}
    for value in model.graph.inputs:
        size = value.shape[0] if value.shape else None
        wanted = shapes.get(value.name or "", ())[:1]
        if isinstance(size, int) and wanted and wanted[0] != size:
            found[value.name or ""] = size
    return found
