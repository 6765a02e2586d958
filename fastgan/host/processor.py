"""What this CPU computes with, as far as this process may: one home for the question.

The environment variable FASTGAN_CPU makes a CPU stand in for a lesser one, so that what an ordinary
desktop does can be tried on any machine: it caps fastgan's own native code (csrc/processor.h),
oneDNN, PyTorch's own operators and MKL. ONNX Runtime has no such cap.
"""

from __future__ import annotations

import os
import platform

from fastgan.errors import ArgumentError

#: The variable, and from the least to the most what it takes: for each the settings of the
#: libraries, which read them when they first compute. The last one is no cap: native code takes AMX
#: where it is named alone.
VARIABLE = "FASTGAN_CPU"
LEVELS = {
    "portable": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "avx512_bf16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "amx": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"},
}

#: A refusal's words: what was found, and what was needed.
WITHOUT_BFLOAT16 = "bf16, not on this CPU: no instructions for it, and no native code for the model"
BFLOAT16_NEEDS = "a CPU with AVX2, AVX-512 or Arm's bf16; or fp32, which is the faster one here"


def restrict() -> None:
    """Pass the cap on to the libraries; what the environment says of one by itself stands."""
    for name, value in LEVELS.get(os.environ.get(VARIABLE, ""), {}).items():
        os.environ.setdefault(name, value)


def cap() -> str | None:
    """The key of `LEVELS` that FASTGAN_CPU names, or None where nothing is capped.

    Raises:
        ArgumentError: it names none of them.
    """
    name = os.environ.get(VARIABLE, "")
    if name and name not in LEVELS:
        raise ArgumentError(VARIABLE, repr(name), ", ".join(LEVELS))
    return name or None


def has_bfloat16() -> bool:
    """Whether oneDNN, for torch's operators, computes in bf16 here: on x86 from AVX-512 on."""
    import torch

    known = torch.backends.mkldnn.is_available()
    return bool(known and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_tiles() -> bool:
    """Whether oneDNN multiplies tiles of bf16 here (AMX)."""
    import torch

    # What torch says of AMX is the processor's alone; oneDNN's own cap may lie below it. Where
    # "amx" is named, native code has it.
    return cap() is None and has_bfloat16() and bool(torch.cpu._is_amx_tile_supported())


def has_wide_blocks() -> bool:
    """Whether ONNX Runtime keeps 16 channels in a block here, not 8: with AVX-512, and on Arm.

    It has no cap, so that this is what the processor has, not what this process may use.
    """
    import torch

    return platform.machine().lower() in ("aarch64", "arm64") or bool(
        torch.cpu._is_avx512_supported()
    )
