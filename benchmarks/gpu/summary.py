"""One page from the parts' JSON files: what failed, and the figures beside their ceilings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.promises import promises, table
from benchmarks.gpu.roofline import roofline

Cell = dict[str, Any]


def write(out: Path) -> tuple[str, int]:
    """Write summary.md (and throughput.png where matplotlib is there).

    Returns:
        The text, and how many checks failed.
    """
    parts, found = _parts(out), cells(out)
    lines = [f"# Evidence\n\n{_machine(out)}\n", *table(promises(found)), ""]
    failures = 0
    for name, part in found.items():
        bad = {key: cell["error"] for key, cell in part.items() if "error" in cell}
        ours = [key for key in bad if _is_ours(name, key)]
        failures += len(ours)
        others = f", {len(bad) - len(ours)} of others failed" if len(bad) > len(ours) else ""
        lines.append(f"{name}: {len(part) - len(bad)} passed, {len(ours)} failed{others}")
        lines += [f"- {key}: {error}" for key, error in bad.items()]
    for name, part in parts.items():
        if "error" in part:
            failures += 1
            lines.append(f"- part {name} stopped: {part['error']}")
    rates = {k: c["rate"] for k, c in found.get("ceilings", {}).items() if "rate" in c}
    lines += ["", "| ceiling | per second |", "|---|---|"]
    lines += [f"| {name} | {rate:.4g} |" for name, rate in rates.items()]
    if "latents" in rates and "write" in rates:
        lines.append(f"\nlatents: {rates['latents'] / rates['write']:.0%} of the write ceiling")
    throughput = {
        name.removeprefix("throughput-"): part
        for name, part in found.items()
        if name.startswith("throughput-")
    }
    for model, part in throughput.items():
        lines += ["", f"## {model}", "", *_table(part, rates)]
    for name in ("smoke", "dcgan64", "latency", "realtime", "sharing", "cold", "memory"):
        lines += ["", f"## {name}", ""]
        lines += [f"- {key}: {_plain(cell)}" for key, cell in found.get(name, {}).items()]
    text = "\n".join(lines) + "\n"
    (out / "summary.md").write_text(text)
    _plot(out / "throughput.png", throughput)
    return text, failures


def _is_ours(part: str, key: str) -> bool:
    """Whether a cell is fastgan's: what another fails at, or a GPU lacks, is no failed check."""
    if part == "ceilings":
        return key == "latents"
    return not any(peer in key for peer in ("eager", "compile", "onnxruntime"))


def cells(out: Path) -> dict[str, dict[str, Cell]]:
    """What the parts' JSON files in a folder hold, by part."""
    return {name: part.get("cells", {}) for name, part in _parts(out).items()}


def gpu_name(out: Path) -> str | None:
    """The GPU that a folder's evidence was taken on; None where it was none."""
    path = out / "machine.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    name = found.get("torch_cuda", {}).get("name")
    return None if name is None else str(name)


def fastest_table(found: dict[str, dict[str, Cell]]) -> list[str]:
    """Images per second of every model: ours in fp16, and the fastest of the others."""
    lines = ["| images/s, fp16 | batch | fastgan | the fastest other | |", "|---|---|---|---|---|"]
    for name, part in found.items():
        if not name.startswith("throughput-"):
            continue
        good = {key: cell for key, cell in part.items() if "error" not in cell}
        for size in sorted({int(key.rsplit("n=", 1)[1]) for key in good}):
            ours = good.get(f"fastgan fp16 n={size}")
            others = {
                key.rsplit(" n=", 1)[0]: cell
                for key, cell in good.items()
                if key.endswith(f" n={size}") and not key.startswith("fastgan")
            }
            if ours is None or not others:
                continue
            best = min(others, key=lambda key: float(others[key]["p50"]))
            ratio = others[best]["p50"] / ours["p50"]
            lines.append(
                f"| {name.removeprefix('throughput-')} | {size} | {size / ours['p50']:,.0f} | "
                f"{size / others[best]['p50']:,.0f} ({best}) | {ratio:.2f} times |"
            )
    return lines


def _parts(out: Path) -> dict[str, Cell]:
    paths = sorted(path for path in out.glob("*.json") if path.stem != "machine")
    return {path.stem: json.loads(path.read_text()) for path in paths}


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
    return f"{gpu_name(out) or 'no GPU'}; {versions}"


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
    if axes[0][-1].get_legend_handles_labels()[0]:  # not where all cells failed
        axes[0][-1].legend(fontsize="xx-small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
