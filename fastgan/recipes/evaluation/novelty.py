"""Whether samples are new, and differ from each other: distances between images."""

from __future__ import annotations

import torch


def novelty(samples: torch.Tensor, known: torch.Tensor, real: torch.Tensor) -> float:
    """Median distance of a sample to the nearest known image, by that of a held-out real image.

    About 1 are new images, near 0 copies of what was trained on. All [N, C, H, W].
    """
    return (_distances(samples, known) / _distances(real, known)).item()


def spread(samples: torch.Tensor, real: torch.Tensor, most: int = 500) -> float:
    """Median distance between two samples, by that of two real images. Both [N, C, H, W]."""
    between = [torch.pdist(group[:most].flatten(1)).median() for group in (samples, real)]
    return (between[0] / between[1]).item()


def _distances(pictures: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    exact = "donot_use_mm_for_euclid_dist"  # so that a copy is at distance 0
    distances = torch.cdist(pictures.flatten(1), known.flatten(1), compute_mode=exact)
    return distances.amin(1).median()
