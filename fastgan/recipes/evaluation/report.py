"""The figures of one model in every precision that a machine runs it in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import fastgan
from fastgan.engine.base import PRECISIONS
from fastgan.errors import BackendError
from fastgan.generator import Generator
from fastgan.loading import open_model, start
from fastgan.recipes.evaluation.figure import Figure

Figures = Callable[[Generator], dict[str, Figure]]


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured of one model.

    Attributes:
        model: its name or file.
        ran: what ran it, by precision: "torch on cpu".
        figures: by precision, the first of which is the one that the others are compared with.
        refused: why a precision was not measured, by precision.
    """

    model: str
    ran: dict[str, str]
    figures: dict[str, dict[str, Figure]]
    refused: dict[str, str]

    @property
    def reached(self) -> bool:
        """Whether every figure, in every precision, is what it must be."""
        found = [f.reached for each in self.figures.values() for f in each.values()]
        return False not in found

    def as_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        figures = {
            precision: {
                name: {**asdict(figure), "reached": figure.reached} for name, figure in each.items()
            }
            for precision, each in self.figures.items()
        }
        return {
            "model": self.model,
            "version": fastgan.__version__,
            "ran": self.ran,
            "refused": self.refused,
            "reached": self.reached,
            "figures": figures,
        }


def measure(
    source: str,
    figures: Figures,
    precisions: Sequence[str] = (),
    *,
    device: str = "auto",
    backend: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Run `figures` on a model in these precisions; without any, in all that the machine has.

    Raises:
        BackendError: none of the precisions has a backend here, or fp32 has none.
        FastganError: as `fastgan.load` and `figures`.
    """
    ran: dict[str, str] = {}
    found: dict[str, dict[str, Figure]] = {}
    refused: dict[str, str] = {}
    model = open_model(source)
    for precision in precisions or PRECISIONS:
        say(precision)
        try:
            generator = start(model, precision=precision, device=device, backend=backend)
        except BackendError as error:
            if precision == "fp32":
                raise
            refused[precision] = str(error)
            continue
        ran[precision] = f"{generator.backend} on {generator.device}"
        found[precision] = figures(generator)
    if not found:
        raise BackendError(
            f"{source} in {', '.join(refused)}",
            "; ".join(refused.values()),
            "a precision that this machine has",
        )
    return Report(source, ran, found, refused)
