"""Whether images and kernels are right, and what a plan's steps come to."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import peers, timing
from benchmarks.gpu.paths import ROOT

#: What images may differ by from those of eager fp32: share of half the range, or least PSNR.
MOST_APART = {"fp32": 2e-5, "tf32": 5e-3}
LEAST_PSNR = {"fp16": 40.0, "bf16": 35.0, "fp8": 30.0}


def judge(
    made: torch.Tensor, expected: torch.Tensor, precision: str, range: tuple[float, float]
) -> dict[str, Any]:
    """How far images are from what they should be.

    Raises:
        AssertionError: too far.
    """
    low, high = range
    apart = float((made - expected).abs().max()) / ((high - low) / 2)
    mse = float((made.double() - expected.double()).square().mean())
    psnr = 10 * math.log10((high - low) ** 2 / max(mse, 1e-30)) if math.isfinite(mse) else -math.inf
    text = f"{precision}: off by {apart:.2g} of half the range, {psnr:.1f} dB"
    if precision in MOST_APART:
        assert apart <= MOST_APART[precision], text
    else:
        assert psnr >= LEAST_PSNR[precision], text
    return {"apart": apart, "psnr": psnr}


def kernel_case(device: torch.device, kernel: Any, case: Any, config: Any) -> dict[str, Any]:
    """A kernel on a case of its own, against its reference.

    Raises:
        AssertionError: they differ by too much.
    """
    tolerances = _module(ROOT / "tests" / "kernels" / "tolerances.py")
    generator = torch.Generator(device).manual_seed(int(torch.randint(2**31, ())))
    inputs = kernel.inputs(case, generator, device)
    given = inputs.launch if config is None else {**inputs.launch, "config": config}
    prepared = kernel.prepare(**given)
    out = prepared.out
    out.fill_(float("nan") if out.is_floating_point() else 77)
    prepared.run()
    timing.synchronise(device)
    with peers.exact():
        expected = kernel.reference(**inputs.reference)
    difference = (out.double() - expected.double()).abs().max().item()
    try:
        tolerances.assert_close(out, expected, case.dtype, case)
    except AssertionError as error:
        raise AssertionError(f"off by {difference:.3g}: {error}") from None
    return {"ok": True, "max_abs": difference}


def counts(executable: Any) -> dict[str, int]:
    """What the steps of a plan compute and move."""
    steps = executable.plan.steps
    eight = [step.kernel.endswith("e4m3") for step in steps]
    size = executable.target.dtype.itemsize
    pairs = list(zip(steps, eight, strict=True))
    return {
        "flops": sum(step.flops for step in steps),
        "flops_fp8": sum(step.flops for step, e in pairs if e),
        "bytes": sum(step.bytes * (1 if e else size) // 4 for step, e in pairs),
    }


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
