"""Which kernel a step of a plan is bound to, or why none covers it."""

from __future__ import annotations

from fastgan.engine.base import Target
from fastgan.engine.library import modulated
from fastgan.engine.triton.binding import Binding
from fastgan.engine.triton.passes import (
    ConcatBinding,
    NormaliseBinding,
    PointwiseBinding,
    RowsBinding,
)
from fastgan.engine.triton.products import (
    ConvBinding,
    ConvTransposeBinding,
    DepthwiseBinding,
    LinearBinding,
)
from fastgan.engine.triton.workspace import Workspace
from fastgan.kernels.epilogue import ACTIVATIONS
from fastgan.plan import Plan, Step, cost

#: The longest rows that a program of the normalisation holds in its registers.
_LONGEST_ROW = 16384

_PRODUCTS = ("fastgan.Linear", "fastgan.Conv", "fastgan.ConvTranspose")

#: Attributes of the products that the kernels know; another one is for the library op.
_KNOWN = {"strides", "pads", "dilations", "group", "output_padding", "shape"}
_ADDRESSING = {"pad_mode", "upsample", "shuffle", "shuffle_mode"}


def bind(step: Step, plan: Plan, target: Target, workspace: Workspace) -> Binding | str:
    """The step on a kernel, or why no kernel covers it ("" where none would be expected)."""
    kind, refusal = _choose(step, plan)
    if kind is None:
        return refusal
    if step.op in _PRODUCTS and step.inputs[0] in plan.weights:
        return "an input is constant"
    if step.epilogue.activation not in ACTIVATIONS:
        return f"activation {step.epilogue.activation}"
    return kind(step, plan, target, workspace)


def _choose(step: Step, plan: Plan) -> tuple[type[Binding] | None, str]:
    if step.op == "fastgan.Normalise":
        return _choose_norm(step, plan)
    if step.op == "fastgan.Pointwise":
        return PointwiseBinding, ""
    if step.op == "Concat":
        return _choose_concat(step, plan)
    return _choose_product(step, plan) if step.op in _PRODUCTS else (None, "")


def _choose_norm(step: Step, plan: Plan) -> tuple[type[Binding] | None, str]:
    shape, over = plan.buffers[step.inputs[0]].shape, step.attributes["over"]
    if over == "space" and not step.attributes["centre"]:
        return None, "over space without a mean"
    if over != "space" and shape[-1 if over == "last" else 1] > _LONGEST_ROW:
        return None, f"rows of {shape[-1 if over == 'last' else 1]}"
    if over == "last":
        return RowsBinding, ""
    return (NormaliseBinding, "") if len(shape) in (3, 4) else (None, f"{len(shape) - 2} axes")


def _choose_concat(step: Step, plan: Plan) -> tuple[type[Binding] | None, str]:
    output = plan.buffers[step.outputs[0]]
    rank = len(output.shape)
    if rank not in (3, 4) or step.attributes["axis"] % rank != 1:
        return None, ""
    if not output.dtype.is_floating_point or any(n not in plan.buffers for n in step.inputs):
        return None, ""
    return ConcatBinding, ""


def _choose_product(step: Step, plan: Plan) -> tuple[type[Binding] | None, str]:
    known = _KNOWN | _ADDRESSING if step.op == "fastgan.Conv" else _KNOWN
    unknown = sorted(step.attributes.keys() - known)
    if unknown:
        return None, f"{unknown[0]} is not in the kernel"
    if step.inputs[0] not in plan.buffers:
        return None, "an input is constant"
    rank = len(plan.buffers[step.inputs[0]].shape) - 2
    a = step.attributes
    if step.op == "fastgan.Linear":
        if rank != 0 or len(a.get("shape") or ()) > 3:
            return None, f"an image of {len(a.get('shape') or ()) - 1} axes"
        return LinearBinding, ""
    if rank not in (1, 2):
        return None, f"{rank} axes"
    depthwise = cost.is_depthwise(step.op, plan.weights[step.inputs[1]].shape, a["group"])
    if a["group"] != 1 and not depthwise:
        return None, f"{a['group']} groups"
    if depthwise and "shuffle" in a:
        return None, "depthwise, and shuffled"
    if modulated.is_modulated(step, plan.buffers) and "shuffle" in a:
        return None, "modulated, and shuffled"
    if step.op == "fastgan.Conv":
        moved = _ADDRESSING & step.attributes.keys() - {"pad_mode"}
        if moved and rank == 1:
            return None, "pixels move along one axis"
        return (DepthwiseBinding if depthwise else ConvBinding), ""
    if any(d != 1 for d in a["dilations"]):
        return None, "dilated"
    if any(p < 0 for p in a["pads"]):
        return None, "cropped"
    return (DepthwiseBinding if depthwise else ConvTransposeBinding), ""
