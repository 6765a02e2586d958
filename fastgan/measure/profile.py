"""Where the time of a run goes: each step's own, beside the least that it could take here."""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from fastgan.engine import Target, arena, launches
from fastgan.engine.ort import backend as ort
from fastgan.errors import ArgumentError
from fastgan.generator import Generator
from fastgan.inputs import fields
from fastgan.measure import ceilings
from fastgan.measure.floor import LAUNCH, StepFloor
from fastgan.measure.subject import Inputs, example_inputs, session_of
from fastgan.measure.timing import timed, waiting
from fastgan.model.opened import Model
from fastgan.model.signature import Input
from fastgan.ops.registry import names
from fastgan.plan import Plan

#: Runs before those that are timed, and runs that a trace shows.
WARM_UP, TRACED = 3, 3


@dataclass(frozen=True, slots=True)
class Row:
    """What one part of a run takes.

    Attributes:
        number: of its step, from 1 on; 0 for what is no step.
        name: its operator; for what is no step, what it is.
        seconds: the median over the runs.
        floor: the least that this machine could take; None where nothing says what it does.
        origin: the ONNX nodes that it came from.
    """

    number: int
    name: str
    seconds: float
    floor: StepFloor | None = None
    kernel: str = ""
    fused: str = ""
    shape: tuple[int, ...] = ()
    origin: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """The parts of a run, the longest first.

    Attributes:
        seconds: the median of whole runs that nobody looked into.
        notes: what the rows do not say of themselves.
    """

    rows: Sequence[Row]
    seconds: float
    notes: Sequence[str]


# Inputs ------------------------------------------------------------------------------------------


def of_size(model: Model, generator: Generator, size: tuple[int, int]) -> Model:
    """The same with pictures of this height and width: those that go in, or else those made.

    Raises:
        ArgumentError: the model has no pictures of this size.
    """
    signature = model.signature
    if signature.image is None:
        latent = signature.latent

        def made(places: tuple[int, int]) -> tuple[int, int]:
            assert latent is not None
            port = replace(latent, shape=(*latent.shape[:2], *places))
            images = generator.run(example_inputs(_with(model, port), 1))[model.output.name]
            return images.shape[-2], images.shape[-1]

        return _with(model, fields.sized(signature, size, made)[0])
    for port in signature.inputs:
        if port.kind in ("image", "mask"):
            wanted = zip(port.shape[2:], size, strict=True)
            if any(isinstance(side, int) and side != asked for side, asked in wanted):
                raise ArgumentError("--size", f"{size[1]}x{size[0]}", f"{port.shape[2:]} alone")
            model = _with(model, replace(port, shape=(*port.shape[:2], *size)))
    return model


def _with(model: Model, port: Input) -> Model:
    inputs = (port if i.name == port.name else i for i in model.signature.inputs)
    return replace(model, signature=replace(model.signature, inputs=tuple(inputs)))


# Times -------------------------------------------------------------------------------------------


def profile(
    model: Model,
    generator: Generator,
    batch: int,
    repeats: int,
    trace: Path | None = None,
) -> Profile:
    """Time the parts of runs on the inputs of one batch.

    Args:
        model: the model that the generator runs.
        repeats: runs of each kind, after those to warm up.
        trace: a file for a few runs as a timeline, which Perfetto opens.
    """
    inputs = example_inputs(model, batch)
    run = partial(generator.run, inputs)
    wait = waiting(generator.device)
    for _ in range(WARM_UP):
        run()
    plan = _plan(model, generator, batch)
    products = 0.0 if plan is None else _products(generator)
    whole = statistics.median(timed(run, wait) for _ in range(repeats))
    if plan is None:
        return Profile(_nodes(model, generator, inputs, repeats, trace), whole, [_ORT])
    seen: dict[int, list[float]] = defaultdict(list)
    for _ in range(WARM_UP + repeats):
        clock = _Clock(wait)
        with launches.observed_by(clock):
            run()
        for index, seconds in clock.seconds.items():
            seen[index].append(seconds)
    taken = {index: statistics.median(all[-repeats:]) for index, all in seen.items()}
    if trace is not None:
        _trace(run, generator.device, trace)
    rows, notes = _rows(plan, taken, _floors(plan, generator, products)), []
    if any(row.floor and row.floor.seconds > 1.2 * row.seconds for row in rows):
        notes.append(_BUSY)
    if generator.device.type == "cuda":
        notes.append(_ONE_BY_ONE)
    return Profile(rows, whole, notes)


_BUSY = "steps that beat their floors: this machine was busy while those were measured"
_ORT = "ONNX Runtime plans for itself: these are its own nodes, as its own profiler times them"
_ONE_BY_ONE = "steps are timed one by one; a whole run replays them as one CUDA graph"


