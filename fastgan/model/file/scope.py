"""Which names a graph can see, and what depends on what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx


@dataclass(slots=True)
class Scope:
    """The names that a graph defines, on top of those around it."""

    outer: Scope | None
    fixed: int = 0  # Ifs around it whose condition is a constant
    names: set[str] = field(default_factory=set)
    constants: set[str] = field(default_factory=set)
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def defines(self, name: str) -> bool:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return True
            scope = scope.outer
        return False

    def is_constant(self, name: str) -> bool:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return name in scope.constants
            scope = scope.outer
        return False

    def weight(self, name: str) -> tuple[int, ...] | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.weights.get(name)
            scope = scope.outer
        return None


def reaches(
    producers: dict[str, onnx.NodeProto], start: onnx.NodeProto, goals: Iterable[str]
) -> bool:
    """Whether `start` depends on one of the values `goals`."""
    goals, seen, todo = set(goals), set(), list(start.input)
    if goals & set(start.output):
        return True
    while todo:
        name = todo.pop()
        if name in goals:
            return True
        if name not in seen and name in producers:
            seen.add(name)
            todo.extend(producers[name].input)
    return False
