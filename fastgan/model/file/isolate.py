"""Reading in a child process with limits of its own, so that whatever a library below does to a
hostile file (a crash, an endless loop, a flood of memory) ends there and becomes an error here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fastgan
from fastgan import errors
from fastgan.errors import FastganError, LimitError, ModelFileError
from fastgan.limits import Limits
from fastgan.model.file.source import Source

COMMAND = ("-m", "fastgan.model.file")
START_SECONDS = 60.0  # for the interpreter and its imports on a slow disk, beside Limits.seconds


def check_in_child(source: Source, limits: Limits) -> None:
    """Raise what reading `source` in a child raises, or what the child died of."""
    request = {
        "limits": dataclasses.asdict(limits),
        "name": source.name,
        "path": None if source.path is None else str(source.path.absolute()),
    }
    roots = [str(Path(path).parent) for path in fastgan.__path__]
    known = [path for path in (os.environ.get("PYTHONPATH"),) if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots + known)}
    environment["PYTHONSAFEPATH"] = "1"  # Never import what lies in the working directory.
    try:
        child = subprocess.run(
            [sys.executable, *COMMAND, json.dumps(request)],
            input=source.data,
            capture_output=True,
            timeout=limits.seconds + START_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        needed = f"at most {limits.seconds:g} s (Limits.seconds)"
        raise LimitError(source.name, "a file whose reading does not end", needed) from None
    if child.returncode == 0:
        _raise_reported(child.stdout)
        return
    if child.returncode == -getattr(signal, "SIGXCPU", 0):
        needed = f"at most {limits.seconds:g} s (Limits.seconds)"
        raise LimitError(source.name, "a file that takes longer to read", needed)
    if child.returncode < 0:
        died = f"killed by {signal.Signals(-child.returncode).name}"
    else:
        last = "".join(child.stderr.decode("utf-8", "replace").strip().splitlines()[-1:])
        if last.startswith("MemoryError"):  # where there was none left to say so
            raise source.too_large()
        died = f"ended with status {child.returncode}: {last[:200]}"
    raise ModelFileError(source.name, f"a file that crashes its reader ({died})", "a sound one")


def _raise_reported(report: bytes) -> None:
    error = json.loads(report)
    if error is None:
        return
    kind = getattr(errors, error["kind"])
    raise kind(*error["text"])


def main() -> None:
    """The child: a request as the only argument, the file's bytes on standard input, and on
    standard output the error as JSON, or null.
    """
    from fastgan.model.file.parse import parse
    from fastgan.model.file.source import given

    request = json.loads(sys.argv[1])
    limits = Limits(**request["limits"])
    path = None if request["path"] is None else Path(request["path"])
    report: dict[str, object] | None = None
    try:
        source = given(sys.stdin.buffer.read(), request["name"], path)
        _limit_this_process(limits)
        parse(source, limits)
    except FastganError as error:
        text = [error.where, error.found, error.needed, error.instead]
        report = {"kind": type(error).__name__, "text": text}
    json.dump(report, sys.stdout)


def _limit_this_process(limits: Limits) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent's timeout remains.
        return
    taken = 0
    status = Path("/proc/self/statm")
    if status.exists():
        taken = int(status.read_text().split()[0]) * resource.getpagesize()
    for what, value in (
        (resource.RLIMIT_AS, taken + limits.memory_bytes),
        (
            resource.RLIMIT_CPU,
            int(resource.getrusage(resource.RUSAGE_SELF).ru_utime) + 1 + int(limits.seconds),
        ),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(what, (value, hard))