class _Clock:
    """An observer of steps that adds up what each takes."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self._wait = wait
        self.seconds: dict[int, float] = defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, index: int) -> Iterator[None]:
        self._wait()
        began = time.perf_counter()
        yield
        self._wait()
        self.seconds[index] += time.perf_counter() - began


def _plan(model: Model, generator: Generator, batch: int) -> Plan | None:
    """What the generator runs for these shapes; None where a runtime plans for itself."""
    return session_of(generator).executable(model.shapes(batch)).plan


def _rows(plan: Plan, taken: dict[int, float], floors: Sequence[StepFloor]) -> list[Row]:
    rows = []
    for index, seconds in taken.items():
        if index == launches.WHOLE:
            rows.append(Row(0, f"all {len(plan.steps)} steps", seconds, _sum(plan, floors)))
        elif not 0 <= index < len(plan.steps):
            rows.append(Row(0, "inputs" if index == launches.INPUTS else "images", seconds))
        else:
            step = plan.steps[index]
            rows.append(
                Row(
                    index + 1,
                    step.op.removeprefix("fastgan."),
                    seconds,
                    floors[index],
                    step.kernel,
                    str(step.epilogue),
                    tuple(plan.buffers[step.outputs[0]].shape),
                    step.origin,
                )
            )
    return sorted(rows, key=lambda row: -row.seconds)


def _sum(plan: Plan, floors: Sequence[StepFloor]) -> StepFloor:
    compute = sum(floor.compute for floor in floors)
    return StepFloor(plan.steps[0], compute, sum(floor.memory for floor in floors), 0.0)


# Floors ------------------------------------------------------------------------------------------


def _products(generator: Generator) -> float:
    """Operations per second of a large matrix product, measured now."""
    return ceilings.products(generator.device, [generator.precision])[generator.precision]


def _floors(plan: Plan, generator: Generator, before: float) -> list[StepFloor]:
    """By products and copies as they are measured here, now: copies of about each step's size.

    before: the rate of products before the runs; this machine may have been busy then, or now.
    """
    device, target = generator.device, Target(generator.device, generator.precision)
    rate = max(before, _products(generator))
    size = target.dtype.itemsize / 4  # plans are made in fp32

    @cache
    def copies(power: int) -> float:
        return ceilings.copies(device, 1 << power)

    def floor(index: int) -> StepFloor:
        step = plan.steps[index]
        moved = int(step.bytes * size)
        memory = moved / copies(max(10, moved.bit_length())) if moved else 0.0
        launch = LAUNCH if device.type == "cuda" and moved else 0.0
        return StepFloor(step, step.flops / rate, memory, launch)

    return [floor(index) for index in range(len(plan.steps))]


# Traces ------------------------------------------------------------------------------------------


def _trace(run: Callable[[], object], device: torch.device, path: Path) -> None:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    kinds = [ProfilerActivity.CPU]
    kinds += [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profiler(activities=kinds) as seen:
        for _ in range(TRACED):
            run()
    seen.export_chrome_trace(str(path))


def _nodes(
    model: Model, generator: Generator, inputs: Inputs, repeats: int, trace: Path | None
) -> list[Row]:
    """ONNX Runtime's nodes; its own file of them is a trace as it is."""
    target = Target(generator.device, generator.precision)
    with tempfile.TemporaryDirectory() as folder:
        session = ort.open_session(model.file, target, f"{folder}/ort")
        executable = ort.SessionExecutable(lambda: session, generator.device)
        with torch.inference_mode():
            for _ in range(WARM_UP + repeats):
                executable(inputs)
        text = Path(session.end_profiling()).read_text(encoding="utf-8")
    if trace is not None:
        trace.write_text(text, encoding="utf-8")
    taken: dict[str, list[dict[str, Any]]] = defaultdict(list)  # by name, which one may not have
    for event in json.loads(text):
        name = event["name"].removesuffix("_kernel_time")
        if event["cat"] == "Node" and name != event["name"]:
            taken[name or f"node {event['args']['node_index']}"].append(event)
    rows = [
        Row(
            number,
            events[0]["args"]["op_name"],
            statistics.median(event["dur"] for event in events[WARM_UP:]) * 1e-6,
            kernel=events[0]["args"].get("provider", "").removesuffix("ExecutionProvider"),
            shape=_first_shape(events[0]["args"]),
            origin=(name,),
        )
        for number, (name, events) in enumerate(taken.items(), 1)
    ]
    return sorted(rows, key=lambda row: -row.seconds)


def _first_shape(facts: dict[str, Any]) -> tuple[int, ...]:
    """Of a node's outputs: ONNX Runtime says [{"float": [1, 3, 8, 8]}]."""
    shapes = [shape for each in facts.get("output_type_shape", ()) for shape in each.values()]
    return tuple(shapes[0]) if shapes else ()


# Memory ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arena:
    """Where buffers lie, and from which step to which.

    Attributes:
        offsets: in bytes, by name.
        size: of them all, in bytes.
        steps: how many there are.
        planned: whether they lie there; else libraries put each where they like, and this is how
            closely they could lie.
    """

    lifetimes: Sequence[arena.Lifetime]
    offsets: dict[str, int]
    size: int
    steps: int
    planned: bool


def memory(model: Model, generator: Generator, batch: int) -> Arena:
    """The buffers of a plan.

    Raises:
        ArgumentError: a runtime plans for itself, so that nobody knows them.
    """
    plan = _plan(model, generator, batch)
    if plan is None:
        found = f"the {generator.backend} backend, which plans for itself"
        raise ArgumentError("--arena", found, "a backend that fastgan plans for")
    if generator.backend == "triton":
        from fastgan.engine.triton.executable import TritonExecutable

        executable = session_of(generator).executable(model.shapes(batch))
        assert isinstance(executable, TritonExecutable)
        lifetimes, offsets, size = executable.layout()
        return Arena(lifetimes, offsets, size, len(plan.steps), True)
    views = names("strided") | names("view")
    scale = Target(generator.device, generator.precision).dtype.itemsize / 4
    sizes = {name: int(buffer.bytes * scale) for name, buffer in plan.buffers.items()}
    lifetimes = arena.lifetimes(plan, sizes, lambda step: step.op in views)
    offsets, size = arena.place(lifetimes)
    return Arena(lifetimes, offsets, size, len(plan.steps), False)
