"""The space that a walk leads through: shape and distribution of a model's latents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from fastgan import latents
from fastgan.model.signature import Input

Array = NDArray[np.float32]

#: Streams of random numbers (see `latents.sample`) that nothing else draws from; the image's
#: number within a frame is added.
DRIFT_STREAM, ORBIT_STREAM, NUDGE_STREAM = 1 << 16, 1 << 17, 1 << 18


@dataclass(frozen=True, slots=True)
class Space:
    """What the latents of a frame are.

    Attributes:
        shape: of one latent.
        distribution: as in `fastgan.model.signature.Input`.
        batch: images in a frame.
        truncation: bend normal latents into +-truncation; None leaves them as they are.
    """

    shape: tuple[int, ...]
    distribution: str = "normal"
    batch: int = 1
    truncation: float | None = None

    @staticmethod
    def of(port: Input, batch: int = 1, truncation: float | None = None) -> Space:
        """The space of a model's latent input; an open size is 1.

        Raises:
            ArgumentError: truncation of a distribution that has none, or out of range.
        """
        shape = tuple(size if isinstance(size, int) else 1 for size in port.shape[1:])
        distribution = port.distribution or "normal"
        if truncation is not None:  # what sampling would refuse is refused at once
            latents.sample(distribution, 1, (1,), truncation=truncation)
            truncation = float(truncation)
        return Space(shape, distribution, batch, truncation)

    def confine(self, values: Array) -> Array:
        """Latents that were mixed, [n, batch, *shape], brought back to where such latents lie."""
        if self.distribution == "hypersphere":
            flat = values.reshape(*values.shape[:2], -1)
            norm = np.sqrt((flat * flat).sum(-1, keepdims=True))
            return (flat / np.maximum(norm, np.float32(1e-12))).reshape(values.shape)
        if self.distribution == "uniform":
            return values.clip(0.0, 1.0)
        if self.distribution == "uniform_symmetric":
            return values.clip(-1.0, 1.0)
        if self.truncation is not None:
            return values.clip(-self.truncation, self.truncation)
        return values

    def from_normal(self, values: Array) -> Array:
        """Standard normals [n, batch, *shape] as latents of this distribution."""
        if self.distribution == "hypersphere":
            return self.confine(values)
        if self.distribution == "normal" and self.truncation is None:
            return values
        below = torch.special.ndtr(torch.from_numpy(values).double())
        if self.distribution == "uniform":
            return below.float().numpy()
        if self.distribution == "uniform_symmetric":
            return (2.0 * below - 1.0).float().numpy()
        limit = torch.tensor(float(self.truncation or 0.0), dtype=torch.float64)
        tail = torch.special.ndtr(-limit)
        bent = torch.special.ndtri(tail + below * (1.0 - 2.0 * tail))
        return bent.clamp(-limit, limit).float().numpy()


@lru_cache(maxsize=256)
def of_seed(seed: int, space: Space, rng: str) -> Array:
    """Samples 0, 1, ... of a seed, one for each image of a frame: [batch, *shape]."""
    drawn = latents.sample(
        space.distribution,
        space.batch,
        space.shape,
        seed=seed,
        truncation=space.truncation,
        rng=rng,
        threads=1,
    )
    return _fixed(drawn.numpy())


@lru_cache(maxsize=256)
def normals(seed: int, index: int, space: Space, stream: int) -> Array:
    """Sample `index` of a seed for each image of a frame: [batch, *shape]."""
    values = np.empty((space.batch, *space.shape), np.float32)
    for image in range(space.batch):
        latents.sample(
            "normal",
            1,
            space.shape,
            seed=seed,
            start=index,
            stream=stream + image,
            threads=1,
            out=torch.from_numpy(values[image : image + 1]),
        )
    return _fixed(values)


def _fixed(values: Array) -> Array:
    values.flags.writeable = False
    return values
