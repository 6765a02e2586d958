"""`fastgan inspect`: what a file holds, which backend takes it, and the plan."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastgan.bundle import is_bundle
from fastgan.cli import console, options, records
from fastgan.cli.convert import bundle
from fastgan.measure import prediction

if TYPE_CHECKING:
    from fastgan.model.opened import Model
    from fastgan.model.signature import Input, Output
    from fastgan.plan import Plan, Step

EXAMPLES = """
fastgan inspect dcgan-digits  # signature, backend, and each step with its cost
fastgan inspect model.onnx --batch 64 --precision bf16  # the plan of another run
fastgan inspect model.onnx --gpu h200 --batch 64  # where the time must go on an H200
fastgan inspect model.onnx --why /4/Relu  # what became of this ONNX node, and why
fastgan inspect model.fgb  # what a bundle holds: inputs, outputs, programs
fastgan inspect model.onnx --json  # the same for a program
fastgan inspect model.onnx --range 0:1 --write-signature  # what it takes, said once for all
"""


def inspect(
    model: options.ModelOrBundle,
    batch: Annotated[int, typer.Option(metavar="N", help="Images per run.")] = 1,
    as_json: options.AsJson = False,
    where: options.Where = options.Where(),
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Print the least time of each step on this type of GPU, which need not be here: "
            "t4, a100, rtx4090, l4, h100, h200 or b200 (--precision auto is fp16 there).",
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(
            "--why",
            metavar="NODE",
            help="Instead: what became of this ONNX node (its name, or an output's): the step that "
            "it is in, the rules that took it there, and why others did not.",
        ),
    ] = None,
    stated: options.Stated = options.Stated(),
    write_signature: Annotated[
        bool,
        typer.Option(
            "--write-signature",
            help="Write inputs and outputs as shown, to MODEL's name with .fastgan.json, which is "
            "read whenever the model is loaded.",
        ),
    ] = False,
) -> None:
    """Show what a model is and how it would run.

    The file, its inputs and outputs (guesses are marked), the backend chosen and why others were
    not, and each step of the plan: kernel, operator, what is fused behind it, shapes, FLOPs, bytes
    and the ONNX nodes that it came from. Where no plan covers the model: why, and its ops.
    """
    from fastgan.errors import ArgumentError, BackendError
    from fastgan.loading import open_model, start

    if batch < 1:
        raise ArgumentError("--batch", str(batch), "a whole number of at least 1")
    if is_bundle(model):
        for option, given in (
            ("--gpu", gpu),
            ("--why", node),
            ("--write-signature", write_signature or None),
            ("--range, --out-range, --mean, --std", stated.signature()),
        ):
            if given is not None:
                raise ArgumentError(option, "a bundle, which holds no graph", "an ONNX file")
        held = bundle.inspect(model)
        typer.echo(json.dumps(held, indent=2)) if as_json else bundle.show(held)
        return
    opened = open_model(model, signature=stated.signature())
    if write_signature:
        _write_signature(opened, as_json)
    if node is not None:
        _why(opened, node, batch, as_json)
        return
    facts = _file(opened)
    if gpu is not None:
        facts["prediction"] = prediction.predict(opened, gpu, where.precision, batch)
        _show(facts, as_json)
        return
    try:
        generator = start(opened, **where.options)
    except BackendError:
        # Nothing runs it: what it holds is all the more of interest. The error follows on stderr.
        _show(facts, as_json)
        raise
    facts = _file(replace(opened, signature=generator.signature)) | records.ran(generator)
    batch = generator.signature.frozen_batch or batch
    plan = generator.plan(batch)
    if plan is not None:
        if _holds_doubles(opened):
            facts["note"] = f"its float64 is computed in {generator.precision}; ort keeps it"
        facts["plan"] = {"batch": batch, **_plan(plan)}
    _show(facts, as_json)


def _why(model: Model, node: str, batch: int, as_json: bool) -> None:
    from fastgan.measure.why import why

    shapes = model.shapes(model.signature.frozen_batch or batch)
    lines = list(why(model.file.model, shapes, node))
    typer.echo(json.dumps({"node": node, "why": lines}, indent=2) if as_json else "\n".join(lines))


def _write_signature(model: Model, quiet: bool) -> None:
    """State what is in force in the file beside the model, and say so."""
    from fastgan import models
    from fastgan.errors import ArgumentError
    from fastgan.model.side_file import beside, write

    path = model.file.path
    if path is None or path in (models.path(name) for name in models.names()):
        found = "a model that ships, which says it itself"
        raise ArgumentError("--write-signature", found, "a file of your own")
    place = beside(path)
    there = place.exists()
    try:
        write(place, model.signature)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ArgumentError(str(place), reason, "a place that can be written") from None
    typer.echo(f"{'replaced' if there else 'wrote'} {place}", err=quiet)


# Facts -------------------------------------------------------------------------------------------


def _file(model: Model) -> dict[str, Any]:
    graph = model.file.model
    producer = " ".join(filter(None, (graph.producer_name, graph.producer_version)))
    path = model.file.path
    ops = Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in graph.graph
    )
    return {
        "file": model.name,
        "bytes": None if path is None else path.stat().st_size,
        "producer": producer or None,
        "ir_version": graph.ir_version,
        "opsets": {domain or "ai.onnx": v for domain, v in graph.opset_imports.items()},
        "inputs": [_port(port, "distribution", "classes") for port in model.signature.inputs],
        "outputs": [_port(port) for port in model.signature.outputs],
        "classes": list(model.signature.class_names),
        "ops": dict(ops.most_common()),
        "signature": model.signature.describe(),
    }


def _port(port: Input | Output, *more: str) -> dict[str, Any]:
    from fastgan.model.signature import shape_text

    constants = {"mean": list(port.mean), "std": list(port.std)} if port.mean else {}
    basis = None if port.basis is None or port.kind == "tensor" else port.basis
    return {
        "name": port.name,
        "kind": port.kind,
        "dtype": port.dtype,
        "shape": shape_text(port.shape),
        **{name: getattr(port, name) for name in more},
        "range": port.range,
        **constants,
        "range_confidence": basis and basis.confidence,
        "range_because": basis and basis.why,
        "guessed": port.guessed,
    }


def _holds_doubles(model: Model) -> bool:
    """Whether the file computes in float64: an input, an output or a weight is of that type."""
    import onnx_ir

    graph = model.file.model.graph
    values = (*graph.inputs, *graph.outputs, *graph.initializers.values())
    return any(value.dtype == onnx_ir.DataType.DOUBLE for value in values)


def _fused(step: Step) -> str:
    """Scales of samples around a product, and its epilogue."""
    around = step.inputs[4:6] if step.op.startswith("fastgan.Conv") else ()
    names = [name for name, given in zip(("scale_in", "scale_out"), around, strict=False) if given]
    return " + ".join(filter(None, (*names, str(step.epilogue))))


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "flops": plan.flops,
        "bytes": plan.bytes,
        "peak_bytes": plan.peak_bytes,
        "weight_bytes": sum(w.numel() * w.element_size() for w in plan.weights.values()),
        "steps": [_step(plan, step) for step in plan.steps],
    }


def _step(plan: Plan, step: Step) -> dict[str, Any]:
    def shapes(names: tuple[str, ...]) -> list[list[int]]:
        return [list(plan.buffers[name].shape) for name in names if name in plan.buffers]

    return {
        "kernel": step.kernel,
        "op": step.op,
        "epilogue": _fused(step),
        "inputs": shapes(step.inputs),
        "outputs": shapes(step.outputs),
        "flops": step.flops,
        "bytes": step.bytes,
        "origin": list(step.origin),
        "note": step.note,
    }


# Printing ----------------------------------------------------------------------------------------


def _show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        del facts["signature"]
        typer.echo(json.dumps(facts, indent=2))
        return
    size = "" if facts["bytes"] is None else f"{console.number(facts['bytes'], 'B')}, "
    opsets = ", ".join(f"{domain} {version}" for domain, version in facts["opsets"].items())
    made_by = f", made by {facts['producer']}" if facts["producer"] else ""
    say = typer.echo
    say(f"{facts['file']}: {size}ONNX IR {facts['ir_version']}, opset {opsets}{made_by}")
    say(facts["signature"])
    if "backend" in facts:
        say(f"{facts['backend']} on {facts['device']} in {facts['precision']}")
        for refusal in facts["refusals"]:
            say(f"  not {refusal}")
        if "note" in facts:
            say(f"  note: {facts['note']}")
    if "plan" in facts:
        _show_plan(facts["plan"])
        return
    if "prediction" in facts:
        _show_prediction(facts["prediction"])
        return
    if "backend" in facts:
        say(f"no plan: {facts['backend']} plans for itself")
    say("ops: " + ", ".join(f"{count} {op}" for op, count in facts["ops"].items()))


def _show_plan(plan: dict[str, Any]) -> None:
    # Inputs are left out: a line has room for one shape, and they are the outputs further up.
    table = console.table("", "kernel", "op", "fused", "out", "FLOPs", "bytes", "from", left=5)
    table.columns[-1].justify = "left"
    for column in (*table.columns[:3], *table.columns[4:7]):
        column.no_wrap = True
    for number, step in enumerate(plan["steps"], 1):
        table.add_row(
            str(number),
            step["kernel"],
            step["op"].removeprefix("fastgan."),
            step["epilogue"].replace(" + ", "\n"),
            _shapes(step["outputs"]),
            console.number(step["flops"]),
            console.number(step["bytes"], "B"),
            "\n".join([*step["origin"], *filter(None, [step["note"]])]),
        )
    out = console.out()
    out.print(f"plan for a batch of {plan['batch']}:")
    out.print(table)
    steps, flops = len(plan["steps"]), console.number(plan["flops"], "FLOP")
    moved, weights = (console.number(plan[key], "B") for key in ("bytes", "weight_bytes"))
    typer.echo(
        f"{console.count(steps, 'step')}, {flops}; each input read and output written once: "
        f"{moved}, of which weights {weights}"
    )


def _show_prediction(facts: dict[str, Any]) -> None:
    """The least time of each step, as a table."""
    out = console.out()
    rate, bandwidth = facts["rate"] / 1e12, facts["bandwidth"] / 1e9
    typer.echo(
        f"floor on a {facts['gpu']} in {facts['precision']}, batch {facts['batch']}, by published "
        f"figures, not measured: {rate:,.1f} TFLOP/s and {bandwidth:,.0f} GB/s "
        f"({facts['source']}); {facts['launch_seconds'] * 1e6:.1f} us a launch (assumed)"
    )
    table = console.table("", "op", "fused", "out", "FLOPs", "us", "share", "bound by", left=4)
    for number, step in enumerate(facts["steps"], 1):
        table.add_row(
            str(number),
            step["op"].removeprefix("fastgan.") + (" e4m3" if step["eight_bits"] else ""),
            step["epilogue"].replace(" + ", "\n"),
            _shapes(step["outputs"], " "),
            console.number(step["flops"]),
            f"{step['seconds'] * 1e6:.2f}",
            f"{step['share']:.0%}",
            step["bound"],
        )
    out.print(table)
    waits = {
        name: sum(s["share"] for s in facts["steps"] if s["bound"] == name)
        for name in ("compute", "memory", "launch")
    }
    bounds = ", ".join(f"{share:.0%} {name}" for name, share in waits.items() if share)
    speed = facts["images_per_second"]
    typer.echo(
        f"{facts['seconds'] * 1e6:,.1f} us at the least ({bounds}), so at most "
        f"{'any number of' if speed is None else f'{speed:,.0f}'} images/s; "
        f"{facts['share_of_roofline']:.0%} of the whole network's roofline"
    )


def _shapes(shapes: list[list[int]], between: str = "\n") -> str:
    return between.join("x".join(map(str, shape)) or "scalar" for shape in shapes)
