"""`fastgan inspect --gpu`: where the time must go on a GPU that need not be there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgan.cli import console

if TYPE_CHECKING:
    from fastgan.measure.subject import Subject


def predict(subject: Subject, name: str, precision: str, batch: int) -> dict[str, Any]:
    """The floor of a model's plan on a type of GPU, as facts.

    Raises:
        ArgumentError: no such GPU is known, or it lacks the precision.
        UnsupportedError: the model can't be planned.
    """
    from fastgan.errors import ArgumentError
    from fastgan.measure.floor import LAUNCH, floor
    from fastgan.measure.published import GPUS
    from fastgan.plan import eight_bits, make
    from fastgan.plan.merge import merge

    if name not in GPUS:
        raise ArgumentError("--gpu", repr(name), ", ".join(GPUS))
    gpu, precision = GPUS[name], "fp16" if precision == "auto" else precision
    if precision not in gpu.rates:
        known = ", ".join(gpu.rates)
        raise ArgumentError("--precision", repr(precision), f"auto, {known} on a {gpu.name}")
    batch = subject.signature.frozen_batch or batch
    plan = merge(make(subject.model.model, subject.shapes(batch)))
    found = floor(plan, gpu, precision)
    eight = eight_bits.choose(plan).layers if precision == "fp8" else frozenset()
    return {
        "gpu": gpu.name,
        "source": gpu.source,
        "rate": gpu.rates[precision],
        "bandwidth": gpu.bandwidth,
        "launch_seconds": LAUNCH,
        "precision": precision,
        "batch": batch,
        "seconds": found.seconds,
        "images_per_second": batch / found.seconds if found.seconds else None,
        "share_of_roofline": found.share,
        "steps": [
            {
                "op": each.step.op,
                "eight_bits": index in eight,
                "epilogue": _fused(each.step.epilogue, each.step.attributes),
                "outputs": [list(plan.buffers[n].shape) for n in each.step.outputs],
                "flops": each.step.flops,
                "seconds": each.seconds,
                "share": each.seconds / found.seconds if found.seconds else 0.0,
                "bound": each.bound,
            }
            for index, each in enumerate(found.steps)
        ],
    }


def _fused(epilogue: object, attributes: Any) -> str:
    program = attributes.get("program", ())
    return " ".join(i.operation for i in program if i.operation != "load") or str(epilogue)


def show(facts: dict[str, Any]) -> None:
    """Print them as a table."""
    out = console.out()
    rate, bandwidth = facts["rate"] / 1e12, facts["bandwidth"] / 1e9
    out.print(
        f"floor on a {facts['gpu']} in {facts['precision']}, batch {facts['batch']}, by published "
        f"figures, not measured: {rate:,.1f} TFLOP/s and {bandwidth:,.0f} GB/s "
        f"({facts['source']}); {facts['launch_seconds'] * 1e6:.1f} us a launch (assumed)",
        soft_wrap=True,
    )
    table = console.table("", "op", "fused", "out", "FLOPs", "us", "share", "bound by", left=4)
    for number, step in enumerate(facts["steps"], 1):
        table.add_row(
            str(number),
            step["op"].removeprefix("fastgan.") + (" e4m3" if step["eight_bits"] else ""),
            step["epilogue"].replace(" + ", "\n"),
            " ".join("x".join(map(str, shape)) for shape in step["outputs"]),
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
    out.print(
        f"{facts['seconds'] * 1e6:,.1f} us at the least ({bounds}), so at most "
        f"{'any number of' if speed is None else f'{speed:,.0f}'} images/s; "
        f"{facts['share_of_roofline']:.0%} of the whole network's roofline",
        soft_wrap=True,
    )
