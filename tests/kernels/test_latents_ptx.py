"""The Triton sampler compiled for every architecture, with no GPU: no contraction, no spills."""

import os
import subprocess
import sys
from collections import Counter

import pytest

pytest.importorskip("triton", reason="triton is not installed")

# In a process of its own, since TRITON_INTERPRET holds for a whole process.
PROGRAM = """
import itertools, re
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fastgan.kernels import latents

integers = ("size", "total_blocks", "key_0", "key_1", "start_low", "start_high", "stream")
signature = {"out": "*fp32", **dict.fromkeys(integers, "i32")}
signature |= {"parameters": ("fp32", "fp32", "fp32"), "KIND": "constexpr"}
signature["BLOCK"] = "constexpr"
kernels = [
    (latents._fill_kernel, signature, {"KIND": kind, "BLOCK": latents.BLOCK}) for kind in (1, 2, 3)
]
counted = {"out": "*fp32", "state": "*i32", **dict.fromkeys(("n", "size", "total_blocks"), "i32")}
counted |= dict.fromkeys(("KIND", "BLOCK", "ADVANCES"), "constexpr")
kernels += [
    (latents._fill_next_kernel, counted, {"KIND": kind, "BLOCK": latents.BLOCK, "ADVANCES": one})
    for kind, one in ((2, False), (2, True), (3, True))
]
kernels.append((
    latents._normalise_kernel,
    {"rows": "*fp32", "n": "i32", "size": "i32", "ROWS": "constexpr"},
    {"ROWS": latents.BLOCK_ROWS},
))
for (kernel, types, constants), architecture in itertools.product(kernels, (80, 90, 100)):
    source = ASTSource(kernel, types, constants)
    target = GPUTarget("cuda", architecture, 32)
    ptx = triton.compile(source, target=target, options={"enable_fp_fusion": False}).asm["ptx"]
    wrong = re.findall(r"fma\\.\\S+|\\S+\\.ftz\\S*|\\S+approx\\S*|div\\.full\\S*", ptx)
    assert not wrong, (kernel, constants, wrong)
    if constants.get("ADVANCES"):
        # Nobody reads the state once somebody may have moved it on.
        before, after = ptx.split("bar.sync")
        assert "ld.global" in before and "ld.global" not in after, (kernel, constants)
        assert "st.global" in after, (kernel, constants)
    assert constants.get("KIND") == 1 or "sqrt.rn.f32" in ptx, (kernel, constants)
    print("compiled for", architecture)
"""


def test_triton_rounds_every_operation_on_its_own(tmp_path):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    (tmp_path / "program.py").write_text(PROGRAM)
    result = subprocess.run(
        [sys.executable, tmp_path / "program.py"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert Counter(result.stdout.splitlines()) == {f"compiled for {a}": 7 for a in (80, 90, 100)}
