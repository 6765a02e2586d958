"""Times one and plus zero: exporters write them where a module's factor is its default."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule

#: The number that each operator leaves its other operand alone with.
_NEUTRAL = {"Mul": 1.0, "Div": 1.0, "Add": 0.0, "Sub": 0.0}


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


RULES = tuple(DropNeutral.rule(operator) for operator in _NEUTRAL)
