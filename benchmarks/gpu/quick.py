"""The six minutes that tell the most: is it right, does it fall back, how fast is DCGAN-64."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu import peers, timing
from benchmarks.gpu.cells import Cells
from benchmarks.gpu.checks import MOST_APART, counts, judge, kernel_case
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.zoo import Entry


def smoke(setting: Setting, cells: Cells) -> None:
    """Latents' bits, images at small, middling and large batches against eager fp32, fallbacks."""
    entry: Entry = setting.entries[0]
    precision = setting.precisions[0]
    shared: dict[str, Any] = {}

    def generator() -> Any:
        if "g" not in shared:
            shared["g"] = setting.load(entry, precision)
            # A rehearsed GPU has fastgan's own launches; PyTorch's operators stay on the CPU.
            shared["reference"] = torch.device("cpu") if setting.rehearsed else setting.device
            shared["module"] = entry.module().to(shared["reference"])
        return shared["g"]

    def load() -> dict[str, Any]:
        g = generator()
        return {"backend": g.backend, "precision": g.precision, "device": str(g.device)}

    def bits(kind: str) -> dict[str, Any]:
        from fastgan import latents

        where: dict[str, Any] = {"seed": 2**63 + 11, "start": 2**32 - 5}
        n = 8 if setting.dry else 70_001
        here = latents.sample(kind, n, (100,), device=setting.device, **where).cpu()
        wrong = int((here != latents.sample(kind, n, (100,), **where)).sum())
        assert wrong == 0, f"{wrong} numbers are not the CPU's"
        return {"numbers": here.numel()}

    def images(n: int, format: str) -> dict[str, Any]:
        g = generator()
        made, again = (g.generate(n, seed=7, format=format).clone() for _ in range(2))
        assert torch.equal(made, again), "other images the second time"
        with peers.exact(), torch.inference_mode():
            expected = shared["module"](g.latents(n, seed=7).to(shared["reference"]))
        made = made.to(shared["reference"])
        low, high = entry.range
        if format == "uint8":
            levels = ((expected - low) / (high - low) * 255).round().clamp(0, 255)
            made = made.permute(0, 3, 1, 2).float()
            return judge(made, levels, "fp16" if precision in MOST_APART else precision, (0, 255))
        return judge(made, expected, precision, entry.range)

    sizes, formats = (1,) if setting.dry else (1, 64, 1024), ("float32", "uint8")

    def fallbacks() -> dict[str, Any]:
        for n in sizes:
            for format in formats:
                generator().generate(n, format=format)
        found = [str(refusal) for refusal in generator().fallbacks]
        assert not found, "; ".join(found)
        return {"fallbacks": 0}

    cells.fill("load", load)
    for kind in ("normal", "uniform", "hypersphere"):
        cells.fill(f"latents {kind}", lambda k=kind: bits(k))
    for n in sizes:
        for format in formats:
            cells.fill(f"{entry.name} n={n} {format}", lambda n=n, f=format: images(n, f))
    cells.fill("fallbacks", fallbacks)


def dcgan64(setting: Setting, cells: Cells) -> None:
    """From a seed to one image, and images per second, beside eager's graph and torch.compile."""
    entry: Entry = setting.entries[0]
    device, precision = setting.device, setting.precisions[0]
    frames = 1 if setting.dry else 1000

    def latency(format: str) -> dict[str, Any]:
        g = setting.load(entry, precision)
        out = g.generate(1, format=format)
        run = lambda i: g.generate(1, start=i, format=format, out=out)  # noqa: E731
        return timing.latency(run, device, frames)

    def prepared(format: str) -> dict[str, Any]:
        frame = setting.load(entry, precision).prepare(1, format=format)
        return timing.latency(lambda i: frame(start=i), device, frames)

    def host() -> dict[str, Any]:
        """Seconds that a call keeps the host, its launch included; the GPU is not waited for."""
        g = setting.load(entry, precision)
        frame, out = g.prepare(1, format="uint8"), g.generate(1, format="uint8")
        calls = {
            "prepared": lambda i: frame(),
            "prepared, of a seed": lambda i: frame(seed=i),
            "generate": lambda i: g.generate(1, start=i, format="uint8", out=out),
            "batch": lambda i: g.generate(1, start=i, format="uint8", out=out, batch_size=1),
        }
        found: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(1 if setting.dry else 20):
            for name, call in calls.items():
                timing.synchronise(device)
                began = time.perf_counter()
                for i in range(frames // 20 + 1):  # few, so that no queue of launches fills up
                    call(i)
                found[name].append((time.perf_counter() - began) / (frames // 20 + 1))
        return {f"{name} seconds": statistics.median(each) for name, each in found.items()}

    def ours(n: int) -> dict[str, Any]:
        g = setting.load(entry, precision)
        run = lambda: g.generate(n, seed=1)  # noqa: E731
        found = {**timing.throughput(run, device, setting.seconds), "n": n, "precision": precision}
        return found | counts(g._session.executable(g._session.model.shapes(n)))

    def peer(make: peers.Make, n: int) -> dict[str, Any]:
        run = make(entry.module(), entry.export(setting.models), entry.inputs(n, device))
        return {**timing.throughput(run, device, setting.seconds), "n": n}

    for format in ("uint8", "float32"):
        cells.fill(f"latency {format}", lambda f=format: latency(f))
        cells.fill(f"latency prepared {format}", lambda f=format: prepared(f))
    cells.fill("host", host)
    sizes = (2,) if setting.dry else (1, 64, 1024)
    for n in sizes:
        cells.fill(f"fastgan {precision} n={n}", lambda n=n: ours(n))
    for title in () if setting.dry else ("eager fp16 channels-last graph", "compile fp16"):
        for n in sizes:
            cells.fill(f"{title} n={n}", lambda t=title, n=n: peer(peers.PEERS[t], n))


def kernels_quick(setting: Setting, cells: Cells) -> None:
    """The main cases of every kernel at their default tiling; compiled by all cores beforehand."""
    from fastgan.kernels import compiling, e4m3
    from fastgan.kernels.table import KERNELS
    from fastgan.kernels.types import capability_of

    device = torch.device("cpu") if setting.dry else setting.device
    capability = capability_of(device)
    chosen = [
        (number, kernel, case)
        for kernel in KERNELS
        for number, case in enumerate(kernel.main_cases or kernel.cases)
        if e4m3.exists_on(capability) or not e4m3.needed_by(case)
    ]
    if setting.dry:
        chosen = [(0, KERNELS[0], KERNELS[0].cases[0])]
    calls = []
    for _, kernel, case in chosen:
        inputs = kernel.inputs(case, None, torch.device("meta"))
        config = kernel.configs(case, capability)[0]
        calls += kernel.prepare(**inputs.launch, config=config).calls
    compiling.ahead(calls)
    for number, kernel, case in chosen:
        cells.fill(
            f"{kernel.name} {number} {case.label}",
            lambda k=kernel, c=case: kernel_case(device, k, c, None),
        )


#: By name: what it does, and for how many seconds at most. The most telling ones first.
Part = tuple[Callable[[Setting, Cells], None], float]
PARTS: dict[str, Any] = {"smoke": (smoke, 60.0)}
PARTS |= {"dcgan64": (dcgan64, 90.0), "kernels-quick": (kernels_quick, 60.0)}
