"""How far a kernel may be from its float64 reference, in one place.

Test inputs are scaled so that sums have unit variance. fp32 sums err by about 1e-7 per element; the
16-bit results err by the rounding of what is stored: half a unit in the last place, relative.
tf32 keeps ten bits of each factor on a GPU (the interpreter computes it in full).
"""

import torch

#            (absolute, relative)
TOLERANCE = {
    torch.float32: (1e-5, 1e-5),
    torch.float16: (1e-3, 1e-3),
    torch.bfloat16: (8e-3, 8e-3),
    "tf32": (5e-3, 2e-3),
}


def assert_close(out: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, case=None) -> None:
    assert out.shape == expected.shape
    assert out.dtype == expected.dtype
    if out.dtype == torch.uint8:
        # One level: where a value lies within rounding of the middle between two levels.
        difference = (out.int() - expected.int()).abs()
        assert difference.max() <= 1
        assert (difference > 0).float().mean() <= 0.01
        return
    key = "tf32" if getattr(case, "precision", "ieee") == "tf32" else dtype
    absolute, relative = TOLERANCE[key]
    torch.testing.assert_close(out, expected, atol=absolute, rtol=relative)
