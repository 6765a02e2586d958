"""The compiler's side of the kernels: no spills, the tensor cores in use, with no GPU present."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton

ROOT = Path(__file__).parents[2]


def has_assembler() -> bool:
    try:
        return all(Path(getattr(triton.knobs.nvidia, name).path).exists() for name in TOOLS)
    except RuntimeError:
        return False


TOOLS = ("ptxas", "nvdisasm")


@pytest.mark.slow
@pytest.mark.skipif(not has_assembler(), reason=f"this Triton comes without {' and '.join(TOOLS)}")
@pytest.mark.parametrize("architecture", [80, 90])
def test_main_kernels_compile_cleanly(architecture):
    # By itself: in this process Triton may be interpreting.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.static_report", "--quick", "--check"]
    command += ["--kernels", "conv_transpose,linear", "--workers", "1"]
    command += ["--architectures", str(architecture)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 configurations, 0 faults" in done.stdout
    assert ("wgmma" in done.stdout) == (architecture == 90)
