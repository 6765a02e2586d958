"""The shape of a model's result for images of a size, by binding its graph to them."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import torch

from fastgan.errors import UnsupportedError
from fastgan.plan.specialise import MisfitError, specialise


def result_shape(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]], output: str
) -> tuple[int, ...]:
    """The shape of an output for inputs of these shapes.

    Raises:
        MisfitError: the model does not take them; also where it reflects an image beyond its other
            end, which engines understand each in their own way.
        UnsupportedError: as `specialise`; or there is no graph, as of a bundle.
        LimitError: as `specialise`.
    """
    if not any(value.name == output for value in model.graph.outputs):
        raise UnsupportedError(output, "no such output of the graph", "a run that tells")
    graph = specialise(model, shapes).graph
    for node in graph:
        if node.op_type == "Pad" and node.attributes.get_string("mode", "constant") == "reflect":
            _check_reflection(node)
    shape = next((value.shape for value in graph.outputs if value.name == output), None)
    return () if shape is None else tuple(int(size) for size in shape.numpy())


def _check_reflection(node: ir.Node) -> None:
    x = node.inputs[0]
    assert x is not None
    assert x.shape is not None
    sizes = [int(size) for size in x.shape.numpy()]
    pads = [*(node.attributes.get_ints("pads", ()) or ())] or _constant(node, 1)
    axes = _constant(node, 3) or range(len(sizes))
    for axis, before, after in zip(axes, pads, pads[len(pads) // 2 :], strict=False):
        if max(before, after) >= sizes[axis]:
            shown = [torch.empty(sizes, device="meta"), pads]
            raise MisfitError(node, "Pad", shown, "reflected beyond its other end")


def _constant(node: ir.Node, index: int) -> list[int]:
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = None if value is None else value.const_value
    return [] if tensor is None else [int(number) for number in tensor.numpy().reshape(-1)]
