"""StreamOptions: what was asked of a stream, checked once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastgan.errors import ArgumentError
from fastgan.host import arguments
from fastgan.images import pixels

POLICIES = ("newest", "every")


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The arguments of `Generator.stream`, which says what each is.

    Raises:
        ArgumentError: one is out of range.
    """

    fps: float | None = None
    batch: int = 1
    latents: Any = None
    labels: Any = None
    format: str = "uint8"
    buffers: int = 3
    similarity: float | None = None
    budget_ms: float | None = None
    policy: str = "newest"
    truncation: float | None = None
    seed: int = 0
    speed: float = 1.0
    start: int = 0
    frames: int | None = None
    source: Iterable[Any] | None = None
    size: tuple[int, ...] | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pixels.check_format(self.format)
        if self.policy not in POLICIES:
            raise ArgumentError("policy", repr(self.policy), " or ".join(map(repr, POLICIES)))
        whole, number, above = arguments.whole, arguments.number, "a number above 0"
        checked: dict[str, Any] = {
            "batch": whole("batch", self.batch),
            # One is being written, one is the consumer's; the newest needs one of its own.
            "buffers": whole("buffers", self.buffers, 3 if self.newest else 2),
            "start": whole("start", self.start, 0),
            "seed": whole("seed", self.seed, 0, arguments.LARGEST_SEED),
            "speed": number("speed", self.speed),
        }
        if self.fps is not None:
            checked["fps"] = number("fps", self.fps, most=1e5, above=0, needed=above)
        if self.budget_ms is not None:
            checked["budget_ms"] = number(
                "budget_ms", self.budget_ms, above=0, finite=False, needed=above
            )
        if self.similarity is not None:
            needed = "a cosine, as 0.999"
            checked["similarity"] = number("similarity", self.similarity, -1, 1, needed=needed)
        if self.frames is not None:
            checked["frames"] = whole("frames", self.frames)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def newest(self) -> bool:
        """Whether frames that come too late are dropped, rather than waited for."""
        return self.policy == "newest"
