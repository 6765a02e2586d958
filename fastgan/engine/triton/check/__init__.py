"""A kernel is checked before it is believed: on the device itself, against the library op in fp32.

Done the first time that a step, its tiling and what it writes meet a GPU, driver, Triton and state
of the kernels' sources; the verdict is kept on disk beside what was measured. The kernel runs three
times at most: twice on the same numbers, and once with a NaN where it is to raise a flag.
FASTGAN_CHECK=0 turns it off.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.engine import cuda_settings
from fastgan.engine.base import Target
from fastgan.engine.device import Device
from fastgan.engine.library import operators as library
from fastgan.engine.triton.binding import Binding, channels_last
from fastgan.engine.triton.trials import Sharing, Trials
from fastgan.images.format import ImageFormat
from fastgan.kernels.e4m3 import E4M3, values_of
from fastgan.kernels.types import Config
from fastgan.latents import philox
from fastgan.plan import Plan

#: How far a result may be from the library's: as a share of its norm, and at worst of one value
#: and the root mean square.
TOLERANCE = {
    torch.float32: (2e-3, 1e-2),
    torch.float16: (5e-3, 2e-2),
    torch.bfloat16: (3e-2, 1.5e-1),
    E4M3: (6e-2, 5e-1),
}

#: Bytes before and behind a result, in which nothing may be written.
_GUARD = 256

#: 0xFF in every byte is a NaN of every floating-point type.
_POISON = 0xFF

#: Of a result, the library makes at most so many values at once.
_AT_ONCE = 1 << 26

OK = "ok"


def wanted() -> bool:
    """Whether kernels are to be checked."""
    return os.environ.get("FASTGAN_CHECK") != "0"


@dataclass(frozen=True)
class Subject:
    """What is checked: a step as it will run.

    Attributes:
        binding, tiling, shared: it, and its part in norms.
        weights, opset: for the library op.
        image: the format that it writes; None: its own result.
        flagged: whether it raises a flag where a value is not finite.
    """

    binding: Binding
    tiling: Config
    shared: Sharing
    weights: Mapping[str, Tensor]
    opset: int
    image: ImageFormat | None = None
    flagged: bool = False


def fault_of(subject: Subject) -> str | None:
    """What is wrong with a kernel here, or None. May raise what its launch raises."""
    binding, device = subject.binding, subject.binding.workspace.gpu
    trials = Trials(binding, subject.shared)
    out, before, behind = _place(subject)
    flag = device.empty((1,), torch.int32).zero_() if subject.flagged else None
    run = trials.kernel(out, subject.tiling, subject.image, flag)
    made: list[Tensor] = []
    for _ in range(2):
        _bytes(out).fill_(_POISON)
        run()
        device.synchronise()  # what it did wrong is not to be seen in the next one's launch
        made.append(out.clone())
    for guard in (before, behind):
        if not bool((guard == _POISON).all()):
            return "it writes outside of its result"
    if not torch.equal(_bytes(made[0]), _bytes(made[1])):
        return "it gives other bits the second time"
    fault = _difference(subject, trials, made[0]) or trials.wrong_statistics(out)
    if fault is None and flag is not None:
        fault = _of_flag(trials, flag, run)
    return fault


def _of_flag(trials: Trials, flag: Tensor, run: object) -> str | None:
    assert callable(run)
    if not trials.finite:
        return None  # random numbers of which it makes some that are none
    if bool(flag != 0):
        return "it takes finite numbers for NaN"
    trials.spoil()
    run()
    return None if bool(flag != 0) else "it does not see a NaN"


def _place(subject: Subject) -> tuple[Tensor, Tensor, Tensor]:
    """Where the result goes, and the guards before and behind it."""
    binding, image = subject.binding, subject.image
    n, c, h, w = binding.shape
    if image is not None and image.format == "uint8":
        shape, strides, dtype = (n, h, w, c), (h * w * c, w * c, c, 1), torch.uint8
    elif image is not None:
        shape, strides, dtype = (n, c, h, w), (c * h * w, h * w, w, 1), torch.float32
    else:
        dtype = binding.target.dtype if binding.output_high is None else E4M3
        shape, strides = binding.shape, channels_last(binding.shape)
    size = n * c * h * w * dtype.itemsize
    whole = binding.workspace.gpu.empty((size + 2 * _GUARD,), torch.uint8).fill_(_POISON)
    out = whole[_GUARD : _GUARD + size].view(dtype).as_strided(shape, strides)
    return out, whole[:_GUARD], whole[_GUARD + size :]


def _bytes(x: Tensor) -> Tensor:
    """All of a tensor without gaps, in the order of its memory."""
    return x.as_strided((x.numel(),), (1,)).view(torch.uint8)


def _difference(subject: Subject, trials: Trials, out: Tensor) -> str | None:
    """How the result differs from the library's by too much, or None."""
    binding, inputs = subject.binding, [t.float() for t in trials.inputs]
    rounded = {n: _rounded(w, binding.target.dtype) for n, w in subject.weights.items()}
    place = (subject.opset, binding.target.device, torch.float32)
    op = library.bind(binding.step, rounded, *place)
    found = _presented(subject, out)
    rows = found.shape[0]
    step = max(1, _AT_ONCE * rows // max(1, found.numel()))
    sums = torch.zeros(2, dtype=torch.float64, device=out.device)
    worst = torch.zeros((), device=out.device)
    for first in range(0, rows, step):
        part = [t[first : first + step] if t.shape[0] == rows else t for t in inputs]
        with cuda_settings.library("fp32", benchmark=False):  # it runs but once
            expected = op.call(*part)
        assert isinstance(expected, Tensor)
        trials.finite = trials.finite and bool(expected.isfinite().all())
        fault = _compare(subject, found[first : first + step], expected, sums, worst)
        if fault is not None:
            return fault
    dtype = E4M3 if binding.eight_bit else binding.target.dtype
    return _judge(sums, worst, max(1, found.numel()), dtype, subject.image)


def _rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype).float() if weight.is_floating_point() else weight


