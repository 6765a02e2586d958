"""A model as the file has it, node by node: the reference, and PyTorch's own way of running it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastgan import ops
from fastgan.model.opened import Model
from fastgan.plan import Plan
from fastgan.plan.lower import lower
from fastgan.plan.specialise import specialise


def unfused_plan(model: Model, n: int) -> Plan:
    """The plan for n samples without any rewrite: a step for each node of the specialised graph.

    Raises:
        UnsupportedError: an op that fastgan does not have, named with its node.
    """
    return lower(specialise(model.file.model, model.shapes(n)))


def as_module(model: Model, n: int) -> fx.GraphModule:
    """The model for n samples as straight-line PyTorch: one call of the op registry for each node.

    `forward` takes the inputs by the model's order and returns a tuple of its outputs. Nothing is
    fused and nothing is cast, so it is the reference for every backend, and a fair subject for
    eager PyTorch and `torch.compile`.

    Raises:
        UnsupportedError: an op that fastgan does not have, named with its node.
    """
    plan = unfused_plan(model, n)
    opset = model.file.model.opset_imports.get("", 1)
    root, graph = nn.Module(), fx.Graph()
    values: dict[str, fx.Node] = {}
    for index, name in enumerate(plan.inputs):
        values[name] = graph.placeholder(f"input{index}")

    def constant(tensor: Tensor) -> fx.Node:
        name = f"constant{len(list(root.buffers()))}"
        root.register_buffer(name, tensor.clone())
        return graph.get_attr(name)

    weights: dict[str, fx.Node] = {}
    for step in plan.steps:
        op = ops.find("", step.op, opset)
        assert op is not None, f"{step.op} was specialised but is not registered"
        arguments: list[Any] = []
        for position, name in enumerate(step.inputs):
            if not name:
                arguments.append(None)
            elif name in values:
                arguments.append(values[name])
            elif position in op.host:
                arguments.append(plan.weights[name].tolist())
            else:
                if name not in weights:
                    weights[name] = constant(plan.weights[name])
                arguments.append(weights[name])
        attributes = {
            key: constant(value) if isinstance(value, Tensor) else value
            for key, value in step.attributes.items()
        }
        result = graph.call_function(op.function, tuple(arguments), attributes)
        _name_outputs(graph, result, step.outputs, values)
    graph.output(tuple(values[name] for name in plan.outputs))
    return fx.GraphModule(root, graph).eval()


def run_reference(
    module: fx.GraphModule, model: Model, inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The module's outputs by name, computed in the types that the file has."""
    with torch.inference_mode():
        results = module(*[inputs[port.name] for port in model.signature.inputs])
    names = [output.name for output in model.signature.outputs]
    return dict(zip(names, results, strict=True))


def _name_outputs(
    graph: fx.Graph, result: fx.Node, names: tuple[str, ...], values: dict[str, fx.Node]
) -> None:
    if len(names) == 1:
        values[names[0]] = result
        return
    for index, name in enumerate(names):
        values[name] = graph.call_function(_item, (result, index))


def _item(results: Any, index: int) -> Tensor:
    item: Tensor = results[index] if isinstance(results, tuple) else results
    return item
