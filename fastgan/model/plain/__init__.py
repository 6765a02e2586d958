"""Operators of ONNX Runtime's own as plain ONNX ones: what its optimiser and quantiser write.

A file that ONNX Runtime saved after optimising holds `com.microsoft.FusedConv`, `BiasGelu`,
`FusedMatMul` and their kin, and convolutions whose weights lie in the blocks of one processor's
vectors (`com.microsoft.nchwc`). `plain` writes each as ONNX's own operators, so that nothing later
needs to know of them, and makes weights of integers that are constant the floats that they stand
for. What is computed stays the same; the bytes that ONNX Runtime is given stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from fastgan.errors import UnsupportedError
from fastgan.model.plain import microsoft, nchwc, quantised
from fastgan.model.plain.build import Builder, CannotError, Converter

__all__ = ["plain"]

#: By domain and name.
CONVERTERS: dict[tuple[str, str], Converter] = {**microsoft.CONVERTERS, **quantised.CONVERTERS}


def plain(model: ir.Model) -> ir.Model:
    """The model with ONNX's own operators wherever its others are known, in place.

    A node that is not understood, or does not keep to its operator's rules, stays as it is; one
    whose images lie in blocks does so where any of the graph does.
    """
    opset = model.opset_imports.get("", 1)
    for graph in list(_graphs(model.graph)):
        _unblock(graph, opset)
        for node in graph:
            domain = "" if node.domain == "ai.onnx" else node.domain
            convert = CONVERTERS.get((domain, node.op_type))
            made = None if convert is None else _Made.of(node, convert, opset)
            if made is not None:
                made.put(graph)
    return model


def _unblock(graph: ir.Graph, opset: int) -> None:
    """Convert all nodes whose images lie in blocks, or none."""
    nodes = [node for node in graph if node.domain == nchwc.DOMAIN]
    if not nodes:
        return
    try:
        convert = nchwc.converter(graph)
    except (CannotError, *_FOREIGN):
        return
    made: list[_Made] = []
    for node in nodes:
        found = _Made.of(node, convert, opset)
        if found is None:
            for each in made:
                each.forget()
            return
        made.append(found)
    for each in reversed(made):  # so that a value which is handed on is still what it was
        each.put(graph)


def _graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    """A graph and those within its nodes."""
    yield graph
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _graphs(attribute.as_graph())
            elif attribute.type == ir.AttributeType.GRAPHS:
                for inner in attribute.as_graphs():
                    yield from _graphs(inner)


#: What a converter raises at a node that breaks its operator's rules.
_FOREIGN = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError),
    UnsupportedError,
)


@dataclass(frozen=True, slots=True)
class _Made:
    """What is to stand in a node's place: the nodes, and the values of its outputs."""

    builder: Builder
    values: Sequence[ir.Value]

    @staticmethod
    def of(node: ir.Node, convert: Converter, opset: int) -> _Made | None:
        """None where the node is not understood."""
        made = _Made(Builder(node, opset), ())
        try:
            values = convert(made.builder)
        except (CannotError, *_FOREIGN):
            made.forget()
            return None
        return _Made(made.builder, [values] if isinstance(values, ir.Value) else values)

    def forget(self) -> None:
        """Leave no trace of it."""
        for node in self.builder.nodes:
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)
        for value in self.builder.constants:
            if value.graph is not None:
                value.graph.initializers.pop(value.name or "")

    def put(self, graph: ir.Graph) -> None:
        """Put it in the node's place."""
        node, given = self.builder.node, list(self.builder.node.inputs)
        for old, new in zip(node.outputs, self.values, strict=False):
            if new is old:
                continue
            if new.producer() not in self.builder.nodes and old.is_graph_output():
                new = self.builder("Identity", new)
            if new.producer() in self.builder.nodes:
                new.type, new.shape = old.type or new.type, old.shape or new.shape
                old.name, new.name = None, old.name
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        graph.insert_after(node, self.builder.nodes)
        graph.remove(node, safe=True)
        _drop_unused(graph, given)


def _drop_unused(graph: ir.Graph, values: Sequence[ir.Value | None]) -> None:
    """Let go of the weights among these that nothing reads any more."""
    for value in values:
        name = "" if value is None else value.name or ""
        if value is None or graph.initializers.get(name) is not value or value.uses():
            continue
        if not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[name]
