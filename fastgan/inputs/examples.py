"""Inputs that a model may well be given, to see how large its intermediate results become.

A few samples from a seed of their own, always the same ones: latents and noise from the declared
distribution, random classes, and for images smooth ones over the whole range (a sum of noise at
every scale, weaker the finer it is, as photographs have it), some with hard edges.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import latents
from fastgan.inputs import labels
from fastgan.latents.sampling import Sampling
from fastgan.model.signature import Input, Shapes, Signature

#: How many runs are looked at, of one sample each (or of the batch that a file is frozen at).
SAMPLES = 8
SEED = 0x5EED


def samples(
    signature: Signature, shapes: Shapes, device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """SAMPLES times inputs of these shapes, by name, on the device."""
    for index in range(SAMPLES):
        yield {
            port.name: _sample(signature, port, number, shapes[port.name], index).to(device)
            for number, port in enumerate(signature.inputs)
        }


def _sample(
    signature: Signature, port: Input, number: int, shape: tuple[int, ...], index: int
) -> Tensor:
    n, stream = (shape[0] if shape else 1), number
    if port.kind == "label":
        names, cpu = signature.class_names, torch.device("cpu")
        return labels.resolve(None, n, port, names, Sampling(SEED, index * n), cpu)
    dtype = getattr(torch, port.dtype)
    if port.default is not None:
        return torch.full(shape, port.default, dtype=dtype)
    generator = torch.Generator().manual_seed(SEED + 1000 * number + index)
    if port.kind in ("image", "mask") and len(shape) == 4:
        made = _images(port, shape, index, generator)
        return made if dtype.is_floating_point else made.round().to(dtype)
    if not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype)
    if port.kind in ("latent", "noise") and shape:
        kind = port.distribution or "normal"
        return latents.sample(kind, n, shape[1:], seed=SEED, start=index * n, stream=stream)
    return torch.randn(shape, generator=generator)


def _images(port: Input, shape: tuple[int, ...], index: int, generator: torch.Generator) -> Tensor:
    """Smooth images over the whole range; every second one, and a mask, of two levels alone."""
    n, channels, height, width = shape
    size, total = 2, torch.zeros(shape)
    while size < 2 * max(height, width):
        grid = (min(size, height), min(size, width))
        coarse = torch.rand((n, channels, *grid), generator=generator) - 0.5
        total += F.interpolate(coarse, (height, width), mode="bilinear") / size
        size *= 2
    if index % 2 or port.kind == "mask":
        total = (total > total.mean((2, 3), keepdim=True)).float()
    least, most = total.amin((1, 2, 3), keepdim=True), total.amax((1, 2, 3), keepdim=True)
    low, high = port.range or (0.0, 1.0)
    return low + (high - low) * (total - least) / (most - least).clamp(min=1e-6)
