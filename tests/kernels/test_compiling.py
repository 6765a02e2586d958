"""Kernels that children compile are those that the parent finds in Triton's cache."""

import os
import subprocess
import sys

import pytest
import torch

from fastgan.kernels import compiling
from fastgan.kernels.table import KERNELS

# In a process of its own, since TRITON_INTERPRET holds for a whole process. Without a GPU the
# parent says what it has as a child does.
PROGRAM = """
import os, sys
import torch, triton
from pathlib import Path
from triton.backends.compiler import GPUTarget
from fastgan.kernels import compiling
from fastgan.kernels.table import KERNELS

triton.runtime.driver.set_active(compiling._Elsewhere(GPUTarget("cuda", 90, 32)))
compiling.cores = lambda: int(sys.argv[1])
calls = []
for kernel in KERNELS:
    if kernel.name in ("linear", "conv_transpose", "to_image", "pointwise"):
        inputs = kernel.inputs(kernel.main_cases[0], None, torch.device("meta"))
        config = kernel.configs(kernel.main_cases[0], (9, 0))[0]
        calls += kernel.prepare(**inputs.launch, config=config).calls
said = []
with compiling.told(lambda done, total: said.append((done, total))):
    left = compiling.ahead([*calls, *calls])
cache = Path(os.environ["TRITON_CACHE_DIR"])
before = {path for path in cache.rglob("*.cubin")}
for call in calls if before else ():
    call.function.warmup(grid=call.grid, **call.arguments, **call.options)
after = {path for path in cache.rglob("*.cubin")}
print(len(calls), left, len(before), len(after), said[-1:])
"""


@pytest.mark.parametrize(("cores", "left", "before"), [(4, 3, 4), (2, 0, 0)])
def test_the_parent_finds_what_children_compiled(tmp_path, cores, left, before):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-c", PROGRAM, str(cores)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    said = "[(4, 4)]" if left else "[]"
    after = before  # the parent has found all that it launches
    assert done.stdout.split(maxsplit=4) == ["4", str(left), str(before), str(after), said + "\n"]


def test_a_launch_is_told_by_its_kinds():
    (kernel,) = (kernel for kernel in KERNELS if kernel.name == "to_image")
    inputs = kernel.inputs(kernel.cases[0], None, torch.device("meta"))
    (call,) = kernel.prepare(**inputs.launch).calls
    one = compiling.order(call)
    assert one == compiling.order(call)
    again = one.call()
    assert again.function is call.function
    assert set(again.arguments) == set(call.arguments)
    apart = torch.empty(5, dtype=torch.float32)[1:]  # 4 bytes behind one that is aligned
    arguments = {**call.arguments, "x": apart}
    assert compiling.order(type(call)(call.function, call.grid, arguments, call.config)) is None
