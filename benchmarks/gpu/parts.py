"""What evidence consists of: each part fills one JSON file, cell by cell, and can be resumed.

A cell that fails is kept with its error, and the rest goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import ceilings, peers, quick, timing
from benchmarks.gpu.cells import Cells
from benchmarks.gpu.checks import counts, judge, kernel_case
from benchmarks.gpu.paths import ROOT
from benchmarks.gpu.quick import Part
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.sharing import check_sharing
from benchmarks.gpu.zoo import LATENT, Entry

# The parts ----------------------------------------------------------------------------------------


def measure_ceilings(setting: Setting, cells: Cells) -> None:
    """(1) What this GPU can do: copies, writes, matrix products."""
    for name, make in ceilings.all_of(setting.device, setting.dry):
        cells.fill(name, make)


def check_kernels(setting: Setting, cells: Cells) -> None:
    """(2) Every case of every kernel, and every tiling of the main ones, against its reference."""
    from fastgan.kernels import e4m3
    from fastgan.kernels.table import KERNELS
    from fastgan.kernels.types import capability_of

    device = setting.device
    capability = capability_of(device)

    def runs(case: Any) -> bool:
        return e4m3.exists_on(capability) or not e4m3.needed_by(case)

    def one(kernel: Any, case: Any, config: Any) -> dict[str, Any]:
        return kernel_case(device, kernel, case, config)

    for kernel in KERNELS:
        for number, case in enumerate(kernel.cases[: 1 if setting.dry else None]):
            key = f"{kernel.name} {number} {case.label}"
            if runs(case):
                cells.fill(key, lambda k=kernel, c=case: one(k, c, None))
    for kernel in () if setting.dry else KERNELS:
        for number, whole in enumerate(kernel.main_cases):
            for case in (whole, replace(whole, batch=1)) if runs(whole) else ():
                for config in kernel.configs(case, capability):
                    cells.fill(
                        f"{kernel.name} main {number} batch {case.batch} {config.label}",
                        lambda k=kernel, c=case, f=config: one(k, c, f),
                    )


def check_models(setting: Setting, cells: Cells) -> None:
    """(2) Whole models against eager fp32, and latents bit for bit against the CPU."""
    from fastgan import latents

    def bits(name: str, options: dict[str, Any]) -> dict[str, Any]:
        size, n = 100, 8 if setting.dry else 70_001
        where: dict[str, Any] = {"seed": 2**63 + 11, "start": 2**32 - 5}
        here = latents.sample(name, n, (size,), device=setting.device, **where, **options)
        there = latents.sample(name, n, (size,), **where, **options)
        if not torch.equal(here.cpu(), there):
            raise AssertionError(f"{int((here.cpu() != there).sum())} numbers differ")
        return {"ok": True, "numbers": n * size}

    for name in latents.DISTRIBUTIONS:
        cells.fill(f"latents {name}", lambda n=name: bits(n, {}))
    cells.fill("latents truncated", lambda: bits("normal", {"truncation": 0.7}))

    def parity(entry: Entry, precision: str, n: int) -> dict[str, Any]:
        generator = setting.load(entry, precision)
        executable = generator._session.executable(
            generator._session.model.shapes(n) | {_port(generator): (n, *entry.shape)}
        )
        x = entry.inputs(n, setting.device)
        output = generator.signature.outputs[0]
        made = executable({_port(generator): x})[output.name].float()
        with peers.exact(), torch.inference_mode():
            expected = entry.module().to(setting.device)(x)
        low, high = entry.range
        return {
            **judge(made, expected, precision, entry.range),
            "finite": bool(made.isfinite().all()),
            "max_level": int((_levels(made, low, high) - _levels(expected, low, high)).abs().max()),
            "library_steps": sum(s.kernel == "library" for s in executable.plan.steps),
            "steps": len(executable.plan.steps),
            "notes": sorted({f"{s.op}: {s.note}" for s in executable.plan.steps if s.note}),
        }

    for entry in setting.entries:
        for precision in setting.precisions:
            cells.fill(f"{entry.name} {precision}", lambda e=entry, p=precision: parity(e, p, 2))


def tune(setting: Setting, cells: Cells) -> None:
    """Measure each step's candidates, so that what follows is timed on the fastest ones."""

    def one(entry: Entry, batch: int, precision: str, most: float) -> dict[str, Any]:
        generator = setting.load(entry, precision)
        left = max(1.0, min(most, setting.deadline - time.monotonic()))
        shapes = generator._session.model.shapes(batch) | {_port(generator): (batch, *entry.shape)}
        executable = generator._session.executable(shapes)
        measure = (lambda run: run() is None or 1.0) if setting.dry else None
        return {"measured": executable.tune(_image(generator), seconds=left, measure=measure)}

    for batch in setting.batches[: 1 if setting.dry else 3]:
        for entry in setting.entries[: 1 if setting.dry else None]:
            cells.fill(f"{entry.name} n={batch}", lambda e=entry, b=batch: one(e, b, "fp16", 45.0))
    for entry in setting.entries[: 1 if setting.dry else None]:
        if "fp8" in setting.precisions:
            # Its large layers alone: the others are those of fp16.
            batch = setting.batches[1]
            key = f"{entry.name} fp8 n={batch}"
            cells.fill(key, lambda e=entry, b=batch: one(e, b, "fp8", 10.0))


