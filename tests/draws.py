"""The kinds of numbers that are drawn for latents: all that `fastgan.latents` can ask for."""

from __future__ import annotations

from fastgan import latents
from fastgan.latents import philox
from fastgan.latents.philox import Parameters

DRAWS = {
    "bits": (philox.BITS, Parameters()),
    "uniform": (philox.UNIFORM, Parameters(0.0, 1.0)),
    "uniform_symmetric": (philox.UNIFORM, Parameters(-1.0, 2.0)),
    "normal": (philox.NORMAL, Parameters()),
    "truncated 0.3": (philox.TRUNCATED, latents._truncation(0.3)),
    "truncated 2": (philox.TRUNCATED, latents._truncation(2.0)),
    "truncated 50": (philox.TRUNCATED, latents._truncation(50.0)),
    "hypersphere": (philox.HYPERSPHERE, Parameters()),
}
