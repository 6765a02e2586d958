"""Follows the samples through a graph, node by node, by the rule of each operator."""

from __future__ import annotations

import functools
from collections.abc import Collection

import onnx_ir as ir

from fastgan.ops.registry import find
from fastgan.plan import sample_rules, sample_rules_picking, sample_rules_products
from fastgan.plan.sample_rules import Rule
from fastgan.plan.samples import Flow, Names

_RULES = sample_rules.RULES | sample_rules_picking.RULES | sample_rules_products.RULES


def follow(
    model: ir.Model,
    inputs: Collection[str],
    n: int,
    names: Names | None = None,
) -> Flow:
    """Follow the samples through a specialised graph, rewritten or not; it is not changed.

    Args:
        inputs: the names of those whose first axis, of length n, is the samples.
        names: to number how values are made, so that those of another batch can be compared.
    """
    flow = Flow(n, names)
    for value in model.graph.inputs:
        flow.begin(value, value.name in inputs)
    opset = model.opset_imports.get("", 1)
    for node in model.graph:
        flow.visit(node, rule_of(node.domain, node.op_type, opset))
    return flow


@functools.cache
def rule_of(domain: str, name: str, opset: int) -> Rule | None:
    """The rule of an operator at this opset; None where there is none."""
    domain = "" if domain == "ai.onnx" else domain
    rule = _RULES.get((domain, name))
    if rule is not None:
        return rule
    if not domain and name in ("Softmax", "LogSoftmax", "Hardmax"):
        return sample_rules.along_last if opset >= 13 else sample_rules.along_rest
    op = find(domain, name, opset)
    return sample_rules.elementwise if op is not None and op.elementwise else None
