"""Model-local functions, put in place of their calls: nothing later needs to know of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import onnx.inliner

from fastgan.errors import LimitError, UnsupportedError
from fastgan.limits import Limits, size_text
from fastgan.model.file.source import Source

CALLS = 64  # functions that call one another, in a row; exporters nest them as modules nest

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a body comes to with every call in it replaced."""

    nodes: int = 0
    size: int = 0
    calls: int = 0


def inline(proto: onnx.ModelProto, source: Source, limits: Limits) -> onnx.ModelProto:
    """`proto` without local functions; itself if it has none.

    Ten functions that call the next one ten times each are ten thousand million nodes, so what the
    calls come to is counted before any is replaced.
    """
    if not proto.functions:
        return proto
    functions: dict[_Key, onnx.FunctionProto] = {}
    for function in proto.functions:
        key = (function.domain, function.name, function.overload)
        if key in functions:
            where = f"function '{function.name}'"
            raise source.error("a second definition", "each name defined once", at=where)
        functions[key] = function
    costs: dict[_Key, _Cost] = {}
    for key in _callees_first(functions, source):
        costs[key] = _cost(functions[key].node, costs)
    total = _cost(proto.graph.node, costs)
    if total.nodes > limits.nodes:
        found = f"{total.nodes} nodes once its functions are inlined"
        raise LimitError(source.name, found, f"at most {limits.nodes} (Limits.nodes)")
    if total.calls > CALLS:
        found = f"functions that call one another {total.calls} deep"
        raise LimitError(source.name, found, f"at most {CALLS}")
    if total.size > len(source.data) + limits.constant_bytes:
        found = f"{size_text(total.size)} once its functions are inlined"
        needed = f"at most {size_text(limits.constant_bytes)} on top (Limits.constant_bytes)"
        raise LimitError(source.name, found, needed)
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    for function in proto.functions:
        for entry in function.opset_import:
            if versions.setdefault(entry.domain, entry.version) != entry.version:
                raise UnsupportedError(
                    f"{source.name}: function '{function.name}'",
                    f"opset {entry.version} of '{entry.domain or 'ai.onnx'}'",
                    f"{versions[entry.domain]}, the model's",
                )
    try:
        inlined = onnx.inliner.inline_local_functions(proto)
    except Exception as error:
        found = f"functions that onnx cannot inline ({str(error)[:200]})"
        raise source.error(found, "functions that fit their calls") from None
    known = {entry.domain for entry in inlined.opset_import}
    for domain, version in versions.items():
        if domain not in known:
            inlined.opset_import.add(domain=domain, version=version)
    del inlined.functions[:]
    return inlined


def _callees_first(functions: dict[_Key, onnx.FunctionProto], source: Source) -> list[_Key]:
    """The functions in an order in which each comes after those that it calls."""
    order: list[_Key] = []
    state: dict[_Key, int] = {}  # 1: being visited, 2: done
    for start in functions:
        todo = [start]
        while todo:
            key = todo[-1]
            if state.get(key):
                todo.pop()
                if state[key] == 1:
                    state[key] = 2
                    order.append(key)
                continue
            state[key] = 1
            for node in _nodes(functions[key].node):
                called = (node.domain, node.op_type, node.overload)
                if called in functions and state.get(called) != 2:
                    if state.get(called) == 1:
                        where = f"function '{functions[called].name}'"
                        raise source.error("a call of itself", "no recursion", at=where)
                    todo.append(called)
    return order


def _cost(body: object, costs: dict[_Key, _Cost]) -> _Cost:
    nodes = size = calls = 0
    for node in _nodes(body):
        called = costs.get((node.domain, node.op_type, node.overload))
        if called is None:
            nodes += 1
        else:
            nodes, size = nodes + called.nodes, size + called.size
            calls = max(calls, called.calls + 1)
    return _Cost(nodes, size + sum(node.ByteSize() for node in body), calls)  # type: ignore


def _nodes(body: object) -> Iterator[onnx.NodeProto]:
    """The nodes of a body and of the graphs within it."""
    for node in body:  # type: ignore[attr-defined]
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g.node)
            for graph in attribute.graphs:
                yield from _nodes(graph.node)
