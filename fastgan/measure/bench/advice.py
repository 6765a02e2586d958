"""What a benchmark's numbers say to do, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from fastgan.measure.bench.report import BASELINE, Report, Result

#: Turns whose ratio to ONNX Runtime varies by more than this share mean a busy machine.
_NOISY = 0.25


def advise(report: Report) -> list[str]:
    """What bounds the speed, and what would make it faster; most useful first."""
    rules = (_bound, _bfloat16, _batching, _slower, _noise)
    return [line for rule in rules for line in rule(report)]


def _ours(report: Report, n: int) -> Result | None:
    return report.get(n, "fastgan") or report.get(n, "fastgan fed")


def _bound(report: Report) -> Iterator[str]:
    for n in report.sizes:
        result = _ours(report, n)
        floors = None if result is None else report.floors(n, result.precision)
        if result is None or floors is None or n not in (report.sizes[0], report.sizes[-1]):
            continue
        arithmetic, memory = floors
        by, limit = ("arithmetic", "matrix product") if arithmetic > memory else ("memory", "copy")
        share = max(floors) / result.samples.median
        if share <= 1:
            yield f"n = {n}: bound by {by}; {share:.0%} of the speed of a plain {limit}"


def _bfloat16(report: Report) -> Iterator[str]:
    gains = []
    for n in report.sizes:
        ours, bf16 = report.get(n, "fastgan"), report.get(n, "fastgan bf16")
        if ours is not None and bf16 is not None:
            gains.append((bf16.rate / ours.rate, n))
    if gains and max(gains)[0] > 1.2:
        gain, n = max(gains)
        yield (
            f"bf16 is available: {gain:.1f}x at n = {n} with precision='bf16'; "
            "'fastgan compare' shows how exact it is"
        )


def _batching(report: Report) -> Iterator[str]:
    first, best = report.sizes[0], None
    for n in report.sizes:
        result = _ours(report, n)
        if result is not None and (best is None or result.rate > best.rate):
            best = result
    single = _ours(report, first)
    if single is not None and best is not None and best.rate > 1.5 * single.rate:
        yield (
            f"ask for many images at once: n = {best.n} gives {best.rate / single.rate:.1f}x the "
            f"images per second of n = {first}"
        )


def _slower(report: Report) -> Iterator[str]:
    for n in report.sizes:
        result = report.get(n, "fastgan fed")
        if result is not None and result.ratio is not None and result.ratio.high < 1:
            yield (
                f"n = {n}: plain ONNX Runtime is {1 / result.ratio.median:.2f}x faster: "
                "--backend ort would use it; please report this model"
            )


def _noise(report: Report) -> Iterator[str]:
    spreads = [
        (result.ratio.high - result.ratio.low) / result.ratio.median
        for result in report.results
        if result.ratio is not None and result.name != BASELINE
    ]
    if spreads and sorted(spreads)[len(spreads) // 2] > _NOISY:
        yield "the machine was busy: ratios varied widely from turn to turn; repeat on a quiet one"
