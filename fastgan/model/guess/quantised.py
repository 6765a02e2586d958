"""The graph as it was before it was quantised, for what is guessed from it."""

from __future__ import annotations

import onnx_ir as ir


def without_quantisers(graph: ir.Graph) -> ir.Graph:
    """A copy in which no value is rounded on its way: without pairs of QuantizeLinear and
    DequantizeLinear. The graph itself where it has none.
    """
    if not any(_rounded(node) for node in graph):
        return graph
    copy = graph.clone()
    for node in copy:
        value = _rounded(node)
        if value is None:
            continue
        made = node.outputs[0]
        if made.is_graph_output():
            name, made.name = made.name, None
            same = ir.Node("", "Identity", [value])
            same.outputs[0].name = name
            same.outputs[0].type, same.outputs[0].shape = made.type, made.shape
            copy.insert_after(node, same)
            value = same.outputs[0]
        ir.convenience.replace_all_uses_with(made, value, replace_graph_outputs=True)
        copy.remove(node, safe=True)
    return copy


def _rounded(node: ir.Node) -> ir.Value | None:
    """What a DequantizeLinear gives back, where it undoes a QuantizeLinear; else None."""
    if node.domain or node.op_type != "DequantizeLinear" or not node.inputs:
        return None
    before = None if node.inputs[0] is None else node.inputs[0].producer()
    if before is None or before.domain or before.op_type != "QuantizeLinear":
        return None
    return before.inputs[0] if list(before.inputs[1:]) == list(node.inputs[1:]) else None
