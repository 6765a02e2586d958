"""Which image sizes a model takes: known from its graph, and confirmed at a few sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from fastgan.errors import LimitError
from fastgan.images import tiling
from fastgan.images.tiling import Scale

Pair = tuple[int, int]
#: Of height and of width: (slope, offset) of the result's size over the image's.
_Lines = tuple[Scale, Scale]

#: From (H, W) of the image to (H, W) of the result, or None where the model fails. A LimitError
#: says nothing of the size: it was only too large to be tried.
Probe = Callable[[int, int], Pair | None]

#: Sizes at which nearly every network runs that runs at more than one.
_BASES = (64, 128, 256, 512)
#: How many periods away sizes are tried, in height and width: never a square, so that a model that
#: turns images is seen, and of several residues, so that no rounding looks like a scale.
_AWAY = ((1, 2), (3, 1))
_FURTHER = ((1, 1), (3, 2), (5, 7))
_FAR = (4, 6, 10)
#: Multiples of what the graph tells that are tried where that is not enough.
_MORE = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24, 32)
#: Remainders are looked for up to this multiple.
_MOST_REMAINDERS = 32
#: What results may be rounded to without the graph telling.
_LARGEST_FACTOR = 129


def _side(fixed: int | None, least: int, step: int, rest: int) -> str:
    """Which lengths a side may have."""
    if fixed is not None:
        return str(fixed)
    steps = f", {rest} more than a multiple of {step}" if rest else f", a multiple of {step}"
    return f"{least} or more{steps if step > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Fit:
    """What images a model takes, and how large its results are.

    Attributes:
        fixed: the only height and width that it takes, where there is one.
        multiple: an open height and width are `remainder` more than a multiple of this.
        minimum: the smallest open height and width.
        scale: size of the result by size of the image; None where the two are not proportional.
        line: the size of the result is `line[0] * size + line[1]` where it is that but not
            proportional, for height and width each; None for any other.
        floors: it runs at sizes between too, and cuts off what is left of a pixel there, as a
            Resize by 1.5 does.
    """

    fixed: tuple[int | None, int | None]
    multiple: Pair = (1, 1)
    minimum: Pair = (1, 1)
    scale: Scale | None = None
    remainder: Pair = (0, 0)
    line: tuple[Scale, Scale] | None = None
    floors: bool = False

    def __str__(self) -> str:
        """For people."""
        axes = zip(self.fixed, self.minimum, self.multiple, self.remainder, strict=True)
        height, width = (_side(*axis) for axis in axes)
        if self.scale is None:
            return f"height {height}; width {width}; results are not in proportion"
        scale = " x ".join(map(str, self.scale))
        return f"height {height}; width {width}; results are {scale} times as large"

    def scaled(self, size: Pair) -> Pair:
        """(H, W) of the result for an image, by `scale`."""
        assert self.scale is not None
        if self.floors:
            (height, rows), (width, columns) = zip(size, self.scale, strict=True)
            return max(1, math.floor(height * rows)), max(1, math.floor(width * columns))
        height, width = map(tiling.scaled, size, self.scale)
        return height, width

    def lengths(self, size: Pair) -> Pair | None:
        """(H, W) of the result for an image that was padded, where `line` tells it."""
        if self.line is None or min(slope for slope, _ in self.line) <= 0:
            return None
        height, width = (
            max(1, math.ceil(slope * length + offset))
            for length, (slope, offset) in zip(size, self.line, strict=True)
        )
        return height, width


def find(
    declared: tuple[int | None, int | None],
    probe: Probe,
    steps: Pair = (1, 1),
    bases: Iterable[Pair] = (),
) -> Fit:
    """How images must be shaped for a model.

    At sizes a period apart every stride comes out even, so the result's size grows on a line. The
    period is then divided as long as the model still runs and its results stay on that line.

    Args:
        declared: the height and width that the model's input states; None where open.
        probe: tells the result's size for an image's.
        steps: what the graph divides heights and widths into, as far as is known (`strides`).
        bases: sizes that are likely to fit, the likeliest first.
    """
    search = _Search(declared, probe, steps)
    alone: Pair | None = None
    for base in dict.fromkeys(map(search.at, (*bases, *((side, side) for side in _BASES)))):
        result = search.result(base)
        if result is None:
            continue
        if None not in declared:
            return Fit(declared, scale=_ratio(result, base))
        fit = search.fit(base)
        if fit is not None:
            return fit
        alone = alone or base
    return Fit(declared) if alone is None else search.without_line(alone)


class _Search:
    """The sizes tried for a model, and what is concluded from them."""

    def __init__(self, declared: tuple[int | None, int | None], probe: Probe, steps: Pair) -> None:
        self.declared, self.probe, self.steps = declared, probe, steps
        self.results: dict[Pair, Pair | LimitError | None] = {}

    def at(self, size: Pair) -> Pair:
        """This size, but for what is declared."""
        return self.declared[0] or size[0], self.declared[1] or size[1]

    def away(self, base: Pair, period: Pair, rows: int, columns: int) -> Pair:
        """The size so many periods from a base."""
        return self.at((base[0] + rows * period[0], base[1] + columns * period[1]))

    def ask(self, size: Pair) -> Pair | LimitError | None:
        """The result's size; None where the model fails, the error where it can't be told."""
        if size not in self.results:
            try:
                self.results[size] = self.probe(*size)
            except LimitError as error:
                self.results[size] = error
        return self.results[size]

    def result(self, size: Pair) -> Pair | None:
        """The result's size; None where the model fails, or it can't be told."""
        found = self.ask(size)
        return None if isinstance(found, LimitError) else found

    # Lines --------------------------------------------------------------------------------------

    def fit(self, base: Pair) -> Fit | None:
        """What fits from a size on that the model takes; None where results lie on no line."""
        doubtful: list[tuple[Pair, Pair, _Lines]] = []
        for period in self.periods(base):
            lines = self.lines(base, period)
            if lines is None:
                continue
            if self.explained(lines):
                return self.reduced(base, period, lines)
            doubtful.append((base, period, lines))
        for base, period, lines in doubtful[:1]:
            for other, apart in self.others(base, period):
                found = self.lines(other, apart) if self.result(other) else None
                if found is not None and self.explained(found):
                    return self.reduced(other, apart, found)
            if all(self.on(lines, self.away(base, period, n, n)) for n in _FAR):
                return self.reduced(base, period, lines)
        return None

    def periods(self, base: Pair) -> Iterator[Pair]:
        """How far sizes may have to be apart: a base is a multiple of what fits, as a rule."""
        height, width = self.steps
        found = (self.steps, base, *((n * height, n * width) for n in _MORE))
        yield from dict.fromkeys(found)

    def lines(self, base: Pair, period: Pair) -> _Lines | None:
        """The lines of height and width on which results lie that are a period apart."""
        sizes = [base, *(self.away(base, period, *by) for by in _AWAY)]
        pairs: list[tuple[Pair, Pair]] = []
        for size in sizes:
            result = self.ask(size)
            if result is None:
                return None
            if not isinstance(result, LimitError):
                pairs.append((size, result))
        if len(pairs) < 2:
            return None
        found = []
        for axis in (0, 1):
            first, *rest = [(size[axis], result[axis]) for size, result in pairs]
            if self.declared[axis]:
                slope = Fraction(first[1], first[0])
            else:
                slope = Fraction(rest[0][1] - first[1], rest[0][0] - first[0])
            offset = first[1] - slope * first[0]
            if slope <= 0 or any(slope * size + offset != result for size, result in rest):
                return None
            found.append((slope, offset))
        return found[0], found[1]

    def on(self, lines: _Lines, size: Pair) -> bool:
        """Whether the result at this size lies where the lines say, as far as can be told."""
        result = self.ask(size)
        if result is None or isinstance(result, LimitError):
            return result is not None
        return all(
            slope * length + offset == found
            for (slope, offset), length, found in zip(lines, size, result, strict=True)
        )

    def explained(self, lines: _Lines) -> bool:
        """Whether the results are in proportion, by a factor that the graph's steps can make."""
        return all(
            offset == 0 and (only or steps % slope.denominator == 0)
            for (slope, offset), steps, only in zip(lines, self.steps, self.declared, strict=True)
        )

    def others(self, base: Pair, period: Pair) -> Iterator[tuple[Pair, Pair]]:
        """Bases at which results may be in proportion where they are not at this one, and periods.

        Where convolutions without padding halve, that takes a remainder. Where something rounds
        that the graph did not tell of, all results are multiples of what it rounds to.
        """
        for remainder in range(1, max(period) if max(period) <= _MOST_REMAINDERS else 0):
            yield self.at((base[0] + remainder, base[1] + remainder)), period
        results = [found for found in self.results.values() if isinstance(found, tuple)]
        common = math.gcd(*(length for result in results for length in result))
        for factor in sorted(n for n in range(2, _LARGEST_FACTOR) if common % n == 0)[::-1]:
            whole = (math.lcm(steps, factor) for steps in self.steps)
            height, width = (-(-_BASES[0] // into) * into for into in whole)
            yield self.at((height, width)), (height, width)

    # What is left of a period -------------------------------------------------------------------

    def reduced(self, base: Pair, period: Pair, lines: _Lines) -> Fit:
        """The smallest period and size at which results stay on their lines."""

        def works(apart: Pair) -> bool:
            return all(self.on(lines, self.away(base, apart, *by)) for by in _FURTHER)

        height, width = period
        if works((1, 1)):
            height = width = 1
        for prime in _primes(height * width):
            while height % prime == 0 and width % prime == 0:
                if not works((height // prime, width // prime)):
                    break
                height, width = height // prime, width // prime
            while height % prime == 0 and works((height // prime, width)):
                height //= prime
            while width % prime == 0 and works((height, width // prime)):
                width //= prime
        multiple = 1 if self.declared[0] else height, 1 if self.declared[1] else width
        remainder = base[0] % multiple[0], base[1] % multiple[1]
        line = None if all(offset == 0 for _, offset in lines) else lines
        scale = None if line else (lines[0][0], lines[1][0])
        minimum = self.minimum(base, multiple, lines)
        # One that shrinks would lose what it leaves out: it gets images that come out even.
        floors = scale is not None and min(scale) >= 1 and self.floors(base, scale)
        return Fit(self.declared, multiple, minimum, scale, remainder, line, floors)

    def floors(self, base: Pair, scale: tuple[Fraction, Fraction]) -> bool:
        """Whether sizes between multiples run too, and results are rounded down there."""
        if all(slope.denominator == 1 for slope in scale):
            return False
        for by in (*_AWAY, *_FURTHER):
            size = self.away(base, (1, 1), *by)
            result = self.result(size)
            exact = zip(size, scale, strict=True)
            if result is None or result != tuple(math.floor(n * slope) for n, slope in exact):
                return False
        return True

    def minimum(self, base: Pair, multiple: Pair, lines: _Lines) -> Pair:
        """The smallest height and width, where all larger ones fit."""
        least = [length % apart or apart for length, apart in zip(base, multiple, strict=True)]
        least = [1 if self.declared[axis] else least[axis] for axis in (0, 1)]
        if self.on(lines, self.at((least[0], least[1]))):
            return least[0], least[1]
        for axis in (0, 1):
            if self.declared[axis]:
                continue

            def fits(count: int, axis: int = axis) -> bool:
                size = [*base]
                size[axis] = least[axis] + count * multiple[axis]
                return self.on(lines, self.at((size[0], size[1])))

            few, enough = -1, (base[axis] - least[axis]) // multiple[axis]
            while enough - few > 1:
                middle = (few + enough) // 2
                few, enough = (few, middle) if fits(middle) else (middle, enough)
            least[axis] += enough * multiple[axis]
        return least[0], least[1]

    # Neither --------------------------------------------------------------------------------------

    def without_line(self, base: Pair) -> Fit:
        """A model of one size; or one whose results are cut to one, or follow no rule.

        An exporter's example may be left as the size to which the result is cropped: larger images
        then lose all beyond it, so that is the model's size.
        """
        only = self.result(base)
        assert only is not None
        others = [size for size, found in self.results.items() if found and size != base]
        if not others:
            height, width = base
            return Fit((height, width), scale=_ratio(only, base))
        for part in (2, 4):  # no square, as in `_AWAY`
            small = self.at((base[0] // part, base[1] // (2 * part)))
            smaller = self.at((small[0] // 2, small[1] // 2))
            result, other = self.result(small), self.result(smaller)
            if result is None or other is None or 0 in result:
                continue
            scale = _ratio(result, small)
            if result == only or scale != _ratio(other, smaller):
                continue
            rows, columns = (whole / by for whole, by in zip(only, scale, strict=True))
            if rows.denominator == columns.denominator == 1:
                size = int(rows), int(columns)
                if self.result(size) == only:
                    return Fit(size, scale=scale)
        return Fit(self.declared)


def _ratio(result: Pair, image: Pair) -> Scale:
    return Fraction(result[0], image[0]), Fraction(result[1], image[1])


def _primes(number: int) -> list[int]:
    """The primes that divide a number."""
    found, prime = [], 2
    while prime <= number:
        if number % prime == 0:
            found.append(prime)
            while number % prime == 0:
                number //= prime
        prime += 1
    return found
