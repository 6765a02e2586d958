"""Which samples a call is of: carried as one thing from the call to where numbers are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from fastgan import latents
from fastgan.errors import ArgumentError
from fastgan.host import arguments
from fastgan.latents.philox import Parameters


@dataclass(frozen=True, slots=True)
class Sampling:
    """Samples of a seed; or of a seed, an index or both for each.

    Attributes:
        seed: of all samples, or one for each.
        start: the index of the first sample, those of the others follow; or one for each. With a
            seed for each it is, as one number, the index of every one.
        truncation: of normal latents, see `latents.sample`.
        rng: "philox", or "numpy" for the latents of StyleGAN's tools.
    """

    seed: int | tuple[int, ...] = 0
    start: int | tuple[int, ...] = 0
    truncation: float | None = None
    rng: str = "philox"

    @staticmethod
    def of(seed: Any, start: Any, truncation: float | None = None, rng: str = "philox") -> Sampling:
        """What a caller asked for.

        Raises:
            ArgumentError: a seed or a start is out of range.
        """
        least = arguments.LARGEST_SEED
        return Sampling(
            arguments.each("seed", seed, 0, least), arguments.each("start", start, 0, least),
            truncation, rng,
        )  # fmt: skip

    @property
    def in_a_row(self) -> bool:
        """Whether they are samples of one seed that follow each other."""
        return isinstance(self.seed, int) and isinstance(self.start, int)

    @property
    def whole(self) -> Sampling:
        """The same without truncation."""
        return replace(self, truncation=None)

    @property
    def once(self) -> Sampling:
        """What is drawn once for all of them."""
        seed = self.seed if isinstance(self.seed, int) else self.seed[0]
        return Sampling(seed)

    def rows(self, first: int, n: int) -> Sampling:
        """Samples `first` to `first + n - 1` of these; beyond the end the last one again."""
        seed, start = self.seed, self.start
        if isinstance(seed, int) and isinstance(start, int):
            return Sampling(seed, start + first, self.truncation, self.rng)
        return replace(self, seed=_part(seed, first, n), start=_part(start, first, n))

    def check(self, n: int) -> None:
        """Raises ArgumentError where they are not n."""
        for name, value in (("seed", self.seed), ("start", self.start)):
            if isinstance(value, tuple) and len(value) != n:
                found = f"{len(value)} {'seeds' if name == 'seed' else 'indices'}"
                raise ArgumentError(name, found, f"one for each of {n} images")

    def draw(
        self,
        distribution: str,
        n: int,
        shape: tuple[int, ...],
        *,
        stream: int = 0,
        device: torch.device | None = None,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """n of them, as `latents.sample` draws them: float32 [n, *shape], in `out` if given."""
        options: dict[str, Any] = {"stream": stream, "truncation": self.truncation, "rng": self.rng}
        parts = list(self._parts(n))
        if len(parts) == 1:
            (count, seed, start), *_ = parts
            return latents.sample(
                distribution, count, shape, seed=seed, start=start, device=device, out=out,
                **options,
            )  # fmt: skip
        made = torch.empty((n, *shape), device=device) if out is None else out
        first = 0
        for count, seed, start in parts:
            place = made[first : first + count]
            latents.sample(distribution, count, shape, seed=seed, start=start, out=place, **options)
            first += count
        return made

    def recipe(
        self, distribution: str, n: int, stream: int
    ) -> tuple[int, int, int, int, Parameters]:
        """What `latents.recipe` says of samples in a row."""
        assert isinstance(self.seed, int)
        assert isinstance(self.start, int)
        return latents.recipe(
            distribution, n, seed=self.seed, start=self.start, stream=stream,
            truncation=self.truncation,
        )  # fmt: skip

    def labels(self, n: int, classes: int) -> torch.Tensor:
        """A class for each of n of them: int64 [n]."""
        parts = (
            latents.labels(count, classes, seed=seed, start=start)
            for count, seed, start in self._parts(n)
        )
        return torch.cat(list(parts))

    def _parts(self, n: int) -> Iterator[tuple[int, int, int]]:
        """(count, seed, start) of samples that follow each other."""
        self.check(n)
        if isinstance(self.seed, int) and isinstance(self.start, int):
            yield n, self.seed, self.start
            return
        seeds = (self.seed,) * n if isinstance(self.seed, int) else self.seed
        starts = (self.start,) * n if isinstance(self.start, int) else self.start
        count = 0
        for index, (seed, start) in enumerate(zip(seeds, starts, strict=True)):
            count += 1
            if seeds[index + 1 : index + 2] != (seed,) or starts[index + 1] != start + 1:
                yield count, seed, start - count + 1
                count = 0


#: What is taken where nobody asks for others.
SEED_0 = Sampling()


def _part(value: int | tuple[int, ...], first: int, n: int) -> int | tuple[int, ...]:
    if isinstance(value, int):
        return value
    part = value[first : first + n]
    return part + part[-1:] * (n - len(part))
