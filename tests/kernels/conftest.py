"""Runs the kernels in Triton's interpreter, or on a GPU where there is one.

Triton decides between interpreting and compiling once per process, when it is first imported. So
the choice is made here, before any test module of this folder is imported: without a GPU (or with
TRITON_INTERPRET=1 given) kernels are interpreted on the CPU; with one they are compiled and run on
it. If another test of the same process imported Triton first, these tests must be run by themselves
(`pytest tests/kernels`), and say so rather than fail one by one.
"""

import os
import sys

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
INTERPRET = os.environ.get("TRITON_INTERPRET", "0") == "1"

if "triton" in sys.modules and sys.modules["triton"].knobs.runtime.interpret != INTERPRET:
    raise pytest.UsageError(
        "tests/kernels: found Triton imported before TRITON_INTERPRET was set, needed before; "
        "run these tests by themselves: pytest tests/kernels"
    )


@pytest.fixture(autouse=INTERPRET, scope="session")
def _rounding():
    """float32 to bfloat16 to the nearest, as GPUs do it; the interpreter cuts the bits off."""
    from triton.runtime import interpreter

    cut = interpreter._convert_float

    def convert(data, source, target, rounding_mode):
        if (str(source), str(target)) != ("fp32", "bf16"):
            return cut(data, source, target, rounding_mode)
        wide = torch.from_numpy(np.array(data, np.float32))  # np.array: a copy that torch may have
        return wide.bfloat16().view(torch.int16).numpy().view(np.uint16)

    interpreter._convert_float = convert
    yield
    interpreter._convert_float = cut


@pytest.fixture
def device() -> torch.device:
    return torch.device("cpu" if INTERPRET else "cuda")


@pytest.fixture(autouse=True)
def _true_float32():
    """PyTorch's own convolutions in float32, to compare with, not in tf32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
