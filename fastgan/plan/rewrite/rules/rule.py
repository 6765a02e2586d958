"""What our rules have in common: their names, and checks that say in words what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnxscript.rewriter import MatchResult, RewriteRuleClassBase


def _never(**values: Any) -> None:
    """Replaces whatever fits the pattern."""


class Rule(RewriteRuleClassBase):
    """A rewrite rule; `rule(of)` makes it for one operator of several, which its name then says.

    `pattern` and `rewrite` are onnxscript's. In place of its `check` there is `refuses`: of the
    values that the pattern names, why they are not to be replaced, or None.
    """

    refuses: Callable[..., str | None] = staticmethod(_never)

    def __init__(self, of: str = "") -> None:
        name = type(self).__name__
        super().__init__(f"{name}({of})" if of else name)
        self.of = of

    def check(self, op: Any, *args: Any, **values: Any) -> MatchResult:
        """As onnxscript asks it."""
        reason = self.refuses(**values)
        return MatchResult() if reason is None else MatchResult().fail(reason)
