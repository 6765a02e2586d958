"""One benchmark run: this project and its peers on one model, in turns, at several sizes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from fastgan.errors import ArgumentError, BackendError, FastganError, one_line
from fastgan.generator import Generator
from fastgan.host import processor
from fastgan.loading import open_model, start
from fastgan.measure import ceilings, machine
from fastgan.measure.bench.peers import (
    PEERS,
    Contender,
    MissingError,
    ModuleMaker,
    Setting,
    registry_module,
)
from fastgan.measure.bench.report import BASELINE, Cost, Report, Result
from fastgan.measure.reference import unfused_plan
from fastgan.measure.subject import example_inputs, fed
from fastgan.measure.timing import Run, ratio, take_turns, waiting
from fastgan.model.opened import Model

SIZES = (1, 16, 64, 256, 1024)

#: Unless a peer is asked for by name, it is left out of further sizes once its set-up took this
#: long in all (torch.compile, for each size anew).
PATIENCE = 30.0

Say = Callable[[str, float], None]


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
        model = open_model(source)
        if model.declared.frozen_batch:  # the peers hold the file to it
            sizes = [model.declared.frozen_batch]
        generator = start(model, precision=precision, device=device, backend=backend)
        setting = Setting(model, generator.device, threads, *(module or registry_module(model)))
        contenders, skipped = _contenders(generator, setting, precision, backend, peers)
        say("measuring the ceilings", 0.0)
        kinds = list(dict.fromkeys(c.precision for c in contenders if c.precision))
        report = Report(
            model.name,
            repr(generator),
            threads,
            str(generator.device),
            {c.name: c.what for c in contenders},
            ceilings.products(generator.device, kinds),
            skipped=skipped,
        )
        patience = PATIENCE if peers is None else float("inf")
        _fill(report, setting, contenders, sizes, seconds, patience, say)
        # Once more: the machine may have been busy the first time.
        again = ceilings.products(generator.device, kinds)
        rates = report.product_rates
        report.product_rates = {kind: max(rates[kind], again[kind]) for kind in kinds}
        report.seconds = time.perf_counter() - began
        return report
    finally:
        torch.set_num_threads(before)


# Contenders --------------------------------------------------------------------------------------


def _contenders(
    generator: Generator,
    setting: Setting,
    precision: str,
    backend: str,
    peers: Sequence[str] | None,
) -> tuple[list[Contender], list[str]]:
    found, skipped = ours(generator, setting.model, "fastgan"), []
    has_bf16 = processor.has_bfloat16()
    if precision == "auto" and generator.device.type == "cpu" and not has_bf16:
        skipped.append("fastgan bf16: not on this CPU, which has no instructions for it")
    elif precision == "auto" and generator.device.type == "cpu":
        try:
            other = start(setting.model, precision="bf16", device="cpu", backend=backend)
            found += ours(other, setting.model, "fastgan bf16")[:1]
        except BackendError as error:
            skipped.append(f"fastgan bf16: {error}")
    for name in PEERS if peers is None else peers:
        if peers is None and name.endswith("bf16") and not has_bf16:
            skipped.append(f"{name}: not on this CPU, which has no instructions for bf16")
            continue
        try:
            found.append(PEERS[name](setting))
        except MissingError as error:
            skipped.append(f"{name}: {error}")
    return found, skipped


def ours(generator: Generator, model: Model, name: str) -> list[Contender]:
    """This project: from a seed, as users call it; and fed latents, as its peers are."""

    def seeded(n: int) -> Run:
        return lambda: generator.generate(n)

    def given(n: int) -> Run:
        inputs = {k: t.to(generator.device) for k, t in example_inputs(model, n).items()}
        return fed(generator, inputs, n)

    how = f"{generator.backend} on {generator.device} in {generator.precision}"
    contenders = [Contender(f"{name} fed", f"{how}, fed latents", given, generator.precision)]
    if not model.signature.needed:
        what = f"generate(n): {how}, latents drawn from a seed included"
        contenders.insert(0, Contender(name, what, seeded, generator.precision))
    return contenders


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
    set_up = dict.fromkeys(report.contenders, 0.0)
    for index, n in enumerate(sizes):

        def progress(done: float, n: int = n, index: int = index) -> None:
            say(f"n = {n}", (index + done) / len(sizes))

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
            except Exception as error:  # whatever a peer raises: it does not take part
                if name.startswith("fastgan"):
                    raise
                runs.pop(name, None)
                report.skipped.append(f"{name} at n = {n}: {one_line(error)}")
            set_up[name] += time.perf_counter() - began
        wait = waiting(setting.device)
        samples = take_turns(runs, seconds, synchronise=wait, on_progress=progress)
        cost = _cost(setting, n)
        if cost is not None:
            report.costs[n] = cost
        precisions = {c.name: c.precision for c in contenders}
        baseline = samples.get(BASELINE)
        for name, taken in samples.items():
            versus = ratio(baseline, taken) if baseline is not None else None
            report.results.append(Result(n, name, taken, precisions[name], versus))


def _cost(setting: Setting, n: int) -> Cost | None:
    """The cost of n samples, or None where fastgan cannot plan the model."""
    try:
        plan = unfused_plan(setting.model, n)
    except FastganError:
        return None
    weights = sum(weight.numel() for weight in plan.weights.values())
    ends = sum(plan.buffers[name].bytes for name in (*plan.inputs, *plan.outputs))
    return Cost(plan.flops, weights, ends, ceilings.copies(setting.device, 4 * weights + ends))
