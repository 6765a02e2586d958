"""What changes nothing: exporters write it where a module's factor or flag is its default."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule

#: The number that each operator leaves its other operand alone with.
_NEUTRAL = {"Mul": 1.0, "Div": 1.0, "Add": 0.0, "Sub": 0.0}


#: What has sequences of lengths of their own, its input 4.
_WITH_LENGTHS = ("RNN", "GRU", "LSTM")


class DropNeutral(Rule):
    """Mul(x, 1), Div(x, 1), Add(x, 0), Sub(x, 0) -> x."""

    def pattern(self, op: Any, x: Any, number: Any) -> Any:
        return getattr(op, self.of)(x, number, _outputs=["out"])

    def refuses(self, x: ir.Value, number: ir.Value, out: ir.Value) -> str | None:
        constant = nodes.constant(number)
        if constant is None or constant.size != 1:
            return "the other operand is no number"
        if constant.item() != _NEUTRAL[self.of] or nodes.shape(x) != nodes.shape(out):
            return "it changes something"
        return None

    def rewrite(self, op: Any, x: ir.Value, number: ir.Value, out: ir.Value) -> Any:
        return op.Identity(x)


class DropChoice(Rule):
    """Where(constant, x, y) -> the one that it always takes."""

    def pattern(self, op: Any, condition: Any, x: Any, y: Any) -> Any:
        return op.Where(condition, x, y, _outputs=["out"])

    def refuses(self, condition: ir.Value, x: ir.Value, y: ir.Value, out: ir.Value) -> str | None:
        constant = nodes.constant(condition)
        if constant is None or not (constant.all() or not constant.any()):
            return "it takes some of each"
        if nodes.shape(x if constant.all() else y) != nodes.shape(out):
            return "it enlarges what it takes"
        return None

    def rewrite(self, op: Any, condition: ir.Value, x: ir.Value, y: ir.Value, out: ir.Value) -> Any:
        constant = nodes.constant(condition)
        assert constant is not None
        return op.Identity(x if constant.all() else y)


class DropCast(Rule):
    """Cast between whole numbers -> its input, where that is the lengths of sequences."""

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Cast(x, **nodes.ANY, _outputs=["out"])

    def refuses(self, x: ir.Value, out: ir.Value) -> str | None:
        uses = out.uses()
        if any(use.node.op_type not in _WITH_LENGTHS or use.idx != 4 for use in uses):
            return "it is not the lengths of sequences alone"
        if out.is_graph_output() or x.dtype is None or not x.dtype.is_integer():
            return "it makes other numbers"
        return None

    def rewrite(self, op: Any, x: ir.Value, out: ir.Value) -> Any:
        return op.Identity(x)


RULES = (DropCast.rule(), *(DropNeutral.rule(operator) for operator in _NEUTRAL), DropChoice.rule())
