"""Which GPUs are taken, and what is looked at before the first kernel is believed there."""

from __future__ import annotations

import torch

from fastgan import latents
from fastgan.engine import device as devices
from fastgan.engine.device import Device
from fastgan.engine.triton import check, disk
from fastgan.engine.triton.check import failures
from fastgan.errors import Refusal
from fastgan.host import gpu
from fastgan.kernels import compiling

#: Below, Triton makes no use of the tensor cores, and the kernels spill (compiled for 7.5).
OLDEST = (8, 0)

#: Triton's first version with the way around the driver's fault in bulk copies on Blackwell.
_ON_BLACKWELL = (3, 7)


def refusal(place: torch.device) -> Refusal | None:
    """Why kernels can't run on a device, or None. The samplers are tried, once for a GPU.

    Raises:
        BackendError: that ended in a failure of the device.
    """
    device = devices.of(place)
    if not device.is_gpu:
        return None
    compiling.settle()
    return _of_hardware(device) or _of_launches(device)


def _of_hardware(device: Device) -> Refusal | None:
    major, minor = device.capability
    if (major, minor) < OLDEST:
        needed = "8.0 or later (Ampere): Triton has no tensor cores for older ones"
        return Refusal("triton", "compute capability", f"{major}.{minor}", needed)
    import triton

    version = str(triton.__version__)
    known = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if major == 10 and known < _ON_BLACKWELL:
        return Refusal("triton", f"compute capability {major}.{minor}", version, "triton 3.7")
    return None


def _of_launches(device: Device) -> Refusal | None:
    """Draw latents, and hold them to the host's: which also needs all that a launch needs."""
    if not check.wanted():
        return None
    cache = disk.open_cache(device.place)
    verdict = cache.verdict("latents")
    if verdict is None or verdict.startswith("running"):
        cache.put_verdict("latents", check.running())
        try:
            with torch.inference_mode(), device.current():
                verdict = check.fault_of_latents(device) or check.OK
        except Exception as error:
            if failures.lacks_compiler(error):
                cache.put_verdict("latents", None)
                lacking = gpu.without_compiler()
                found = failures.first_line(error) if lacking is None else f"no {lacking}"
                needed = f"{gpu.COMPILER}: {gpu.INSTALL}"
                return Refusal("triton", "what launches kernels", found, needed)
            verdict = failures.first_line(error)
            if failures.is_sticky(error):
                cache.put_verdict("latents", verdict)
                raise failures.sticky("latents", "the sampler", error) from error
            if failures.is_memory(error):
                cache.put_verdict("latents", None)
                return None
        cache.put_verdict("latents", verdict)
    if verdict != check.OK:
        latents.give_up("Triton", verdict)
    return None
