"""What a run made, how fast, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """Of one run; what was there before it counts as kept.

    Attributes:
        images, shards: made by this run.
        kept: shards, or pictures of `apply`, that were there already.
        bytes: of the shards that were made.
        seconds: of the clock, from the first shard on.
        core_seconds: of all workers' processors, while they made shards.
        failures: (what, why) of each thing that could not be made.
    """

    images: int = 0
    shards: int = 0
    kept: int = 0
    bytes: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Images per second of the clock."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def core_seconds_per_thousand(self) -> float:
        """Processor seconds for a thousand images."""
        return 1000 * self.core_seconds / self.images if self.images else 0.0

    def price(self, per_hour: float) -> float:
        """What the run costs, where all its machines together cost so much an hour."""
        return self.seconds / 3600 * per_hour

    def lines(self, price_per_hour: float | None = None, things: str = "shards") -> list[str]:
        """For people: a line each; of a run without shards, `things` are its "pictures"."""
        kept = f", {self.kept} there already" if self.kept else ""
        shards = things == "shards"
        images = f"{self.images} images, " if shards else ""
        made = self.shards if shards else self.images
        said = [f"{made} {things} made{kept}: {images}{self.bytes} bytes"]
        if self.images:
            said.append(
                f"{self.rate:.4g} images/s, {self.core_seconds_per_thousand:.4g} core-seconds per "
                "thousand"
            )
        if price_per_hour is not None and self.images:
            cost = self.price(price_per_hour)
            said.append(
                f"at {price_per_hour:g} an hour: {cost:.4g} for this run, "
                f"{cost / self.images * 1e6:.4g} for a million images"
            )
        return said
