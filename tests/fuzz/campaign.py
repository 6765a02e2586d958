"""A long fuzzing run by hand: `python -m tests.fuzz.campaign --count 20000 --seed 1`.

Mutants are read, and those accepted are loaded (planned, or given to ONNX Runtime) and run, on the
backend that takes them and on ONNX Runtime, and opened by ONNX Runtime in any case, in a worker
process. A worker that dies, works for more than ten seconds or grows by half a gigabyte, and any
exception that is none of our errors, are reported with the mutant that did it (kept under --keep);
a worker that died is replaced. Exit status 1 if there was any. `--of shipped` takes the models that
ship with fastgan, whose mutants come much further than those of ONNX's test cases; `--of data` the
files that the onnx package carries, which takes no time to begin with.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

SECONDS, MEGABYTES = 10.0, 512
STUCK = 300.0  # without a word from the worker, by the clock; the machine may be busy


def worker(seed: str, first: int, last: int, runtime: bool, keep: Path, of: str) -> None:
    """Read mutants `first` to `last`, one JSON line before and after each."""
    import logging
    import resource

    import onnxruntime
    import torch

    import fastgan
    from fastgan.errors import FastganError
    from fastgan.model.file import read
    from tests.fuzz.mutate import mutant

    logging.getLogger("fastgan").setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    models = all_models(keep, of)
    onnxruntime.set_default_logger_severity(4)
    fastgan.load(models[0], device="cpu")  # every import, before memory is limited
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (4 << 30),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4

    report_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Libraries may print to standard output; the reports have it for themselves.

    def say(**fields: object) -> None:
        print(json.dumps(fields), file=report_to, flush=True)

    for index in range(first, last):
        say(index=index, phase="read")
        data = mutant(random.Random(f"{seed}/{index}"), models)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        outcome = "accepted"
        try:
            model = read(data)
        except FastganError as error:
            outcome = f"{type(error).__name__}"
            if error.__cause__ is not None:  # Raised by a library, where a check should have been.
                say(index=index, phase=str(error))
                os._exit(3)
        else:
            for backend in ("auto", "ort") if runtime else ("auto",):
                say(index=index, phase=f"load and run on {backend}")
                foreign = use(data, backend)
                if foreign:
                    say(index=index, phase="foreign", trouble=f"on {backend}: {foreign}")
            if runtime:
                say(index=index, phase="runtime")
                try:
                    onnxruntime.InferenceSession(
                        model.to_runtime(), options, providers=["CPUExecutionProvider"]
                    )
                    outcome = "runs"
                except Exception as error:
                    outcome = f"accepted, runtime: {type(error).__name__}"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
        seconds = time.process_time() - started
        say(index=index, outcome=outcome, grown=grown, seconds=round(seconds, 2))
        if grown > MEGABYTES:
            return


def use(data: bytes, backend: str) -> str:
    """Load a model and make images; what was raised that is none of our errors, or ""."""
    import numpy as np

    import fastgan
    from fastgan.errors import FastganError

    def size(given: object, otherwise: int) -> int:
        return given if isinstance(given, int) and 0 <= given <= 1 << 10 else otherwise

    def images(g: fastgan.Generator) -> None:
        port = g.signature.image
        if port is None:
            g.generate(2)
            return
        sides = [size(given, 16) for given in (*port.shape[1:], 3, 16, 16)[:3]]
        image = np.random.default_rng(0).random((1, *sides), np.float32)
        g(image, **{p.name: image for p in g.signature.needed if p is not port})

    def tensors(g: fastgan.Generator) -> None:
        inputs = {}
        for port in g.signature.inputs:
            shape = tuple(size(given, 2) for given in port.shape)
            if np.prod(shape, dtype=float) < 1 << 20:
                inputs[port.name] = np.random.default_rng(0).random(shape).astype(port.dtype)
        g.run(inputs)

    try:
        g = fastgan.load(data, device="cpu", backend=backend)
    except FastganError:
        return ""
    except Exception as error:
        return said(error)
    for run in (images, tensors):
        try:
            run(g)
        except FastganError:
            continue
        except Exception as error:
            return said(error)
    return ""


def said(error: Exception) -> str:
    """An exception and the places in fastgan that it came through, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "/fastgan/" in f.filename]
    text = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {text} ({' > '.join(own[-4:])}; in {frames[-1].name})"


def all_models(keep: Path, of: str) -> tuple[bytes, ...]:
    """What the mutants are made of."""
    from tests.fuzz.mutate import corpus, node_cases, shipped

    if of == "onnx":
        return corpus() + node_cases(keep / "cases")
    return shipped() if of == "shipped" else corpus()


def campaign(count: int, seed: str, runtime: bool, keep: Path, of: str, first: int = 0) -> int:
    """Run workers until `count` mutants are through; the number that broke something."""
    all_models(keep, of)
    outcomes: Counter[str] = Counter()
    bad, index, started = 0, first, time.monotonic()
    while index < count:
        command = [sys.executable, "-m", "tests.fuzz.campaign", "--worker"]
        command += ["--seed", seed, "--first", str(index), "--count", str(count)]
        command += ["--keep", str(keep), "--of", of]
        child = subprocess.Popen(
            command if runtime else [*command, "--no-runtime"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        assert child.stdout is not None
        trouble, phase = "", "start"
        import selectors

        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(timeout=600 if phase == "start" else STUCK):
                    child.kill()
                    trouble = f"hang in {phase}"
                    break
                line = child.stdout.readline()
                if not line:
                    break
                said = json.loads(line)
                index, phase = said["index"], said.get("phase", "done")
                if phase == "foreign":
                    report(seed, index, said["trouble"], keep, of)
                    bad += 1
                elif phase == "done":
                    outcomes[said["outcome"]] += 1
                    if said["grown"] > MEGABYTES or said["seconds"] > SECONDS:
                        report(seed, index, f"{said}", keep, of)
                        bad += 1
                    index += 1
        child.wait()
        if not trouble and (phase not in ("done", "start") or child.returncode):
            errors = child.stderr.read().strip().splitlines() if child.stderr else []
            trouble = f"status {child.returncode} in {phase}: {' '.join(errors[-1:])}"
        if phase == "start":
            raise SystemExit(f"a worker that does not start: {trouble}")
        if trouble:
            report(seed, index, trouble, keep, of)
            bad, index = bad + 1, index + 1
    print(f"{index} mutants in {time.monotonic() - started:.0f} s, {bad} broke something")
    for outcome, number in outcomes.most_common():
        print(f"{number:8} {outcome}")
    return bad


def report(seed: str, index: int, trouble: str, keep: Path, of: str) -> None:
    from tests.fuzz.mutate import mutant

    path = keep / f"{of}-{seed}-{index}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mutant(random.Random(f"{seed}/{index}"), all_models(keep, of)))
    print(f"mutant {index}: {trouble} -> {path}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--no-runtime", dest="runtime", action="store_false")
    parser.add_argument("--keep", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--worker", action="store_true")
    parser.add_argument("--of", choices=("onnx", "data", "shipped"), default="onnx")
    chosen = parser.parse_args()
    options = (chosen.runtime, chosen.keep, chosen.of)
    if chosen.worker:
        worker(chosen.seed, chosen.first, chosen.count, *options)
        sys.exit(0)
    sys.exit(1 if campaign(chosen.count, chosen.seed, *options, chosen.first) else 0)
