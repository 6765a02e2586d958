"""A plan as text: a line for what goes in and comes out, and one for each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fastgan.plan.types import Instruction, Plan, Step
from fastgan.plan.weights import meta_of

#: Attributes that say nothing at these values: those of a product without any trick.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "strides": (1,),
    "dilations": (1,),
    "pads": (0,),
    "output_padding": (0,),
    "group": (1,),
}


def heading(plan: Plan) -> str:
    """What goes in and what comes out: "z 2x100 -> image 2x3x64x64, 5 steps"."""
    sides = (
        ", ".join(f"{name} {shape_text(plan.buffers[name].shape)}" for name in names)
        for names in (plan.inputs, plan.outputs)
    )
    count = len(plan.steps)
    return f"{' -> '.join(sides)}, {count} step{'' if count == 1 else 's'}"


def describe(plan: Plan) -> str:
    """The heading, and each step: number, operator, shapes, epilogue, attributes, kernel, note."""
    return "\n".join((heading(plan), *_steps(plan)))


def shape_text(shape: Sequence[int]) -> str:
    """ "1x3x64x64", or "scalar"."""
    return "x".join(map(str, shape)) or "scalar"


def _steps(plan: Plan) -> Iterator[str]:
    for number, step in enumerate(plan.steps, 1):
        parts = [f"{number:>3} {step.op.removeprefix('fastgan.')} {shapes(plan, step)}"]
        # Scales of samples around a modulated product.
        around = step.inputs[4:6] if step.op.startswith("fastgan.Conv") else ()
        for name, given in zip(("scale_in", "scale_out"), around, strict=False):
            parts += [f"+ {name}"] if given else []
        parts += [f"+ {_epilogue(step)}"] if str(step.epilogue) else []
        parts += [f"{key}={_value(v)}" for key, v in step.attributes.items() if _says(key, v)]
        parts += [] if step.kernel == "library" else [f"on {step.kernel}"]
        parts += [f"({step.note})"] if step.note else []
        yield "  ".join(parts)


def shapes(plan: Plan, step: Step) -> str:
    """What a step reads and writes: "1x8 [8x16] -> 1x16", weights in brackets."""
    read = []
    for position, name in enumerate(step.inputs):
        if position >= 2 and step.op.startswith("fastgan."):
            break  # bias, residual and scales have the shapes that the first two say
        if name in plan.buffers:
            read.append(shape_text(plan.buffers[name].shape))
        elif name in plan.weights:
            read.append(f"[{shape_text(meta_of(plan.weights, name).shape)}]")
    written = [shape_text(plan.buffers[name].shape) for name in step.outputs if name]
    return f"{' '.join(read)} -> {' '.join(written)}"


def _epilogue(step: Step) -> str:
    """Its text with a slope of few digits: the last ones of a learned one differ between CPUs."""
    few = tuple(float(f"{number:.3g}") for number in step.epilogue.parameters)
    return str(replace(step.epilogue, parameters=few))


def _says(key: str, value: Any) -> bool:
    flat = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return key not in _PLAIN or set(flat) - set(_PLAIN[key]) != set()


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(each, Instruction) for each in value):
            return " ".join(each.operation for each in value)
        return ",".join(map(_value, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