def measure_throughput(setting: Setting, cells: Cells, name: str) -> None:
    """(3) One model: ours and the others, at every batch size."""
    entry = next(e for e in setting.entries if e.name == name)
    path, module, device = entry.export(setting.models), entry.module(), setting.device
    x = entry.inputs(2, device)

    def ours(precision: str, n: int) -> dict[str, Any]:
        generator = setting.load(entry, precision)
        port, image = _port(generator), _image(generator)
        executable = generator._session.executable({port: (n, *entry.shape)})
        given = {port: entry.inputs(n, device)}
        images, _ = executable.images(given, image)
        run = lambda: executable.images(given, image, images)  # noqa: E731
        found = timing.throughput(run, device, setting.seconds)
        return {**found, "n": n, **counts(executable), "precision": precision}

    def generate(precision: str, n: int) -> dict[str, Any]:
        generator = setting.load(entry, precision)
        run = lambda: generator.generate(n, seed=1)  # noqa: E731
        return {**timing.throughput(run, device, setting.seconds), "n": n, "precision": precision}

    def peer(make: peers.Make, n: int) -> dict[str, Any]:
        run = make(module, path, entry.inputs(n, device))
        return {**timing.throughput(run, device, setting.seconds), "n": n}

    for kind in ("quick", "compile"):
        for n in setting.batches:
            if kind == "quick":
                for precision in setting.precisions:
                    cells.fill(f"fastgan {precision} n={n}", lambda p=precision, n=n: ours(p, n))
                    if entry.kind == LATENT:
                        key = f"fastgan generate {precision} n={n}"
                        cells.fill(key, lambda p=precision, n=n: generate(p, n))
            for title, make in peers.PEERS.items():
                if title.startswith("compile") == (kind == "compile"):
                    cells.fill(f"{title} n={n}", lambda m=make, n=n: peer(m, n))
    del x


def measure_latency(setting: Setting, cells: Cells) -> None:
    """(4) From a seed to one image, latents included, frame after frame."""
    frames = 3 if setting.dry else 2000
    device = setting.device

    def ours(entry: Entry, precision: str, format: str) -> dict[str, Any]:
        generator = setting.load(entry, precision)
        out = generator.generate(1, format=format)
        run = lambda i: generator.generate(1, start=i, format=format, out=out)  # noqa: E731
        return timing.latency(run, device, frames)

    def peer(entry: Entry, make: peers.Make) -> dict[str, Any]:
        x = entry.inputs(1, device)
        run = make(entry.module(), entry.export(setting.models), x)

        def frame(_: int) -> None:
            torch.randn(x.shape, device=device, out=x)
            run()

        return timing.latency(frame, device, frames)

    for entry in (e for e in setting.entries if e.kind == LATENT):
        for precision in setting.precisions[:2]:
            for format in ("float32", "uint8"):
                key = f"{entry.name} fastgan {precision} {format}"
                cells.fill(key, lambda e=entry, p=precision, f=format: ours(e, p, f))
        # Their own inputs are static, in fp16 a copy: the new latents are drawn, not converted.
        for title, make in peers.PEERS.items():
            if title != "onnxruntime":
                cells.fill(f"{entry.name} {title}", lambda e=entry, m=make: peer(e, m))


#: What is held to 90 frames a second.
REALTIME = ("dcgan64", "stylegan2-256", "cyclegan256")


def measure_realtime(setting: Setting, cells: Cells) -> None:
    """(7) A frame every 11.1 ms: deadlines missed, and how long each frame took."""
    from fastgan.measure import rates

    fps, seconds = 90.0, 0.1 if setting.dry else 10.0

    def ours(entry: Entry) -> dict[str, Any]:
        generator = setting.load(entry, "fp16")
        if entry.kind == LATENT:
            return rates.run(generator, fps, seconds).as_json()
        channels, height, width = entry.shape
        picture = torch.randint(0, 256, (height, width, channels), dtype=torch.uint8)

        def camera() -> Iterator[torch.Tensor]:
            while True:
                yield picture
                time.sleep(1 / fps)

        with generator.stream(fps=fps, source=camera(), frames=round(fps * seconds)) as stream:
            for _ in stream:
                pass
            return stream.stats.as_json()

    for entry in setting.entries:
        if entry.name in REALTIME or setting.dry:
            cells.fill(f"{entry.name} fastgan fp16 at {fps:g} fps", lambda e=entry: ours(e))


