"""What tests ask of the CPU: they skip, and say why, where it lacks the instructions for it.

`FASTGAN_CPU=avx2 pytest -m cpu` runs those that depend on it as on a lesser CPU (docs/cli.md).
"""

from __future__ import annotations

import pytest

from fastgan.engine.native import graph
from fastgan.host import processor

#: For a model in bf16.
needs_bfloat16 = pytest.mark.skipif(
    not (processor.has_bfloat16() or graph.runs_here()),
    reason="needs native code, or bf16 in oneDNN: neither is here",
)

#: For training in bf16, which torch does.
needs_bfloat16_in_torch = pytest.mark.skipif(
    not processor.has_bfloat16(), reason="needs bf16 in oneDNN: no AVX-512 (or Arm's bf16) here"
)
