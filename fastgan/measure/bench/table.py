"""A benchmark as rows of text, for the terminal and for Markdown."""

from __future__ import annotations

from fastgan.measure.bench.report import Report, Result

HEADERS = (
    *("n", "contender", "runs", "p50 ms", "p90", "p99"),
    *("images/s", "vs ORT", "spread", "roofline"),
)


def rows(report: Report) -> list[tuple[str, ...]]:
    """A row for each size and contender, in the order of `HEADERS`."""
    return [_row(result, report.roofline(result)) for result in report.results]


def markdown(report: Report) -> str:
    """The table in Markdown, with what each contender is and what did not take part."""
    lines = [
        "| " + " | ".join(HEADERS) + " |",
        "|--:|:--|" + "--:|" * (len(HEADERS) - 2),
        *("| " + " | ".join(row) + " |" for row in rows(report)),
        "",
        *notes(report),
    ]
    return "\n".join(lines) + "\n"


def notes(report: Report) -> list[str]:
    """What each contender is, the ceilings, and what did not take part."""
    lines = [f"- {name}: {what}" for name, what in report.contenders.items()]
    flops = ", ".join(f"{p} {rate / 1e9:.0f} GFLOP/s" for p, rate in report.product_rates.items())
    rates = sorted(cost.copy_rate / 1e9 for cost in report.costs.values())
    copies = f", copies {rates[0]:.1f} to {rates[-1]:.1f} GB/s" if rates else ""
    lines.append(f"- roofline: share of what matrix products ({flops}){copies} allow")
    if any((report.roofline(result) or 0) > 1 for result in report.results):
        lines.append("- over 100%: what was measured as a ceiling was not one, on a busy machine")
    lines.append("- vs ORT: how many times faster than onnxruntime, turn by turn; spread: p10-p90")
    return lines + [f"- not run: {reason}" for reason in report.skipped]


def _row(result: Result, share: float | None) -> tuple[str, ...]:
    s = result.samples
    versus = result.ratio
    return (
        str(result.n),
        result.name,
        str(len(s.all)),
        _ms(s.median),
        _ms(s.percentile(90)),
        _ms(s.percentile(99)),
        f"{result.rate:.0f}" if result.rate >= 100 else f"{result.rate:.1f}",
        "" if versus is None else f"{versus.median:.2f}x",
        "" if versus is None else f"{versus.low:.2f}-{versus.high:.2f}",
        "" if share is None else "over 100%" if share > 1 else f"{share:.0%}",
    )


def _ms(seconds: float) -> str:
    ms = seconds * 1e3
    places = 3 if ms < 1 else 2 if ms < 10 else 1 if ms < 100 else 0
    return f"{ms:.{places}f}"