COLD = """
import sys, time
began = time.perf_counter()
from benchmarks.gpu.paths import arrange
arrange()
import fastgan, torch
imported = time.perf_counter()
g = fastgan.load(sys.argv[1], device=sys.argv[2], precision=sys.argv[3], backend="triton")
loaded = time.perf_counter()
g.generate(1).cpu()
first = time.perf_counter()
g.generate(1).cpu()
print(imported - began, loaded - imported, first - loaded, time.perf_counter() - first)
"""


def measure_cold_start(setting: Setting, cells: Cells) -> None:
    """(5) A new process to its first image: with empty caches, and with what that one left."""
    for entry in [e for e in setting.entries if e.kind == LATENT][: 1 if setting.dry else 2]:
        with tempfile.TemporaryDirectory() as folder:

            def one(entry: Entry = entry, folder: str = folder) -> dict[str, Any]:
                places = {"TRITON_CACHE_DIR": f"{folder}/triton", "FASTGAN_CACHE": f"{folder}/ours"}
                path = entry.export(setting.models)
                arguments = [str(path), str(setting.device), setting.precisions[0]]
                began = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", COLD, *arguments],
                    cwd=ROOT,
                    env={**os.environ, **places},
                    capture_output=True,
                    text=True,
                    timeout=300,
                )
                whole = time.perf_counter() - began
                if done.returncode:
                    raise RuntimeError(done.stderr.strip().splitlines()[-1])
                names = ("import", "load", "first_image", "second_image")
                return {
                    **dict(zip(names, map(float, done.stdout.split()), strict=True)),
                    "all": whole,
                }

            cells.fill(f"{entry.name} empty caches", one)
            cells.fill(f"{entry.name} full caches", one)


def measure_memory(setting: Setting, cells: Cells) -> None:
    """(6) The most device memory that a run takes, weights included."""
    device = setting.device

    def peak(run: Callable[[], object]) -> dict[str, Any]:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        run()
        timing.synchronise(device)
        most = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        held = torch.cuda.memory_reserved(device) if device.type == "cuda" else 0
        return {"peak": most, "reserved": held}

    def ours(entry: Entry, n: int) -> dict[str, Any]:
        generator = setting.load(entry, setting.precisions[0])
        executable = generator._session.executable({_port(generator): (n, *entry.shape)})
        given = {_port(generator): entry.inputs(n, device)}
        found = peak(lambda: executable.images(given, _image(generator)))
        apart = sum(b.bytes for b in executable.plan.buffers.values())
        share = executable.target.dtype.itemsize / 4
        return {**found, "arena": executable.bytes, "buffers_apart": int(apart * share)}

    def peer(entry: Entry, n: int) -> dict[str, Any]:
        make = peers.eager(torch.float16 if device.type == "cuda" else torch.float32, last=True)
        x = entry.inputs(n, device)
        return peak(lambda: make(entry.module(), Path(), x)())

    for entry in setting.entries:
        for n in (1,) if setting.dry else (1, 64):
            cells.fill(f"{entry.name} fastgan n={n}", lambda e=entry, n=n: ours(e, n))
            cells.fill(f"{entry.name} eager n={n}", lambda e=entry, n=n: peer(e, n))


#: Seconds that a part of the full run may take.
_LONG = 1800.0


def parts(entries: tuple[Entry, ...]) -> dict[str, Part]:
    """All parts by name, the most telling ones first: what each does, and its limit in seconds."""
    found: dict[str, Part] = dict(quick.PARTS)
    found = {"smoke": found.pop("smoke"), "ceilings": (measure_ceilings, 20.0), **found}
    return found | {name: (run, _LONG) for name, run in _full(entries).items()}


#: Those that are measured unless `--full` asks for all.
QUICK = ("smoke", "ceilings", "dcgan64", "kernels-quick")


def _full(entries: tuple[Entry, ...]) -> dict[str, Callable[[Setting, Cells], None]]:
    def throughput(entry: Entry) -> Callable[[Setting, Cells], None]:
        return lambda setting, cells: measure_throughput(setting, cells, entry.name)

    return {
        "kernels": check_kernels,
        "models": check_models,
        "latency": measure_latency,
        "tune": tune,
        **{f"throughput-{entry.name}": throughput(entry) for entry in entries},
        "realtime": measure_realtime,
        "sharing": check_sharing,
        "cold": measure_cold_start,
        "memory": measure_memory,
    }


def _port(generator: Any) -> str:
    return str(generator.signature.inputs[0].name)


def _image(generator: Any) -> Any:
    from fastgan.images.format import ImageFormat

    output = generator.signature.outputs[0]
    return ImageFormat(output.name, "float32", output.range)


def _levels(images: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return ((images - low) / (high - low) * 255).round().clamp(0, 255).nan_to_num(0)
