"""How far images may be from eager fp32; never loosened but for a family measured so."""

from __future__ import annotations

#: The largest difference, as a share of half the output's range.
MAX_ABS = {"fp32": 2e-5, "tf32": 5e-3, "fp16": 5e-3}
#: And for bf16 the lowest peak signal-to-noise ratio, in dB.
PSNR = 40.0
