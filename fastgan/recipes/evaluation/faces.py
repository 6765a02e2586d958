"""Generated faces, judged by a classifier that tells faces from patches without one."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.nn import functional

from fastgan.generator import Generator
from fastgan.recipes.evaluation import distances
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.evaluation.novelty import novelty, spread
from fastgan.recipes.photographs import Split, faces


def _labelled(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches [N, 1, 32, 32], and whether each shows a face, [N]."""
    shown, none = faces(split), faces(split, without=True)
    truth = torch.cat([torch.ones(len(shown)), torch.zeros(len(none))])
    return torch.cat([shown, none]), truth


@cache
@torch.enable_grad()
def classifier(seed: int = 0, epochs: int = 30) -> nn.Module:
    """A small network, trained on the training faces and patches without a face.

    Takes images [N, 1, 32, 32] in [-1, 1], gives logits [N, 1], high for a face.
    """
    patches, truth = _labelled("train")
    patches, truth = torch.cat([patches, patches.flip(3)]), truth.repeat(2)
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.AvgPool2d(2),  # [N, 1, 16, 16]
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 1),
        )
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.01)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(truth), generator=draw), 32):
            given = patches[chosen]
            given = given + 0.1 * torch.randn(given.shape, generator=draw)
            logits = network(given)[:, 0]
            loss = functional.binary_cross_entropy_with_logits(logits, truth[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return network.eval()


def figures(generator: Generator, *, count: int = 1000, seed: int = 0) -> dict[str, Figure]:
    """Of a generator of faces from nothing but a latent, [N, 1, 32, 32] in [-1, 1]."""
    return judge(generator.generate(count, seed=seed).cpu())


@torch.no_grad()
def judge(samples: torch.Tensor) -> dict[str, Figure]:
    """The figures of generated faces, [N, 1, 32, 32] in [-1, 1]."""
    network = classifier()
    patches, truth = _labelled("test")
    real, known = faces("test"), faces("train")
    right = (network(patches)[:, 0] > 0) == truth.bool()
    return {
        "faces": Figure(
            100 * (network(samples) > 0).float().mean().item(),
            f"of {len(samples)} samples that the classifier takes for a face; baseline: held-out"
            " real faces",
            least=90,
            baseline=100 * (network(real) > 0).float().mean().item(),
            unit="%",
        ),
        "spread": Figure(
            spread(samples, real),
            "median distance between two samples, by that of two held-out faces: near 0 is always"
            " the same face",
            least=0.6,
            baseline=1,
        ),
        "novelty": Figure(
            novelty(samples, torch.cat([known, known.flip(3)]), real),
            "median distance to the nearest training face, by that of a held-out one: near 0 are"
            " copies",
            least=0.3,
            baseline=1,
        ),
        "the classifier": Figure(
            100 * right.float().mean().item(),
            "held-out patches that it gets right, half of them faces",
            least=85,
            unit="%",
        ),
        **distances.figures(samples, real, known),
    }
