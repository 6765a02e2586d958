"""Applies rules to a graph, asking at each node only those that can match there.

onnxscript's own `RewriteRuleSet` tries every rule at every node, which takes most of the load time
of a graph of thousands of nodes. The rules, the matching and the replacing are onnxscript's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass
from onnxscript.rewriter import RewriteRule
from onnxscript.rewriter._pattern_ir import StringConstantPattern

from fastgan.plan.rewrite.watch import Watch

#: The domain and the name of an operator.
_Operator = tuple[str, str]


class Rules:
    """An ordered set of rules, both orders of commuting operands included."""

    def __init__(self, rules: Sequence[RewriteRule]) -> None:
        self._all = [_Entry(r) for r in chain.from_iterable(rule.commute() for rule in rules)]
        self._by_operator: dict[_Operator, list[_Entry]] = {}

    def apply(self, model: ir.Model, watch: Watch | None = None) -> int:
        """Walk the graph once, in place, giving each node the first rule that matches there.

        watch: is told of each rule that was applied, and of each that was tried in vain.

        Returns:
            How many rules were applied.
        """
        graph, count = model.graph, 0
        for node in graph:
            for rule in self._ending_in((node.domain, node.op_type)):
                found = rule.try_at(node, model, watch)
                if found is None:
                    continue
                if watch is not None:
                    watch.apply(rule.rule, found.match.nodes)
                for value in found.new_initializers:
                    _add_initializer(graph, value)
                ir.convenience.replace_nodes_and_values(
                    graph,
                    node,
                    found.match.nodes if rule.rule.remove_nodes else [],
                    found.new_nodes,
                    found.match.outputs,
                    found.new_outputs,
                )
                count += 1
                break
        if count:
            NameFixPass()(model)  # New values have no names yet, or those of others.
        return count

    def _ending_in(self, operator: _Operator) -> list[_Entry]:
        if operator not in self._by_operator:
            found = [entry for entry in self._all if entry.end in (operator, None)]
            self._by_operator[operator] = found
        return self._by_operator[operator]


class _Entry:
    """A rule, with what its pattern's last node and that one's inputs must be."""

    def __init__(self, rule: RewriteRule) -> None:
        self.rule = rule
        last = rule._target_pattern.output_node
        self.end = _operator(last)
        producers = ((i, value and value.producer()) for i, value in enumerate(last.inputs))
        self.inputs = [(i, wanted) for i, node in producers if (wanted := _operator(node))]

    def try_at(self, node: ir.Node, model: ir.Model, watch: Watch | None) -> Any:
        """What replaces the nodes that the pattern matches, this one last; or None."""
        for index, wanted in self.inputs:
            value = node.inputs[index] if index < len(node.inputs) else None
            producer = None if value is None else value.producer()
            if producer is None or (producer.domain, producer.op_type) != wanted:
                return None
        tracer: Any = watch  # which takes what a MatchingTracer does
        return self.rule.try_rewrite(model, model.graph, node, tracer=tracer)


def _add_initializer(graph: ir.Graph, value: ir.Value) -> None:
    """Add it under a name of its own: one that takes another's place would leave it homeless."""
    name = value.name
    while value.name in graph.initializers:
        value.name = f"{name}.{len(graph.initializers)}"
    graph.initializers.add(value)


def _operator(pattern: Any) -> _Operator | None:
    """The operator of a node of a pattern; None where it leaves it open.

    The pattern's own `op_identifier` is lost where operands were commuted.
    """
    if pattern is None:
        return None
    exact = all(isinstance(part, StringConstantPattern) for part in (pattern.domain, pattern.op))
    return (str(pattern.domain), str(pattern.op)) if exact else None
