"""`fastgan inspect --gpu`: where the time must go on a GPU that need not be there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.model.opened import Model


def predict(model: Model, name: str, precision: str, batch: int) -> dict[str, Any]:
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
    batch = model.signature.frozen_batch or batch
    plan = merge(make(model.file.model, model.shapes(batch)))
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
