"""One page from the parts' JSON files: what failed, and the figures beside their ceilings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def write(out: Path) -> tuple[str, int]:
    """Write summary.md (and throughput.png where matplotlib is there).

    Returns:
        The text, and how many checks failed.
    """
    parts = {
        path.stem: json.loads(path.read_text())
        for path in sorted(out.glob("*.json"))
        if path.stem != "machine"
    }
    cells = {name: part.get("cells", {}) for name, part in parts.items()}
    lines = [f"# Evidence\n\n{_machine(out)}\n"]
    failures = 0
    for name in ("kernels", "models"):
        bad = {k: c["error"] for k, c in cells.get(name, {}).items() if "error" in c}
        failures += len(bad)
        lines.append(f"{name}: {len(cells.get(name, {})) - len(bad)} passed, {len(bad)} failed")
        lines += [f"- {key}: {error}" for key, error in bad.items()]
    for name, part in parts.items():
        if "error" in part:
            failures += 1
            lines.append(f"- part {name} stopped: {part['error']}")
    rates = {k: c["rate"] for k, c in cells.get("ceilings", {}).items() if "rate" in c}
    lines += ["", "| ceiling | per second |", "|---|---|"]
    lines += [f"| {name} | {rate:.4g} |" for name, rate in rates.items()]
    if "latents" in rates and "write" in rates:
        lines.append(f"\nlatents: {rates['latents'] / rates['write']:.0%} of the write ceiling")
    throughput = {
        name.removeprefix("throughput-"): found
        for name, found in cells.items()
        if name.startswith("throughput-")
    }
    for model, found in throughput.items():
        lines += ["", f"## {model}", "", *_table(found, rates)]
    for name in ("latency", "realtime", "cold", "memory"):
        lines += ["", f"## {name}", ""]
        lines += [f"- {key}: {_plain(cell)}" for key, cell in cells.get(name, {}).items()]
    text = "\n".join(lines) + "\n"
    (out / "summary.md").write_text(text)
    _plot(out / "throughput.png", throughput)
    return text, failures


def roofline(cell: Cell, rates: dict[str, float]) -> float | None:
    """The share of what the ceilings of the same run allow; None where they are unknown."""
    precision = cell.get("precision")
    peak = rates.get("product fp16" if precision == "fp8" else f"product {precision}")
    copy, peak_fp8 = rates.get("copy"), rates.get("product fp8", peak)
    if not peak or not peak_fp8 or not copy or "flops" not in cell:
        return None
    eight = cell.get("flops_fp8", 0)  # the large layers alone: all others are fp16
    compute = (cell["flops"] - eight) / peak + eight / peak_fp8
    return max(compute, cell["bytes"] / copy) / float(cell["p50"])


def _table(found: dict[str, Cell], rates: dict[str, float]) -> list[str]:
    sizes = sorted({int(key.rsplit("n=", 1)[1]) for key in found})
    names = list(dict.fromkeys(key.rsplit(" n=", 1)[0] for key in found))
    lines = ["| images/s | " + " | ".join(map(str, sizes)) + " |", "|---" * (len(sizes) + 1) + "|"]
    for name in names:
        row = []
        for size in sizes:
            cell = found.get(f"{name} n={size}")
            if cell is None:
                row.append("")
            elif "error" in cell:
                row.append(cell["error"].split(":")[0])
            else:
                share = roofline(cell, rates)
                row.append(f"{size / cell['p50']:.4g}" + (f" ({share:.0%})" if share else ""))
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return lines


def _plain(cell: Cell) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in cell.items()
        if key != "took"
    )


def _machine(out: Path) -> str:
    path = out / "machine.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    versions = ", ".join(f"{k} {v}" for k, v in found.get("versions", {}).items())
    return f"{found.get('torch_cuda', {}).get('name', 'no GPU')}; {versions}"


def _plot(path: Path, throughput: dict[str, dict[str, Cell]]) -> None:
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return
    if not throughput:
        return
    figure, axes = pyplot.subplots(
        1, len(throughput), figsize=(5 * len(throughput), 4), squeeze=False
    )
    for axis, (model, found) in zip(axes[0], throughput.items(), strict=True):
        for name in dict.fromkeys(key.rsplit(" n=", 1)[0] for key in found):
            points = sorted(
                (cell["n"], cell["n"] / cell["p50"])
                for key, cell in found.items()
                if key.rsplit(" n=", 1)[0] == name and "error" not in cell
            )
            if points:
                axis.loglog(*zip(*points, strict=True), marker="o", label=name)
        axis.set(title=model, xlabel="batch", ylabel="images per second")
    axes[0][-1].legend(fontsize="xx-small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
