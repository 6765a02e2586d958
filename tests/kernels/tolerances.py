"""How far a kernel may be from its float64 reference, in one place.

Test inputs are scaled so that sums have unit variance. fp32 sums err by about 1e-7 per element; the
16-bit results err by the rounding of what is stored: half a unit in the last place, relative.
tf32 keeps ten bits of each factor on a GPU (the interpreter computes it in full).
"""

import torch

from fastgan.kernels.types import INTERPRETED

#            (absolute, relative)
TOLERANCE = {
    torch.float32: (1e-5, 1e-5),
    torch.float16: (1e-3, 1e-3),
    torch.bfloat16: (8e-3, 8e-3),
    "tf32": (5e-3, 2e-3),
}


def codes_in_order(x: torch.Tensor) -> torch.Tensor:
    """e4m3 values as whole numbers in their order, neighbours one apart; NaN lies far outside."""
    codes = x.contiguous().view(torch.uint8).int()
    return torch.where(codes > 127, 128 - codes, codes) + 1000 * x.float().isnan()


def assert_close(out: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, case=None) -> None:
    assert out.shape == expected.shape
    assert out.dtype == expected.dtype
    if out.dtype == torch.uint8:
        # One level: where a value lies within rounding of the middle between two levels.
        difference = (out.int() - expected.int()).abs()
        assert difference.max() <= 1
        assert (difference > 0).float().mean() <= 0.01
        return
    if out.dtype == torch.float8_e4m3fn:
        # One code: where a sum lies within float32's rounding of the middle between two.
        difference = (codes_in_order(out) - codes_in_order(expected)).abs()
        if INTERPRETED:
            assert difference.max() <= 1
            assert (difference > 0).float().mean() <= 0.01
            return
        # On Hopper sums are less exact than that; codes of small values are closer to each other.
        high = 448.0 if case is None else case.epilogue.high
        near = (out.float() - expected.float()).abs() * (high / 448) <= TOLERANCE[torch.float16][0]
        assert difference[~near].numel() == 0 or difference[~near].max() <= 1
        assert (difference[~near] > 0).sum() <= 0.05 * difference.numel()
        return
    key = "tf32" if getattr(case, "precision", "ieee") == "tf32" else dtype
    if dtype == torch.float8_e4m3fn:  # its products are exact in float32: as what is stored
        key = out.dtype
    absolute, relative = TOLERANCE[key]
    torch.testing.assert_close(out, expected, atol=absolute, rtol=relative)
