"""How evidence is taken: where, of which models, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.zoo import TINY, ZOO, Entry

OURS = ("fp16", "fp32", "tf32", "bf16", "fp8")
BATCHES = (1, 64, 1024, 8, 256)


@dataclass(frozen=True)
class Setting:
    """How evidence is taken.

    Attributes:
        out: the folder for the JSON files.
        dry: a rehearsal on the CPU: tiny models, single runs.
        deadline: of `time.monotonic()`, when to stop beginning cells.
        models: the folder for ONNX files.
        rehearsed: whether the rehearsal is on a rehearsed GPU.
    """

    out: Path
    dry: bool
    deadline: float
    models: Path
    rehearsed: bool = False

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        if self.rehearsed:
            return torch.device("cuda", 0)
        return torch.device("cpu" if self.dry else "cuda")

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The models."""
        return TINY if self.dry else ZOO

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes, the most telling ones first."""
        return (1, 2) if self.dry else BATCHES

    @property
    def precisions(self) -> tuple[str, ...]:
        """Ours; fp8 where the GPU has it."""
        if self.rehearsed:
            return ("tf32",)  # exact in the interpreter; products in fp32 are the library's
        if self.dry:
            return ("fp16", "fp8")
        from fastgan.engine.base import without_fp8

        return OURS if without_fp8(self.device) is None else OURS[:-1]

    @property
    def seconds(self) -> float:
        """Of timing per cell."""
        return 0.0 if self.dry else 0.15

    def load(self, entry: Entry, precision: str) -> Any:
        """Our generator of a model."""
        import fastgan

        return fastgan.load(
            entry.export(self.models), device=self.device, precision=precision, backend="triton"
        )
