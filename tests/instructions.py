"""What tests ask of the CPU: they skip, and say why, where it lacks the instructions for it.

`FASTGAN_CPU=avx2 pytest -m cpu` runs those that depend on it as on a lesser CPU (docs/cli.md).
"""

from __future__ import annotations

import pytest
import torch

from fastgan.engine.native import chain as direct
from fastgan.host import processor

#: For a model that oneDNN runs in bf16.
needs_bfloat16 = pytest.mark.skipif(
    not processor.has_bfloat16(), reason="needs bf16 in oneDNN: no AVX-512 (or Arm's bf16) here"
)

#: For one chain of dense layers in bf16, which is native code from AVX2 on.
needs_bfloat16_chain = pytest.mark.skipif(
    not (processor.has_bfloat16() or direct.paths(torch.bfloat16)),
    reason="needs native code for bf16: no AVX2 here, or none was built",
)
