"""Noise that a graph draws inside of itself, from counters as latents are: so it can be captured.

The numbers are those of `fastgan.ops.random.seeded_noise`, bit for bit: node k of a graph has a
stream of the seed's for itself. Which nodes there are, and what they draw, is found by the first
run.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fastgan import latents
from fastgan.engine.triton.counters import Counter
from fastgan.engine.triton.work import SAMPLER, launching
from fastgan.engine.triton.workspace import Workspace
from fastgan.inputs.draws import Samples
from fastgan.latents.sampling import Sampling
from fastgan.ops.random import FIRST_STREAM, Noise, default_noise, seeded_noise


class _Node(NamedTuple):
    """A node that draws: its counter, shape and distribution."""

    counter: Counter
    shape: tuple[int, ...]
    distribution: str


class CountedNoise:
    """A source of noise (`fastgan.ops.random.Noise`) for one executable, within its turn.

    Args:
        workspace: has the counters.

    Attributes:
        source: what it stands for.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._place = workspace, workspace.device
        self._nodes: dict[int, _Node] = {}
        self.source = seeded_noise(Sampling(), 1)

    @staticmethod
    def draws(source: Noise) -> bool:
        """Whether counters can make what this source does: the samples of one seed in a row."""
        if isinstance(source, seeded_noise):
            return source.sampling.in_a_row and source.sampling.rng == "philox"
        return source is default_noise

    def begin(self, source: Noise) -> None:
        """A run is to draw what this source would."""
        self.source = source if isinstance(source, seeded_noise) else seeded_noise(Sampling(), -1)
        for index in self._nodes:
            self._stand(index)

    def drew(self) -> None:
        """It went well, each node having drawn once."""
        for index, node in self._nodes.items():
            node.counter.drew(self._samples(index), node.shape[0])

    def __call__(self, shape: tuple[int, ...], distribution: str, node_index: int) -> Tensor:
        """The launches that draw for a node, and where."""
        made = torch.empty(shape, dtype=torch.float32, device=self._place)
        if not made.numel():
            return made
        rows = made.view(shape[0] if shape else 1, -1)
        known = self._nodes.get(node_index)
        if known is None:
            counter = self._workspace.counter(f"noise of node {node_index}")
            known = _Node(counter, tuple(rows.shape[:1]) + shape[1:], distribution)
            self._nodes[node_index] = known
            self._stand(node_index)
        with launching(SAMPLER):
            known.counter.drawing(self._samples(node_index).kind, rows)()
        return made

    def _stand(self, index: int) -> None:
        self._nodes[index].counter.set(self._samples(index))

    def _samples(self, index: int) -> Samples:
        node, source = self._nodes[index], self.source
        sampling = source.sampling if source.rows < 0 else source.of(node.shape, index)
        assert isinstance(sampling.seed, int)
        assert isinstance(sampling.start, int)
        return Samples(
            *latents.recipe(
                node.distribution, node.shape[0], seed=sampling.seed, start=sampling.start,
                stream=FIRST_STREAM + index, truncation=None,
            )
        )  # fmt: skip
