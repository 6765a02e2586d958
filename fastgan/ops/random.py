"""Random numbers inside a graph, which must be the same on every run: RandomNormal and its kin.

A random op is never folded into a constant. It takes standard numbers from a source that an engine
replaces, within one thread, to seed them, to draw those of other samples, or to switch them off:

    with fastgan.ops.random.using_noise(lambda shape, distribution, node_index: torch.zeros(shape)):
        ...

By default they are those of seed 0 in `fastgan.latents`: element [i, ...] depends on i and on
`node_index` alone, not on how many samples are drawn at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan.ops.elementwise import torch_dtype
from fastgan.ops.infer import meta
from fastgan.ops.registry import holds, register

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastgan.latents.sampling import Sampling

#: noise(shape, distribution, node_index) -> float32 tensor of that shape, on any device.
#: `distribution` is "normal" (mean 0, deviation 1) or "uniform" (in [0, 1)); `node_index` counts
#: the random nodes of a graph in the order in which they run.
Noise = Callable[[tuple[int, ...], str, int], Tensor]

#: Streams of `fastgan.latents` from here on belong to random nodes; latents have those below.
FIRST_STREAM = 1 << 16


def default_noise(shape: tuple[int, ...], distribution: str, node_index: int) -> Tensor:
    """The numbers of seed 0: `shape[0]` samples, each a function of its index and the node's."""
    from fastgan.latents.sampling import Sampling

    return seeded_noise(Sampling(), shape[0] if shape else 1)(shape, distribution, node_index)


@dataclass(frozen=True, slots=True)
class seeded_noise:
    """The numbers of `rows` samples that are run at once.

    What a node draws for each of them is that sample's own, whatever the others; what it draws
    once for all is the seed's. A source that an engine may ask which ones they are, to draw them
    itself.

    Attributes:
        shared: the nodes that draw once for all, be it as many rows as there are samples.
    """

    sampling: Sampling
    rows: int
    shared: frozenset[int] = frozenset()

    def __call__(self, shape: tuple[int, ...], distribution: str, node_index: int) -> Tensor:
        if 0 in shape:
            return torch.empty(shape, device="cpu")
        count, *rest = shape or (1,)
        stream = FIRST_STREAM + node_index
        which = self.of(shape, node_index)
        return which.draw(distribution, count, tuple(rest), stream=stream).reshape(shape)

    def of(self, shape: tuple[int, ...], node_index: int) -> Sampling:
        """Which samples a node of this shape draws."""
        each = shape[:1] == (self.rows,) and node_index not in self.shared
        return self.sampling if each else self.sampling.once


#: Operators that draw.
NAMES = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli")
)


def draws_noise(model: ir.Model) -> bool:
    """Whether the graph, or a subgraph or function of it, draws random numbers itself."""
    return holds(model, NAMES)


def no_noise(shape: tuple[int, ...], distribution: str, node_index: int) -> Tensor:
    """Noise switched off: zeros, the mean of the standard normal; or 0.5, that of the uniform."""
    return torch.full(shape, 0.5 if distribution == "uniform" else 0.0)


_current = threading.local()


def current_source() -> Noise:
    """The source of this thread."""
    source: Noise = getattr(_current, "source", default_noise)
    return source


def noise(shape: tuple[int, ...], distribution: str, node_index: int) -> Tensor:
    """Numbers from the source of this thread."""
    return current_source()(shape, distribution, node_index)


@contextlib.contextmanager
def using_noise(source: Noise) -> Iterator[None]:
    """Within this context, and this thread, random ops draw from `source`."""
    before = getattr(_current, "source", default_noise)
    _current.source = source
    try:
        yield
    finally:
        _current.source = before


def _dtype(like: Tensor | None, dtype: int | None) -> torch.dtype:
    if dtype is not None:
        return torch_dtype(dtype)
    return torch.float32 if like is None else like.dtype


def _draw(
    distribution: str,
    shape: Sequence[int],
    like: Tensor | None,
    *,
    mean: float = 0.0,
    scale: float = 1.0,
    low: float = 0.0,
    high: float = 1.0,
    dtype: int | None = None,
    node_index: int = 0,
    **_: Any,
) -> Tensor:
    """`seed` is not used: the numbers are the engine's, so that they can be repeated."""
    offset, factor = (mean, scale) if distribution == "normal" else (low, high - low)
    drawn = noise(tuple(shape), distribution, node_index).to(None if like is None else like.device)
    return (drawn * factor + offset).to(_dtype(like, dtype))


def _like(x: Tensor, *, dtype: int | None = None, **_: Any) -> Tensor:
    return meta(x.shape, _dtype(x, dtype))


def _shaped(*, shape: Sequence[int], dtype: int | None = None, **_: Any) -> Tensor:
    return meta(shape, _dtype(None, dtype))


def _register(distribution: str, also: tuple[str, ...]) -> None:
    name, attributes = f"Random{distribution.title()}", (*also, "dtype", "seed", "node_index")

    @register(name, since=1, infer=_shaped, random=True, also=attributes)
    def of_shape(*, shape: Sequence[int], **how: Any) -> Tensor:
        return _draw(distribution, shape, None, **how)

    @register(f"{name}Like", since=1, infer=_like, random=True, also=attributes)
    def like(x: Tensor, **how: Any) -> Tensor:
        return _draw(distribution, x.shape, x, **how)


_register("normal", ("mean", "scale"))
_register("uniform", ("low", "high"))


@register("Bernoulli", since=15, infer=_like, random=True)
def bernoulli(
    p: Tensor, *, dtype: int | None = None, seed: float = 0.0, node_index: int = 0
) -> Tensor:
    """1 with probability p, else 0."""
    drawn = noise(tuple(p.shape), "uniform", node_index).to(p.device)
    return (drawn < p).to(_dtype(p, dtype))
