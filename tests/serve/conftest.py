"""Servers of their own processes, as a user starts them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import as_a_user, fastgan
from tests.scale.conftest import models

COMMAND = [sys.executable, "-c", "from fastgan.cli import main; main()", "serve"]

#: Seconds that a server of a test may run, and any other process of one.
LIMIT = 900

__all__ = ["COMMAND", "LIMIT", "as_a_user", "fastgan", "models"]


def require_kserve() -> None:
    """Skip where it is not; it is not imported, since its messages have tritonclient's names."""
    if importlib.util.find_spec("kserve") is None:
        pytest.skip("KServe is not installed: pip install 'fastgan[serve]'")


@dataclass
class Running:
    """A server: its process, and where it answers."""

    process: subprocess.Popen[str]
    http: str
    grpc: str


@contextlib.contextmanager
def started(*arguments: object) -> Iterator[Running]:
    """`fastgan serve ARGUMENTS...` on ports that are free, until the block ends or time is up."""
    command = [*COMMAND, *map(str, arguments), "--http", "0", "--grpc", "0"]
    # Its errors go to a file: a server that outlives us would hold what our own are written to.
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.fullmatch(r"ready: http://(\S+), gRPC on (\S+)\n", line):
                    yield Running(process, found[1], found[2])
                    break
            else:
                code = process.wait()
                errors.seek(0)
                pytest.fail(f"the server ended with {code}: {errors.read()}")
        finally:
            limit.cancel()
            process.kill()
            process.wait()


@pytest.fixture(scope="package")
def server(models: Path) -> Iterator[Running]:
    """Serves `rgb`, `classes` and `superres-x2`; requests wait a little for others."""
    require_kserve()
    names = (models / "rgb.onnx", models / "classes.onnx", "superres-x2")
    with started(*names, "--batch-ms", 20) as running:
        yield running
