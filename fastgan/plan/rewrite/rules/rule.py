"""What our rules have in common: their names, and checks that say in words what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from fastgan.plan.rewrite.rules import helpers as nodes


def _never(**values: Any) -> None:
    """Replaces whatever fits the pattern."""


class Rule(RewriteRuleClassBase):
    """A rewrite rule; `rule(of)` makes it for one operator of several, `rule(of, behind)` for one
    behind another, which its name then says.

    `pattern` and `rewrite` are onnxscript's. In place of its `check` there is `refuses`: of the
    values that the pattern names, why they are not to be replaced, or None.
    """

    refuses: Callable[..., str | None] = staticmethod(_never)

    def __init__(self, of: str = "", behind: str = "") -> None:
        name, given = type(self).__name__, ", ".join(filter(None, (of, behind)))
        super().__init__(f"{name}({given})" if given else name)
        self.of, self.behind = of, behind

    def check(self, op: Any, *args: Any, **values: Any) -> MatchResult:
        """As onnxscript asks it."""
        reason = self.refuses(**values)
        return MatchResult() if reason is None else MatchResult().fail(reason)


class OfAny(Rule):
    """A rule for any node of an operator with a first input, whatever else it has."""

    def pattern(self, op: Any, x: Any) -> Any:
        """As onnxscript asks it."""
        return getattr(op, self.of)(x, **nodes.ANY, _outputs=["out"])