def _presented(subject: Subject, out: Tensor) -> Tensor:
    """What was written, in the plan's shape."""
    binding, image = subject.binding, subject.image
    if image is None:
        high = binding.output_high
        return binding.present(out if high is None else values_of(out, high))
    return out.permute(0, 3, 1, 2) if image.format == "uint8" else out


def _compare(
    subject: Subject, found: Tensor, expected: Tensor, sums: Tensor, worst: Tensor
) -> str | None:
    """Add squares of the difference and of what is expected, and the largest difference."""
    image, high = subject.image, subject.binding.output_high
    if high is not None and image is None:
        expected = expected.clamp(-high, high)
    if image is not None and image.format == "uint8":
        low, top = image.range
        expected = ((expected - low) * (255 / (top - low))).round().clamp(0, 255)
        expected = torch.where(expected.isnan(), found.float(), expected)
    finite = expected.isfinite()  # random numbers need not lie where a root is defined
    found = found.float()
    if not torch.equal(found.isfinite(), finite):
        return "it is finite where the library is not, or the other way round"
    difference = torch.where(finite, found - expected, 0.0)
    kept = torch.where(finite, expected, 0.0)
    sums += torch.stack([difference.double().square().sum(), kept.double().square().sum()])
    torch.maximum(worst, difference.abs().max(), out=worst)
    return None


def _judge(
    sums: Tensor, worst: Tensor, count: int, dtype: torch.dtype, image: ImageFormat | None
) -> str | None:
    wrong, right = (each**0.5 for each in sums.tolist())
    most = float(worst)
    if image is not None and image.format == "uint8":
        levels = 1.0 + 255 * TOLERANCE[dtype][1]
        return None if most <= levels else f"it is off by {most:.0f} levels"
    share, at_worst = TOLERANCE[dtype]
    if wrong > share * max(right, 1e-20):
        return f"it is off by {wrong / max(right, 1e-20):.1e} of its norm"
    root = right / count**0.5
    if most > at_worst * max(4 * root, 1e-20):
        return f"one value is off by {most:.1e}, where their root mean square is {root:.1e}"
    return None


