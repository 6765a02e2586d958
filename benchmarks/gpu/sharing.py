"""What shares a GPU with other processes and with OpenGL: the tests of tests/gpu, as evidence."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

from benchmarks.gpu.cells import Cells
from benchmarks.gpu.paths import ROOT
from benchmarks.gpu.setting import Setting

FILES = ("test_ring_gpu.py", "test_gl_gpu.py")
_SECONDS = 240


def check_sharing(setting: Setting, cells: Cells) -> None:
    """Frames between two processes, and from CUDA to OpenGL; without a GPU all are skipped."""
    for name in FILES:
        cells.fill(name.removesuffix(".py"), lambda name=name: _run(name))


def _run(name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(ROOT / "tests" / "gpu" / name)],
        cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 5):  # 5: a whole file was skipped
        raise AssertionError((done.stdout + done.stderr)[-300:])
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|skipped)", done.stdout)}
    reasons = re.findall(r"^SKIPPED .*?: (.*)$", done.stdout, re.MULTILINE)
    return {**counts, "skipped_because": "; ".join(dict.fromkeys(reasons))}
