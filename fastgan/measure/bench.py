"""One benchmark run: this project and its peers on one model, in turns, at several sizes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import torch

import fastgan
from fastgan.errors import ArgumentError, BackendError, FastganError
from fastgan.generator import Generator
from fastgan.measure import ceilings, machine
from fastgan.measure.peers import (
    PEERS,
    Contender,
    MissingError,
    ModuleMaker,
    Setting,
    one_line,
    registry_module,
)
from fastgan.measure.reference import unfused_plan
from fastgan.measure.subject import Subject, open_subject, run_batched
from fastgan.measure.timing import Ratio, Run, Samples, ratio, take_turns

SIZES = (1, 16, 64, 256, 1024)

#: Every ratio is of this peer's time over another's.
BASELINE = "onnxruntime"

#: Unless a peer is asked for by name, it is left out of further sizes once its set-up took this
#: long in all (torch.compile, for each size anew).
PATIENCE = 30.0

Say = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run of n samples takes whoever does it, from the file's graph.

    Attributes:
        flops: floating-point operations, a multiply and an add counting as two.
        bytes: the weights and inputs read once, the images written once, in fp32. What lies between
            the layers is left out: it can stay in a cache.
    """

    flops: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Result:
    """One contender at one size."""

    n: int
    name: str
    samples: Samples
    precision: str | None
    ratio: Ratio | None

    @property
    def rate(self) -> float:
        """Images per second at the median."""
        return self.n / self.samples.median

    def as_json(self) -> dict[str, Any]:
        """Everything, raw samples included."""
        s = self.samples
        return {
            "n": self.n,
            "contender": self.name,
            "seconds": {"p50": s.median, "p90": s.percentile(90), "p99": s.percentile(99)},
            "images_per_second": self.rate,
            "ratio_to_onnxruntime": self.ratio
            and {"median": self.ratio.median, "p10": self.ratio.low, "p90": self.ratio.high},
            "samples": s.turns,
        }


@dataclass(slots=True)
class Report:
    """A whole run. `skipped` says what did not take part, and why."""

    model: str
    run_by: str
    threads: int
    device: str
    contenders: dict[str, str]
    ceilings: ceilings.Ceilings
    costs: dict[int, Cost] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def get(self, n: int, name: str) -> Result | None:
        """The result of one contender at one size."""
        return next((r for r in self.results if (r.n, r.name) == (n, name)), None)

    def roofline(self, result: Result) -> float | None:
        """The share of the attainable speed: the least time that the ceilings allow over p50."""
        cost = self.costs.get(result.n)
        if cost is None or result.precision not in self.ceilings.flops:
            return None
        floor = self.ceilings.floor(result.precision, cost.flops, cost.bytes)
        return floor / result.samples.median

    @property
    def sizes(self) -> list[int]:
        """The sizes that were run, in order."""
        return list(dict.fromkeys(result.n for result in self.results))

    def as_json(self, command: Sequence[str]) -> dict[str, Any]:
        """The report with the machine, versions, command and date."""
        return {
            "format": 1,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "command": list(command),
            "machine": machine.describe(),
            "model": self.model,
            "fastgan": self.run_by,
            "device": self.device,
            "threads": self.threads,
            "seconds": self.seconds,
            "contenders": self.contenders,
            "skipped": self.skipped,
            "ceilings": {
                "flops_per_second": self.ceilings.flops,
                "copy_bytes_per_second": self.ceilings.copy,
            },
            "cost": {n: {"flops": c.flops, "bytes": c.bytes} for n, c in self.costs.items()},
            "results": [
                {**result.as_json(), "share_of_roofline": self.roofline(result)}
                for result in self.results
            ],
        }


def run(
    source: str,
    *,
    sizes: Sequence[int] = SIZES,
    seconds: float = 5.0,
    precision: str = "auto",
    device: str = "auto",
    backend: str = "auto",
    peers: Sequence[str] | None = None,
    threads: int | None = None,
    module: tuple[ModuleMaker, str] | None = None,
    say: Say = lambda text, done: None,
) -> Report:
    """Time fastgan and its peers on one model.

    Args:
        source: as for `fastgan.load`, but no bytes.
        sizes: images per call.
        seconds: of timing per size; every contender has three turns, however long they take.
        precision, device, backend: as for `fastgan.load`. With "auto" on a CPU that has bf16
            instructions, bf16 is timed as well.
        peers: names from `PEERS`; all if None.
        threads: CPU threads for each contender; all cores of this process if None.
        module: the model as a PyTorch module and what that is; by default it is built from the
            file's nodes.
        say: told what is being done and how much of the whole is, 0 to 1.

    Raises:
        ArgumentError: a size or a name that is none.
        FastganError: whatever `fastgan.load` raises.
    """
    began = time.perf_counter()
    threads = machine.cores() if threads is None else threads
    for name, number in (("--n", min(sizes, default=0)), ("--threads", threads)):
        if number < 1:
            raise ArgumentError(name, str(number), "whole numbers of at least 1")
    unknown = [name for name in peers or () if name not in PEERS]
    if unknown:
        raise ArgumentError("--peers", repr(unknown[0]), ", ".join(PEERS))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        say("loading", 0.0)
        subject = open_subject(source)
        if subject.signature.frozen_batch:
            sizes = [subject.signature.frozen_batch]
        generator = fastgan.load(source, precision=precision, device=device, backend=backend)
        setting = Setting(subject, generator.device, threads, *(module or registry_module(subject)))
        contenders, skipped = _contenders(source, generator, setting, precision, backend, peers)
        say("measuring the ceilings", 0.0)
        kinds = list(dict.fromkeys(c.precision for c in contenders if c.precision))
        report = Report(
            subject.model.name,
            repr(generator),
            threads,
            str(generator.device),
            {c.name: c.what for c in contenders},
            ceilings.measure(generator.device, kinds),
            skipped=skipped,
        )
        patience = PATIENCE if peers is None else float("inf")
        _fill(report, setting, contenders, sizes, seconds, patience, say)
        # Once more: the machine may have been busy the first time.
        report.ceilings = report.ceilings.best(ceilings.measure(generator.device, kinds))
        report.seconds = time.perf_counter() - began
        return report
    finally:
        torch.set_num_threads(before)


