"""One measured figure, and what it has to reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a model, measured on data that it was not trained on.

    Attributes:
        value: what was measured.
        explanation: what it is, in one line, with the data that it was measured on.
        least: what it must at least reach; None where nothing is promised.
        most: what it may at most be; None where nothing is promised.
        baseline: the same figure of what the model is compared with: real images, or the plain
            method that it replaces. `explanation` says which.
        unit: "dB", "%", or nothing.
    """

    value: float
    explanation: str
    least: float | None = None
    most: float | None = None
    baseline: float | None = None
    unit: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether it is what it must be; None where nothing is promised, False for a NaN."""
        if self.least is None and self.most is None:
            return None
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)

    @property
    def promise(self) -> str:
        """What it must reach, in words: ">= 0.9", "5 to 15 %"; empty where nothing is promised."""
        unit = f" {self.unit}" if self.unit else ""
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}{unit}"
        if self.least is not None:
            return f">= {self.least:g}{unit}"
        return "" if self.most is None else f"<= {self.most:g}{unit}"
