"""What kind of network a graph looks like: how much it grows an image, which norms it has."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import onnx_ir as ir

from fastgan.model.guess.arithmetic import array


@dataclass(frozen=True, slots=True)
class Traits:
    """What kind of network it looks like.

    Attributes:
        instance_norm: it has instance norms that no group norm is written as.
        wide_reflection: its first convolution is 9 wide or more, over a reflected border.
        generative: what it has of a generator or an autoencoder of [-1, 1]; empty for nothing.
    """

    instance_norm: bool
    wide_reflection: bool
    generative: str

    @staticmethod
    def of(graph: ir.Graph) -> Traits:
        instance, group, modulated = False, False, False
        fed = {value for value in graph.inputs if not value.is_initializer()}
        for node in graph:
            if not fed.isdisjoint(node.inputs):
                fed.update(node.outputs)
            if node.op_type == "InstanceNormalization":
                before = node.inputs[0].producer() if node.inputs and node.inputs[0] else None
                grouped = before is not None and before.op_type == "Reshape"
                group, instance = group or grouped, instance or not grouped
            elif node.op_type == "GroupNormalization":
                group = True
            elif node.op_type in ("Conv", "ConvTranspose") and len(node.inputs) > 1:
                modulated = modulated or node.inputs[1] in fed
        kinds = {"modulated convolutions": modulated, "group norms": group}
        generative = next((kind for kind, has in kinds.items() if has), "")
        return Traits(instance, any(map(_begins_wide, graph.inputs)), generative)


def _begins_wide(value: ir.Value) -> bool:
    """Whether an input is padded by reflection for a wide convolution."""
    for pad in value.consumers():
        mode = pad.attributes.get_string("mode", "constant") if pad.op_type == "Pad" else None
        for node in pad.outputs[0].consumers() if mode == "reflect" else ():
            if node.op_type == "Conv" and max(node.attributes.get_ints("kernel_shape", [0])) >= 9:
                return True
    return False


def growth(source: ir.Value, output: ir.Value) -> Fraction | None:
    """The output's height by the input's, where sizes or strides tell."""
    heights = [
        value.shape[2] if value.shape is not None and len(value.shape) == 4 else None
        for value in (source, output)
    ]
    if all(isinstance(height, int) and height > 0 for height in heights):
        return Fraction(int(heights[1]), int(heights[0]))  # type: ignore[arg-type]
    graph = output.graph
    known: dict[ir.Value, Fraction | None] = {source: Fraction(1)}
    for node in () if graph is None else graph:
        scales = [known[v] for v in node.inputs if v is not None and v in known]
        if scales:
            told = [scale for scale in scales if scale is not None]
            change = _change(node) if told else None
            scale = max(told) * change if told and change is not None else None
            known |= dict.fromkeys(node.outputs, scale)
    return known.get(output)


def _change(node: ir.Node) -> Fraction | None:
    """The height of a node's output by that of its input; None where that is not told."""
    op, attributes = node.op_type, node.attributes
    if op in ("Conv", "ConvInteger", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"):
        stride = (list(attributes.get_ints("strides", ())) or [1])[0]
        return None if stride < 1 else Fraction(stride) ** (1 if op == "ConvTranspose" else -1)
    if op in ("DepthToSpace", "SpaceToDepth"):
        block = attributes.get_int("blocksize", None) or 1
        return Fraction(max(1, block)) ** (1 if op == "DepthToSpace" else -1)
    if op in ("Resize", "Upsample"):
        scales = None
        for value in node.inputs[1:3]:
            found = None if value is None else array(value)
            scales = found if found is not None and found.size == 4 else scales
        if scales is None or not 0 < scales.reshape(-1)[2] < 1 << 16:
            return None
        return Fraction(float(scales.reshape(-1)[2])).limit_denominator(64)
    lost = ("Reshape", "Flatten", "Transpose", "MatMul", "Gemm", "GlobalAveragePool", "ReduceMean")
    return None if op in lost else Fraction(1)
