"""What GPUs can do at most by their makers' data sheets: published, not measured here.

Rates are of dense products (sheets that state them with sparsity: halved) with sums in float32.
A real product reaches 60 to 85 percent of them and a copy about 90 percent of the bandwidth, so
what follows from them is a floor, not a forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True, slots=True)
class Gpu:
    """A type of GPU.

    Attributes:
        name: as its maker writes it.
        rates: operations per second by precision, a multiply and an add counting as two;
            "fp32" is without tensor cores. A precision that is left out the GPU does not have.
        bandwidth: of its memory, in bytes per second.
        source: where these figures were published.
    """

    name: str
    rates: Mapping[str, float]
    bandwidth: float
    source: str


def _rates(
    fp32: float, tf32: float | None, fp16: float, fp8: float | None, bf16: bool = True
) -> dict[str, float]:
    given = {"fp32": fp32, "tf32": tf32, "fp16": fp16, "bf16": fp16 if bf16 else None, "fp8": fp8}
    return {name: rate * TERA for name, rate in given.items() if rate is not None}


_HOPPER = _rates(67.0, 494.7, 989.4, 1978.9)
GPUS = {
    "t4": Gpu(
        "Tesla T4",
        _rates(8.1, None, 65.0, None, bf16=False),
        320 * GIGA,
        "NVIDIA T4 Tensor Core GPU data sheet",
    ),
    "a100": Gpu(
        "A100 SXM 80 GB",
        _rates(19.5, 156.0, 312.0, None),
        2039 * GIGA,
        "NVIDIA A100 Tensor Core GPU data sheet",
    ),
    "rtx4090": Gpu(
        "GeForce RTX 4090",
        _rates(82.6, 82.6, 165.2, 330.3),
        1008 * GIGA,
        "NVIDIA Ada GPU architecture white paper, appendix A",
    ),
    "l4": Gpu(
        "L4", _rates(30.3, 60.0, 121.0, 242.5), 300 * GIGA, "NVIDIA L4 Tensor Core GPU data sheet"
    ),
    "h100": Gpu("H100 SXM", _HOPPER, 3350 * GIGA, "NVIDIA H100 Tensor Core GPU data sheet"),
    "h200": Gpu("H200 SXM", _HOPPER, 4800 * GIGA, "NVIDIA H200 Tensor Core GPU data sheet"),
    "b200": Gpu(
        "B200 (HGX, 1000 W)",
        _rates(80.0, 1100.0, 2250.0, 4500.0),
        8000 * GIGA,
        "NVIDIA Blackwell architecture technical brief",
    ),
}
