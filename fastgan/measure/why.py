"""What became of one node of an ONNX file in the plan, and what kept the rules from doing more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from fastgan.errors import ArgumentError, FastganError
from fastgan.host.arguments import meant
from fastgan.plan import make, text
from fastgan.plan.rewrite.watch import Watch


def why(model: ir.Model, shapes: Mapping[str, tuple[int, ...]], wanted: str) -> Iterator[str]:
    """Lines for a reader: the node, its step or how it vanished, and the nearest misses.

    Args:
        model: as `fastgan.model.file.read` gives it.
        shapes: of its inputs.
        wanted: the name of a node, or of one of its outputs.

    Raises:
        ArgumentError: there is no such node.
    """
    node = find(model, wanted)
    name = node.name or node.outputs[0].name or ""
    outputs = ", ".join(value.name or "" for value in node.outputs)
    yield f"{name}: {node.op_type} -> {outputs}"
    watch = Watch()
    try:
        plan = make(model, shapes, watch=watch)
    except FastganError as error:
        yield f"  no plan, because of {error}"
        return
    steps = [(i, step) for i, step in enumerate(plan.steps, 1) if name in step.origin]
    fired = [one for one in watch.fired if name in one.nodes]
    for number, step in steps:
        fused = f", fused {step.epilogue}" if str(step.epilogue) else ""
        op = step.op.removeprefix("fastgan.")
        yield f"  in step {number} of {len(plan.steps)}: {op} {text.shapes(plan, step)}{fused}"
        others = [other for other in step.origin if other != name]
        if others:
            yield f"    together with {', '.join(others)}"
    if not steps and fired:
        yield "  in no step: what it did became part of others, or was undone by others"
    elif not steps:
        yield "  in no step: it was computed once, at load, or nothing needs it"
    yield from (f"  by {one.rule} ({one.stage})" for one in fired)
    near = {
        (miss.rule, stage): miss.reason
        for stage in watch.stages
        for miss in watch.nearest(stage)
        if name in miss.nodes
    }
    yield from (f"  not {rule} ({stage}): {reason}" for (rule, stage), reason in near.items())


def find(model: ir.Model, wanted: str) -> ir.Node:
    """The node of this name, or that makes the output of this name.

    Raises:
        ArgumentError: there is none; names those that are nearly it.
    """
    known: dict[str, ir.Node] = {}
    for node in model.graph:
        for value in node.outputs:
            known.setdefault(value.name or "", node)
    known |= {node.name: node for node in model.graph if node.name}
    if wanted in known:
        return known[wanted]
    near = meant(wanted, known, most=3, least=0.5)
    inside = [name for name in known if name and wanted.lower() in name.lower()][:3]
    if inside and not near:
        near = f"did you mean {', '.join(inside)}?"
    needed = "the name of a node or of its output"
    raise ArgumentError("--why", repr(wanted), needed, near or "FASTGAN_DEBUG=plan lists steps")