# Images -------------------------------------------------------------------------------------------

#: The least PSNR of a first image beside the library's in fp32, in dB.
LEAST_PSNR = {"fp32": 30.0, "tf32": 30.0, "fp16": 30.0, "bf16": 20.0, "fp8": 20.0}


def fault_of_image(
    plan: Plan,
    opset: int,
    target: Target,
    inputs: Mapping[str, Tensor],
    image: ImageFormat,
    made: Tensor,
) -> str | None:
    """What is wrong with the first image of a run as a whole, or None.

    Args:
        plan, opset, target: what ran, and where.
        inputs: of that run, by name.
        made: its images in this format, or as the model makes them.
    """
    with cuda_settings.library("fp32", benchmark=False):
        outputs = library_outputs(plan, opset, target.device, inputs)
    expected = outputs[image.name][:1].float()
    found = made[:1].float()
    low, high = image.range
    if made.dtype == torch.uint8 and expected.dim() == 4 and made.shape[1:3] == expected.shape[2:]:
        found = found.permute(0, 3, 1, 2)
        expected = ((expected - low) * (255 / (high - low))).round().clamp(0, 255)
        low, high = 0.0, 255.0
    if found.shape != expected.shape or not bool(
        expected.isfinite().all() & found.isfinite().all()
    ):
        return None  # a NaN is the guard's to find
    mse = float((found - expected).square().mean())
    span = max(high - low, float(expected.max() - expected.min()))
    psnr = 10 * math.log10(span**2 / mse) if mse > 0 else math.inf
    if psnr >= LEAST_PSNR[target.precision]:
        return None
    return f"its first image is at {psnr:.1f} dB beside the library's in fp32"


def library_outputs(
    plan: Plan, opset: int, device: torch.device, inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A plan's outputs by the library in fp32, each buffer given back when it has been read."""
    held = {name: inputs[name].to(device) for name in plan.inputs}
    for step in plan.steps:
        bound = library.bind(step, plan.weights, opset, device, torch.float32)
        result = bound.call(*[held[name] for name in bound.reads])
        results = result if isinstance(result, tuple) else (result,)
        held.update(zip(step.outputs, results, strict=False))
        for name in step.releases:
            held.pop(name, None)
    return {name: held[name] for name in plan.outputs}


# Latents ------------------------------------------------------------------------------------------


def fault_of_latents(device: Device) -> str | None:
    """What is wrong with the samplers of `fastgan.kernels.latents` here, or None."""
    from fastgan.kernels import latents as kernels

    words = kernels.words(3, (1 << 32) - 2, 0, 0.0, 1.0, 0.0)
    state = device.empty((kernels.WORDS,), torch.int32)
    device.put(words, state)
    out, again = (device.empty((64, 100), torch.float32) for _ in range(2))
    kernels.fill_next(philox.NORMAL, out, state)
    rounded = device.empty((64, 100), torch.float16)
    device.put(words, state)
    kernels.fill_next(philox.NORMAL, rounded, state)
    kernels.fill(philox.NORMAL, again, 3, (1 << 32) - 2, 0, 0.0, 1.0, 0.0)
    device.synchronise()
    expected = torch.empty((64, 100))
    parameters = philox.Parameters()
    philox.fill(
        philox.NORMAL,
        expected.numpy(),
        seed=3,
        start=(1 << 32) - 2,
        stream=0,
        parameters=parameters,
    )
    for made in (out, again):
        wrong = int((made.cpu().view(torch.int32) != expected.view(torch.int32)).sum())
        if wrong:
            return f"{wrong} of 6400 latents are not the host's"
    if not torch.equal(rounded.cpu(), expected.half()):
        return "latents in 16 bits are not the host's, rounded"
    return None


def died(verdict: str) -> bool:
    """Whether this is a check that a process has not come back from."""
    if not verdict.startswith("running "):
        return False
    try:
        os.kill(int(verdict.split()[1]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return int(verdict.split()[1]) == os.getpid()


def running() -> str:
    """The verdict while it is made."""
    return f"running {os.getpid()}"
