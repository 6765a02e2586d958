"""How far a result may be from the fp32 reference: the table that `fastgan compare` judges by.

The largest absolute difference is in units of an image in [-1, 1], whatever range the model has;
PSNR is of the model's range. They are never loosened for a model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a precision must keep: at most `max_abs`, or at least `psnr` dB."""

    max_abs: float | None = None
    psnr: float | None = None

    def __str__(self) -> str:
        parts = [f"max abs <= {self.max_abs:g}"] if self.max_abs is not None else []
        parts += [f"PSNR >= {self.psnr:g} dB"] if self.psnr is not None else []
        return ", ".join(parts)


TOLERANCES = {
    "fp32": Tolerance(max_abs=2e-5),
    "tf32": Tolerance(psnr=40.0),
    "fp16": Tolerance(psnr=40.0),
    "bf16": Tolerance(psnr=40.0),
    "fp8": Tolerance(psnr=30.0),
}
