"""Every kernel of a model held to the library op on this GPU, in a process that may be lost.

The parent starts a child, which says what it begins and how that went, a JSON object a line. A
child that dies or hangs has named what it was at: that is the verdict on it, and the next child
goes on behind it (`engine/triton/check/` keeps verdicts on disk).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

#: Seconds that a child may be silent: a step is compiled and run three times in them.
PATIENCE = 90.0

#: How many children are given up before the rest is left.
MOST_LOST = 20

#: The least PSNR of images beside those of torch in fp32, in dB.
LEAST_PSNR = {"fp32": 60.0, "tf32": 40.0, "fp16": 30.0, "bf16": 25.0, "fp8": 25.0}

OK = "ok"

Row = dict[str, Any]


def run(
    models: Sequence[str],
    device: str,
    precision: str,
    told: Callable[[Row], None] = lambda row: None,
    patience: float = PATIENCE,
) -> list[Row]:
    """What was found: {"model", "what", "kernel", "format", "verdict", "seconds"} of each.

    Args:
        told: of each as soon as it is known.
        patience: seconds of silence after which a child that has begun is ended; until it has,
            which is imports mostly, `PATIENCE`.
    """
    rows: dict[tuple[Any, ...], Row] = {}
    for attempt in range(MOST_LOST):
        begun: Row | None = None
        verdict = None
        for row in _child(models, device, precision, attempt == 0, patience):
            if "verdict" not in row:
                begun = row
                continue
            if "ended" in row:
                verdict = row["verdict"]
                break
            begun = None
            if _key(row) not in rows:
                told(row)
            rows.setdefault(_key(row), row)
        if verdict is None:
            return list(rows.values())
        lost = {**(begun or {"model": "", "what": "start", "kernel": "", "format": ""})}
        lost |= {"verdict": verdict, "seconds": 0.0}
        told(lost)
        rows[_key(lost)] = lost
        if begun is None:
            break
    return list(rows.values())


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("model", "what", "kernel", "format"))


def _child(
    models: Sequence[str], device: str, precision: str, afresh: bool, patience: float
) -> Iterator[Row]:
    """What a child says; last, where it was lost, a row with "ended" and a verdict."""
    command = [sys.executable, "-m", "fastgan.measure.selftest", device, precision]
    command += ["afresh" if afresh else "on", *models]
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the child
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
    )
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    wait = PATIENCE
    try:
        while True:
            try:
                line = lines.get(timeout=wait)
            except queue.Empty:
                yield {"ended": True, "verdict": f"it hung: nothing for {wait:.0f} s"}
                return
            wait = patience
            if line is None:
                break
            yield json.loads(line)
        code = child.wait()
        if code:
            errors.seek(0)
            last = next((text.strip() for text in reversed([*errors]) if text.strip()), "")
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            yield {"ended": True, "verdict": f"its process ended ({how}) {last}"[:300].strip()}
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()
        errors.close()


# The child ----------------------------------------------------------------------------------------


def _say(row: Row) -> None:
    print(json.dumps(row), flush=True)


def _check(name: str, device: str, precision: str) -> None:
    """Say how each kernel of a model does, and its images."""
    import fastgan
    from fastgan.engine.triton.executable import TritonExecutable
    from fastgan.images import pixels
    from fastgan.measure.subject import session_of

    where = {"model": name, "kernel": "", "format": ""}
    _say({**where, "what": "load"})
    g = fastgan.load(name, device=device, precision=precision, backend="triton")
    session = session_of(g)
    for n in (1, 16):
        executable = session.executable(session.model.shapes(n))
        assert isinstance(executable, TritonExecutable)
        for format in ("float32", "uint8"):
            image = pixels.of(session.model.output, format).asked
            for row in executable.examine(image):
                row["what"] += f", n = {n}"
                _say({"model": name, **row})
    exact = fastgan.load(name, device=device, precision="fp32", backend="torch")
    for n in (1, 16):
        row = {**where, "what": f"images, n = {n}"}
        _say(row)
        began = time.monotonic()
        made, again = (g.generate(n, seed=7).float() for _ in range(2))
        expected = exact.generate(n, seed=7).float()
        psnr = _psnr(made, expected)
        verdict = OK if psnr >= LEAST_PSNR[g.precision] else f"{psnr:.1f} dB beside torch's fp32"
        if not bool((made == again).all()):
            verdict = "other images the second time"
        _say({**row, "verdict": verdict, "psnr": psnr, "seconds": time.monotonic() - began})


def _psnr(made: Any, expected: Any) -> float:
    mse = float((made - expected).square().mean())
    span = float(expected.max() - expected.min()) or 1.0
    if not math.isfinite(mse):
        return -math.inf
    return 10 * math.log10(span**2 / mse) if mse > 0 else 200.0


def _child_main(arguments: Sequence[str]) -> None:
    device, precision, how, *models = arguments
    rehearsed = os.environ.get("FASTGAN_REHEARSAL")  # "KIND KERNEL", for tests; "" for no fault
    with contextlib.ExitStack() as stack:
        if rehearsed is not None:
            from fastgan.engine.triton.rehearsal import rehearse

            machine = stack.enter_context(rehearse())
            kind, _, kernel = rehearsed.partition(" ")
            if kind:
                machine.fault(kind, kernel)
        if how == "afresh":
            import torch

            from fastgan.engine.triton import disk

            disk.open_cache(torch.device(device)).forget_verdicts()
        for model in models:
            _check(model, device, precision)


if __name__ == "__main__":
    _child_main(sys.argv[1:])