# Contenders --------------------------------------------------------------------------------------


def _contenders(
    source: str,
    generator: Generator,
    setting: Setting,
    precision: str,
    backend: str,
    peers: Sequence[str] | None,
) -> tuple[list[Contender], list[str]]:
    found, skipped = ours(generator, setting.subject, "fastgan"), []
    if precision == "auto" and generator.device.type == "cpu" and has_bf16():
        try:
            other = fastgan.load(source, precision="bf16", device="cpu", backend=backend)
            found += ours(other, setting.subject, "fastgan bf16")[:1]
        except BackendError as error:
            skipped.append(f"fastgan bf16: {error}")
    for name in PEERS if peers is None else peers:
        if peers is None and name.endswith("bf16") and not has_bf16():
            continue
        try:
            found.append(PEERS[name](setting))
        except MissingError as error:
            skipped.append(f"{name}: {error}")
    return found, skipped


def ours(generator: Generator, subject: Subject, name: str) -> list[Contender]:
    """This project: from a seed, as users call it; and fed latents, as its peers are."""

    def seeded(n: int) -> Run:
        return lambda: generator.generate(n)

    def fed(n: int) -> Run:
        inputs = {k: t.to(generator.device) for k, t in subject.inputs(n).items()}
        return lambda: run_batched(generator, inputs, subject.output.name)

    how = f"{generator.backend} on {generator.device} in {generator.precision}"
    contenders = [Contender(f"{name} fed", f"{how}, fed latents", fed, generator.precision)]
    if all(port.kind in ("latent", "noise", "label") for port in subject.signature.inputs):
        what = f"generate(n): {how}, latents drawn from a seed included"
        contenders.insert(0, Contender(name, what, seeded, generator.precision))
    return contenders


def has_bf16() -> bool:
    """Whether this CPU computes in bf16 faster than in fp32."""
    from fastgan.backends import onednn

    return onednn.bfloat16_available()


# Sizes -------------------------------------------------------------------------------------------


def _fill(
    report: Report,
    setting: Setting,
    contenders: Sequence[Contender],
    sizes: Sequence[int],
    seconds: float,
    patience: float,
    say: Say,
) -> None:
    synchronise = _synchronise(setting.device)
    set_up = dict.fromkeys(report.contenders, 0.0)
    for index, n in enumerate(sizes):
        runs: dict[str, Run] = {}
        for contender in contenders:
            name = contender.name
            if set_up[name] > patience:
                report.skipped.append(
                    f"{name} at n = {n}: {set_up[name]:.0f} s of set-up so far; name it in --peers"
                )
                continue
            say(f"n = {n}: setting up {name}", index / len(sizes))
            began = time.perf_counter()
            try:
                runs[name] = contender.prepare(n)
                runs[name]()
            except FastganError:
                raise
            except Exception as error:  # whatever a peer raises: it does not take part
                runs.pop(name, None)
                report.skipped.append(f"{name} at n = {n}: {one_line(error)}")
            set_up[name] += time.perf_counter() - began
        say(f"n = {n}", index / len(sizes))
        samples = take_turns(
            runs,
            seconds,
            synchronise=synchronise,
            on_progress=lambda done, n=n, i=index: say(f"n = {n}", (i + done) / len(sizes)),
        )
        cost = _cost(setting.subject, n)
        if cost is not None:
            report.costs[n] = cost
        precisions = {c.name: c.precision for c in contenders}
        baseline = samples.get(BASELINE)
        for name, taken in samples.items():
            versus = ratio(baseline, taken) if baseline is not None else None
            report.results.append(Result(n, name, taken, precisions[name], versus))


def _cost(subject: Subject, n: int) -> Cost | None:
    """The cost of n samples, or None where fastgan cannot plan the model."""
    try:
        plan = unfused_plan(subject, n)
    except FastganError:
        return None
    weights = sum(w.numel() * w.element_size() for w in plan.weights.values())
    ends = sum(plan.buffers[name].bytes for name in (*plan.inputs, *plan.outputs))
    return Cost(plan.flops, weights + ends)


def _synchronise(device: torch.device) -> Callable[[], None]:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None
