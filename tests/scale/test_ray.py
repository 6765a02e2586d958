"""`ray_cases`, in a process that Ray may end, and for a time that does: here it is one failed test.

Ray waits for a processor as long as there is none, and ends the process that it was begun in, with
no exception and no exit handler, a minute after its own control service has died.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("ray_cases.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed: pip install 'fastgan[scale]'",
    ),
]


def run(chosen: str, folder: Path, limit: float) -> None:
    """Run cases; whatever of them is left when they end, or `limit` seconds are over, is killed."""
    command = [sys.executable, "-m", "pytest", str(CASES), "-k", chosen, "-v", "--durations=0"]
    command += ["-p", "no:xdist", "-p", "no:cacheprovider", f"--basetemp={folder / 'cases'}"]
    # How much of this machine's memory others have taken is no matter of these tests; nor are its
    # processors, of which workers of Ray's own priority would be left next to nothing.
    environment = {
        **os.environ,
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_worker_niceness": "0",
    }
    log = folder / "log"
    with open(log, "wb") as out:  # a pipe would be waited for as long as anyone held it
        child = subprocess.Popen(
            command,
            cwd=CASES.parents[2],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            ended = f"exit code {child.wait(limit)}"
        except subprocess.TimeoutExpired:
            ended = f"not ended after {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    assert ended == "exit code 0", log.read_text(errors="replace")[-20_000:]


@pytest.mark.timeout(1600)
def test_one_node(tmp_path: Path) -> None:
    run("not lost", tmp_path, 1500)


@pytest.mark.skipif(
    "FASTGAN_CLUSTER" not in os.environ,
    reason="kills a node of three, takes minutes: FASTGAN_CLUSTER=1",
)
@pytest.mark.timeout(1600)
def test_a_node_that_is_lost(tmp_path: Path) -> None:
    run("lost", tmp_path, 1500)
