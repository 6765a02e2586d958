"""A long fuzzing run by hand: `python -m tests.fuzz.campaign --count 20000 --seed 1`.

Mutants are read, and those accepted are loaded (planned, or given to ONNX Runtime), and opened by
ONNX Runtime in any case, in a worker process. A worker that dies, works for more than ten seconds
or grows by half a gigabyte, and a rejection that is none of our errors, are reported with the
mutant that did it (kept under --keep), and the worker is replaced. Exit status 1 if there was any.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

SECONDS, MEGABYTES = 10.0, 512
STUCK = 300.0  # without a word from the worker, by the clock; the machine may be busy


def worker(seed: int, first: int, last: int, runtime: bool, keep: Path) -> None:
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
    models = all_models(keep)
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
            say(index=index, phase="load")
            with contextlib.suppress(FastganError):
                fastgan.load(data, device="cpu")
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


def all_models(keep: Path) -> tuple[bytes, ...]:
    """What the mutants are made of."""
    from tests.fuzz.mutate import corpus, node_cases

    return corpus() + node_cases(keep / "cases")


def campaign(count: int, seed: int, runtime: bool, keep: Path) -> int:
    """Run workers until `count` mutants are through; the number that broke something."""
    all_models(keep)
    outcomes: Counter[str] = Counter()
    bad, index, started = 0, 0, time.monotonic()
    while index < count:
        command = [sys.executable, "-m", "tests.fuzz.campaign", "--worker"]
        command += ["--seed", str(seed), "--first", str(index), "--count", str(count)]
        command += ["--keep", str(keep)]
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
                if phase == "done":
                    outcomes[said["outcome"]] += 1
                    if said["grown"] > MEGABYTES or said["seconds"] > SECONDS:
                        trouble = f"{said}"
                        report(seed, index, trouble, keep)
                        bad, trouble = bad + 1, ""
                    index += 1
        child.wait()
        if not trouble and (phase not in ("done", "start") or child.returncode):
            errors = child.stderr.read().strip().splitlines() if child.stderr else []
            trouble = f"status {child.returncode} in {phase}: {' '.join(errors[-1:])}"
        if phase == "start":
            raise SystemExit(f"a worker that does not start: {trouble}")
        if trouble:
            report(seed, index, trouble, keep)
            bad, index = bad + 1, index + 1
    print(f"{index} mutants in {time.monotonic() - started:.0f} s, {bad} broke something")
    for outcome, number in outcomes.most_common():
        print(f"{number:8} {outcome}")
    return bad


def report(seed: int, index: int, trouble: str, keep: Path) -> None:
    from tests.fuzz.mutate import mutant

    path = keep / f"{seed}-{index}.onnx"
    path.write_bytes(mutant(random.Random(f"{seed}/{index}"), all_models(keep)))
    print(f"mutant {index}: {trouble} -> {path}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--no-runtime", dest="runtime", action="store_false")
    parser.add_argument("--keep", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--worker", action="store_true")
    chosen = parser.parse_args()
    if chosen.worker:
        worker(chosen.seed, chosen.first, chosen.count, chosen.runtime, chosen.keep)
        sys.exit(0)
    sys.exit(1 if campaign(chosen.count, chosen.seed, chosen.runtime, chosen.keep) else 0)
