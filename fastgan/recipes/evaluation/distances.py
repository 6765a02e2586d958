"""How far a collection of images is from another one: Frechet and kernel distances of features.

On our own features (`features`); on Inception's, which is what papers report, with torch-fidelity
and its weights.

Frechet distance: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local
Nash Equilibrium" (2017). Kernel distance: Binkowski et al., "Demystifying MMD GANs" (2018).
A new discriminator's view: Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests" (2017).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from fastgan.errors import ArgumentError
from fastgan.recipes.evaluation import features
from fastgan.recipes.evaluation.figure import Figure

_UNBIASED = 100  # fewer real features than this, and a covariance of them says nothing


def frechet(first: torch.Tensor, second: torch.Tensor) -> float:
    """Squared Frechet distance of two normal distributions fitted to features [N, F], [M, F]."""
    a, b = first.double(), second.double()
    means = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    root = _root(cov_a)
    both = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return (means + cov_a.trace() + cov_b.trace() - 2 * both).item()


def kernel(first: torch.Tensor, second: torch.Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of features [N, F], [M, F].

    The kernel is (x . y / F + 1) cubed. Two halves of one collection are at 0, on average, however
    few they are; it can be a little below 0.
    """
    a, b = first.double(), second.double()

    def mean(x: torch.Tensor, y: torch.Tensor, same: bool) -> torch.Tensor:
        values = (x @ y.T / x.shape[1] + 1) ** 3
        if not same:
            return values.mean()
        return (values.sum() - values.diagonal().sum()) / (len(x) * (len(x) - 1))

    return (mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)).item()


def told_apart(first: torch.Tensor, second: torch.Tensor) -> float:
    """Share of unseen features [N, F], [M, F] that a new discriminator puts on the right side.

    Linear, trained on a random half of each. 0.5 where nothing tells the two apart.
    """
    count = min(len(first), len(second)) // 2 * 2
    draw = torch.Generator().manual_seed(0)  # they may come sorted: by class, by place
    chosen = [x[torch.randperm(len(x), generator=draw)[:count]] for x in (first, second)]
    both = torch.stack(chosen, 1).double()  # [count, 2, F]
    known, unseen = both[0::2].flatten(0, 1), both[1::2].flatten(0, 1)
    mean, deviation = known.mean(0), known.std(0) + 1e-6
    known, unseen = (known - mean) / deviation, (unseen - mean) / deviation
    side = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(count // 2)
    weights = torch.zeros(known.shape[1] + 1, dtype=torch.float64)
    for _ in range(10):  # Newton's method on the logistic loss with a ridge
        x = torch.cat([known, torch.ones(len(known), 1, dtype=torch.float64)], 1)
        share = torch.sigmoid(x @ weights)
        gradient = x.T @ (share - side) + weights
        curvature = (x.T * (share * (1 - share))) @ x + torch.eye(len(weights), dtype=x.dtype)
        weights = weights - torch.linalg.solve(curvature, gradient)
    right = (unseen @ weights[:-1] + weights[-1] > 0) == side.bool()
    return right.double().mean().item()


def figures(
    samples: torch.Tensor, real: torch.Tensor, known: torch.Tensor | None = None
) -> dict[str, Figure]:
    """Distances of generated images from held-out real ones, on our own features.

    Args:
        samples, real, known: [N, C, H, W] in [-1, 1], 32 high and wide or more; `known` are real
            training images, whose distance from `real` is the baseline.
    """
    made, held_out = features.of(samples), features.of(real)
    trained = None if known is None else features.of(known)
    note = "" if known is None else "; baseline: the training images"
    name = "our small network's features"
    found: dict[str, Figure] = {}
    if len(held_out) >= _UNBIASED:
        found["Frechet distance"] = Figure(
            frechet(made, held_out),
            f"to {len(real)} held-out images on {name}{note}",
            baseline=None if trained is None else frechet(trained, held_out),
        )
        found["told apart"] = Figure(
            100 * told_apart(made, held_out),
            f"of samples and held-out images by a new discriminator on these features, 50 % is"
            f" best{note}",
            baseline=None if trained is None else 100 * told_apart(trained, held_out),
            unit="%",
        )
    found["kernel distance"] = Figure(
        kernel(made, held_out),
        f"the same as mean discrepancy, unbiased, on {name}{note}",
        baseline=None if trained is None else kernel(trained, held_out),
    )
    return found


def inception(samples: torch.Tensor, real: torch.Tensor, weights: Path) -> dict[str, Figure]:
    """The field's FID and KID, on Inception's features, by torch-fidelity.

    Args:
        samples, real: [N, C, H, W] in [-1, 1].
        weights: the file of Inception's weights that torch-fidelity documents.

    Raises:
        ArgumentError: torch-fidelity is not installed, or there is no such file, or it is of
            something else.
    """
    needed = "weights-inception-2015-12-05-6726825d.pth, which torch-fidelity documents"
    if not weights.is_file():
        raise ArgumentError("--inception", f"no file {weights}", needed)
    try:
        import torch_fidelity
    except ImportError as error:
        package = "the package torch-fidelity"
        instead = "pip install 'fastgan[fidelity]', or leave --inception out"
        raise ArgumentError("--inception", "no torch-fidelity", package, instead) from error
    count = min(len(samples), len(real))
    try:
        torch.load(weights, weights_only=True)  # torch-fidelity would run what a pickle says
        found: dict[str, Any] = torch_fidelity.calculate_metrics(
            input1=_Bytes(samples),
            input2=_Bytes(real),
            fid=True,
            kid=True,
            kid_subset_size=min(1000, count),
            cuda=torch.cuda.is_available(),
            feature_extractor_weights_path=str(weights),
            save_cpu_ram=True,  # no worker processes: the images lie in memory
            verbose=False,
        )
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:  # damaged, or of another
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArgumentError(f"--inception {weights}", reason[:120], needed) from error
    return {
        "FID": Figure(
            float(found["frechet_inception_distance"]),
            f"of {len(samples)} samples to {len(real)} images, Inception, by torch-fidelity",
        ),
        "KID": Figure(
            float(found["kernel_inception_distance_mean"]), "the same, kernel distance, unbiased"
        ),
    }


class _Bytes(torch.utils.data.Dataset[torch.Tensor]):
    """Images [N, C, H, W] in [-1, 1] as uint8 [3, H, W] each."""

    def __init__(self, pictures: torch.Tensor) -> None:
        pixels = pictures.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        self._pixels = pixels.expand(-1, 3, -1, -1)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._pixels[index]


def _root(covariance: torch.Tensor) -> torch.Tensor:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
