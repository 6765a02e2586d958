"""What the project promises of a GPU, held against the parts of one run.

Each promise is one that an estimate says the design can reach; where the estimates come from is in
docs/kernels.md, "What is promised". What a run has measured replaces them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Any

from benchmarks.gpu.roofline import roofline

Cell = Mapping[str, Any]
Parts = Mapping[str, Mapping[str, Cell]]

OURS = "fastgan fp16"
#: The peers that must be beaten on every model: those that launch as little as we do.
RIVALS = ("eager fp16 channels-last graph", "compile fp16", "compile fp16 max-autotune")


@dataclass(frozen=True)
class Promise:
    """One promise, and what became of it.

    Attributes:
        what: is measured.
        promised: in words.
        estimated: in words, from counts and published figures.
        found: in words; "not measured" where the run lacks it.
        kept: None where it was not measured.
    """

    what: str
    promised: str
    estimated: str
    found: str = "not measured"
    kept: bool | None = None


def promises(parts: Parts) -> list[Promise]:
    """All of them, in the order in which they are given.

    Args:
        parts: the cells of every part by its name, as the evidence's JSON files hold them.
    """
    parts = _with_quick(parts)
    return [*_dcgan(parts), *_latency(parts), *_rivals(parts), *_latents(parts)]


def _with_quick(parts: Parts) -> Parts:
    """The cells of the quick run where those of the full one are not there."""
    quick = parts.get("dcgan64", {})
    latency = {
        f"dcgan64 {OURS} {format}": quick[f"latency {format}"]
        for format in ("float32", "uint8")
        if f"latency {format}" in quick
    }
    throughput = {key: cell for key, cell in quick.items() if " n=" in key}
    bits = {k: c for k, c in parts.get("smoke", {}).items() if k.startswith("latents ")}
    found = {"latency": latency, "throughput-dcgan64": throughput, "models": bits}
    return {**parts, **{name: {**found[name], **parts.get(name, {})} for name in found}}


def _dcgan(parts: Parts) -> Iterator[Promise]:
    found, rates = parts.get("throughput-dcgan64", {}), _rates(parts)
    cell = _cell(found, f"{OURS} n=1024")
    share = None if cell is None else roofline(cell, rates)
    what = "DCGAN-64, 1024 images, fp16: of the roofline"
    yield _judged(what, "at least 35 %", "33 to 48 %", share, 0.35, _pc)
    compiled = _fastest(found, RIVALS[1:], 1024)
    what = "the same, beside the best of torch.compile"
    yield _times(what, 1.0, "0.8 to 1.2 times", cell, compiled)
    eager = _fastest(found, ("eager fp32",), 1024)
    yield _times("the same, beside eager fp32", 5.0, "5 to 12 times", cell, eager)


def _latency(parts: Parts) -> Iterator[Promise]:
    cell = _cell(parts.get("latency", {}), f"dcgan64 {OURS} float32")
    for name, most, estimated in (("p50", 80e-6, "40 to 60 us"), ("p99", 160e-6, "twice the p50")):
        what = f"DCGAN-64, one image from its seed, {name}"
        seconds = None if cell is None else float(cell[name])
        kept = None if seconds is None else seconds <= most
        text = "not measured" if seconds is None else f"{seconds * 1e6:.1f} us"
        yield Promise(what, f"at most {most * 1e6:.0f} us", estimated, text, kept)


def _rivals(parts: Parts) -> Iterator[Promise]:
    for which, least_mean, estimated, least_one, estimated_one in (
        ("one image", 1.3, "1.4", 1.0, "1.0 to 1.8"),
        ("the largest batch", 1.0, "0.8 to 1.2", 0.8, "0.8 to 1.2"),
    ):
        ratios = {}
        for name, found in parts.items():
            if not name.startswith("throughput-"):
                continue
            pairs = {
                size: (_cell(found, f"{OURS} n={size}"), _fastest(found, RIVALS, size))
                for size in sorted({int(key.rsplit("n=", 1)[1]) for key in found})
            }
            both = [size for size, (us, them) in pairs.items() if us and them]
            if not both or (which == "one image" and both[0] != 1):
                continue
            us, them = pairs[both[0] if which == "one image" else both[-1]]
            assert us is not None
            assert them is not None
            ratios[name.removeprefix("throughput-")] = them["p50"] / us["p50"]
        what = f"every model, {which}, beside graph-captured eager and torch.compile"
        mean = exp(sum(map(log, ratios.values())) / len(ratios)) if ratios else None
        title, words = f"{what}: geometric mean", f"at least {least_mean}"
        yield _judged(title, words, estimated, mean, least_mean, _x)
        least = min(ratios, key=ratios.__getitem__, default=None)
        text = "not measured" if least is None else f"{_x(ratios[least])} ({least})"
        kept = None if least is None else ratios[least] >= least_one
        yield Promise(f"{what}: least", f"at least {least_one}", estimated_one, text, kept)


def _latents(parts: Parts) -> Iterator[Promise]:
    rates = _rates(parts)
    share = rates["latents"] / rates["write"] if {"latents", "write"} <= rates.keys() else None
    what = "latents: of the memory-write ceiling"
    yield _judged(what, "at least 30 %", "30 to 45 %", share, 0.3, _pc)
    cells = {k: c for k, c in parts.get("models", {}).items() if k.startswith("latents ")}
    bad = [key.removeprefix("latents ") for key, cell in cells.items() if "error" in cell]
    text = "not measured" if not cells else f"failed: {', '.join(bad)}" if bad else "the same"
    what = "latents: those of the CPU, bit for bit"
    yield Promise(what, "the same", "the same, by the PTX", text, None if not cells else not bad)


def table(found: list[Promise]) -> list[str]:
    """As Markdown."""
    words = {True: "kept", False: "**missed**", None: ""}
    rows = [
        f"| {p.what} | {p.promised} | {p.estimated} | {p.found} | {words[p.kept]} |" for p in found
    ]
    return ["| promise | | estimated | measured | |", "|---|---|---|---|---|", *rows]


def _judged(
    what: str, promised: str, estimated: str, value: float | None, least: float, show: Any
) -> Promise:
    if value is None:
        return Promise(what, promised, estimated)
    return Promise(what, promised, estimated, show(value), value >= least)


def _times(
    what: str, least: float, estimated: str, ours: Cell | None, theirs: Cell | None
) -> Promise:
    ratio = theirs["p50"] / ours["p50"] if ours and theirs else None
    return _judged(what, f"at least {least:g} times", estimated, ratio, least, _x)


def _fastest(found: Mapping[str, Cell], names: tuple[str, ...], size: int) -> Cell | None:
    cells = [cell for name in names if (cell := _cell(found, f"{name} n={size}"))]
    return min(cells, key=lambda cell: float(cell["p50"]), default=None)


def _cell(found: Mapping[str, Cell], key: str) -> Cell | None:
    cell = found.get(key)
    return None if cell is None or "error" in cell else cell


def _rates(parts: Parts) -> dict[str, float]:
    return {k: c["rate"] for k, c in parts.get("ceilings", {}).items() if "rate" in c}


def _pc(value: float) -> str:
    return f"{value:.0%}"


def _x(value: float) -> str:
    return f"{value:.2f} times"
