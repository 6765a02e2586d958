"""What the passes did to a graph, and what kept a rule from what it nearly matched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from fastgan.plan.rewrite.rules.helpers import origin


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that was applied.

    Attributes:
        stage: the name of the pass.
        rule: its name.
        nodes: the names of the ONNX nodes behind those that it replaced.
    """

    stage: str
    rule: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Missed:
    """A rule that was tried at a node and not applied.

    Attributes:
        stage, rule: as of `Fired`.
        nodes: the names of the ONNX nodes behind those that fitted its pattern, the last one first.
        reason: in the words of the rule's check, or else of the matcher.
        checked: whether all of its pattern was there, so that its own check refused it.
    """

    stage: str
    rule: str
    nodes: tuple[str, ...]
    reason: str
    checked: bool


@dataclass(slots=True)
class Watch:
    """Collects both, in order, from `rewrite(model, watch)`; a tracer of onnxscript's matching.

    Of a node that fits a rule up to its last check alone the miss is near; a rule whose operators
    are not even there is not tried, and leaves no trace.
    """

    fired: list[Fired] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)

    def begin(self, stage: str) -> None:
        """What follows is of this pass."""
        self.stages.append(stage)

    def apply(self, rule: Any, nodes: Iterable[ir.Node]) -> None:
        """A rule is about to replace these nodes."""
        self.fired.append(Fired(self.stages[-1], rule.name, _origins(nodes)))

    def log(self, rule: Any, graph: Any, node: ir.Node, match: Any, status: Any) -> None:
        """A rule was tried at a node: see `onnxscript.rewriter.MatchingTracer.log`."""
        if status.name == "SUCCESS":
            return
        nodes = (node, *(other for other in match.nodes if other is not node))
        checked = status.name != "NO_MATCH"
        reason = " ".join(str(match.reason).split()).rstrip(".")
        self.missed.append(Missed(self.stages[-1], rule.name, _origins(nodes), reason, checked))

    def nearest(self, stage: str) -> list[Missed]:
        """Of each rule the misses of a pass that came furthest: refused by its check, if any were.

        What the matcher refused counts where more than the last node fitted. Where the pass had a
        rule for that node after all, or took the operands in another order, nothing was missed.
        """
        done = {name for one in self.fired if one.stage == stage for name in one.nodes}
        by_rule: dict[str, list[Missed]] = {}
        for miss in self.missed:
            if miss.stage == stage and miss.nodes[0] not in done:
                by_rule.setdefault(miss.rule, []).append(miss)
        found: list[Missed] = []
        for each in by_rule.values():
            checked = [miss for miss in each if miss.checked]
            found += dict.fromkeys(checked or [miss for miss in each if len(miss.nodes) > 1])
        return found

    def report(self) -> Iterator[str]:
        """Lines for a reader: pass by pass what fired how often, and the nearest misses."""
        for stage in self.stages:
            fired = Counter(one.rule for one in self.fired if one.stage == stage)
            lines = [f"  fired {count}x {rule}" for rule, count in fired.items()]
            near = self.nearest(stage)
            first = {(miss.rule, miss.reason): miss.nodes[0] for miss in reversed(near)}
            for (rule, reason), count in Counter((m.rule, m.reason) for m in near).items():
                more = f" and {count - 1} more" if count > 1 else ""
                lines.append(f"  not {rule} at {first[rule, reason]}{more}: {reason}")
            if lines:
                yield from (stage, *lines)


def _origins(nodes: Iterable[ir.Node]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for node in nodes for name in origin(node)))
