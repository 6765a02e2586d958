"""What a benchmark found, ready for a table, a plot and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from fastgan.engine.base import PRECISIONS
from fastgan.measure import machine
from fastgan.measure.timing import Ratio, Samples

#: Every ratio is of this peer's time over another's.
BASELINE = "onnxruntime"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run of n samples takes whoever does it, from the file's graph.

    What lies between the layers is left out of the bytes: it can stay in a cache.

    Attributes:
        flops: floating-point operations, a multiply and an add counting as two.
        weights: how many numbers, each read once.
        ends: bytes of the inputs, read once, and of the outputs, written once.
        copy_rate: bytes per second of a copy that moves as much, measured in this run.
    """

    flops: int
    weights: int
    ends: int
    copy_rate: float

    def bytes(self, precision: str) -> int:
        """What moves at least; weights are in the computing precision."""
        return self.weights * PRECISIONS[precision].itemsize + self.ends


@dataclass(frozen=True, slots=True)
class Result:
    """One contender at one size."""

    n: int
    name: str
    samples: Samples
    precision: str | None
    ratio: Ratio | None

    @property
    def rate(self) -> float:
        """Images per second at the median."""
        return self.n / self.samples.median

    def as_json(self) -> dict[str, Any]:
        """Everything, raw samples included."""
        s = self.samples
        return {
            "n": self.n,
            "contender": self.name,
            "seconds": {"p50": s.median, "p90": s.percentile(90), "p99": s.percentile(99)},
            "images_per_second": self.rate,
            "ratio_to_onnxruntime": self.ratio
            and {"median": self.ratio.median, "p10": self.ratio.low, "p90": self.ratio.high},
            "samples": s.turns,
        }


@dataclass(slots=True)
class Report:
    """A whole run. `skipped` says what did not take part, and why."""

    model: str
    run_by: str
    threads: int
    device: str
    contenders: dict[str, str]
    product_rates: dict[str, float]
    costs: dict[int, Cost] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def get(self, n: int, name: str) -> Result | None:
        """The result of one contender at one size."""
        return next((r for r in self.results if (r.n, r.name) == (n, name)), None)

    def roofline(self, result: Result) -> float | None:
        """The share of the attainable speed: the least time that the ceilings allow over p50."""
        floors = self.floors(result.n, result.precision)
        return None if floors is None else max(floors) / result.samples.median

    def floors(self, n: int, precision: str | None) -> tuple[float, float] | None:
        """The least seconds that the arithmetic of n samples takes, and their memory traffic."""
        cost = self.costs.get(n)
        if cost is None or precision is None or precision not in self.product_rates:
            return None
        arithmetic = cost.flops / self.product_rates[precision]
        return arithmetic, cost.bytes(precision) / cost.copy_rate

    @property
    def sizes(self) -> list[int]:
        """The sizes that were run, in order."""
        return list(dict.fromkeys(result.n for result in self.results))

    def as_json(self, command: Sequence[str]) -> dict[str, Any]:
        """The report with the machine, versions, command and date."""
        return {
            "format": 1,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": list(command),
            "machine": machine.describe(),
            "model": self.model,
            "fastgan": self.run_by,
            "device": self.device,
            "threads": self.threads,
            "seconds": self.seconds,
            "contenders": self.contenders,
            "skipped": self.skipped,
            "matrix_product_flops_per_second": self.product_rates,
            "costs": {n: asdict(cost) for n, cost in self.costs.items()},
            "results": [
                {**result.as_json(), "share_of_roofline": self.roofline(result)}
                for result in self.results
            ],
        }
