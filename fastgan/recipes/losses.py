"""What a generator and a discriminator minimise, and what keeps their game steady.

Losses: Goodfellow et al., "Generative Adversarial Nets" (2014), section 3; hinge: Miyato et al.,
"Spectral Normalization for Generative Adversarial Networks" (2018). One-sided label smoothing:
Salimans et al., "Improved Techniques for Training GANs" (2016). R1: Mescheder et al., "Which
Training Methods for GANs do actually Converge?" (2018). Translating real and generated images
alike: Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020). Mode
seeking: Mao et al., "Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis"
(2019).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from fastgan.recipes.system import Distance, Loss, Settings


def discriminator_loss(
    on_real: torch.Tensor, on_fake: torch.Tensor, loss: Loss, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Of logits of any shape, high for real."""
    if loss == "hinge":
        return functional.relu(1 - on_real).mean() + functional.relu(1 + on_fake).mean()
    target = torch.full_like(on_real, 1 - label_smoothing)
    real = functional.binary_cross_entropy_with_logits(on_real, target)
    return real + functional.softplus(on_fake).mean()


def generator_loss(on_fake: torch.Tensor, loss: Loss) -> torch.Tensor:
    """Of the logits of generated images."""
    if loss == "hinge":
        return -on_fake.mean()
    if loss == "minimax":
        return -functional.softplus(on_fake).mean()
    return functional.softplus(-on_fake).mean()


def distance(images: torch.Tensor, real: torch.Tensor, kind: Distance) -> torch.Tensor:
    """Between images [N, C, H, W] in [-1, 1], mean over them.

    "rmse" is the root of each image's own mean squared error: it asks for the mean of what may be
    there, as the PSNR does, where "l1" asks for the median; and an image of little error counts
    for more than among squares.
    """
    if kind == "rmse":
        return (images - real).square().mean((1, 2, 3)).add(1e-5).sqrt().mean()
    return functional.l1_loss(images, real)


def r1(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """The discriminator's squared gradient at real images, mean over the images."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def mode_seeking(images: torch.Tensor, latents: torch.Tensor, half: int) -> torch.Tensor:
    """How alike images of different latents are: latents' distance by that of their images.

    Pairs are image i and image `half` + i, which have the same class where there are classes.
    """
    apart = (images[:half] - images[half : 2 * half]).abs().flatten(1).mean(1)
    between = (latents[:half] - latents[half : 2 * half]).abs().flatten(1).mean(1)
    return (between / (apart + 1e-2)).mean()


def judge(network: nn.Module, settings: Settings) -> nn.Module:
    """A discriminator, with spectral norm on each of its products where the settings say so."""
    for layer in network.modules() if settings.spectral_norm else ():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            parametrizations.spectral_norm(layer)
    return network


def shifted(images: torch.Tensor, share: float, draw: torch.Generator) -> torch.Tensor:
    """Each image moved by its own few pixels; what comes in at the edge is its edge."""
    reach = int(share * images.shape[-1])
    if not reach:
        return images
    height, width, place = images.shape[-2], images.shape[-1], images.device
    padded = functional.pad(images, [reach] * 4, mode="replicate")
    offsets = torch.randint(2 * reach + 1, (2, len(images), 1, 1), generator=draw).to(place)
    rows = offsets[0] + torch.arange(height, device=place).view(1, height, 1)  # [N, H, 1]
    columns = offsets[1] + torch.arange(width, device=place).view(1, 1, width)  # [N, 1, W]
    index = torch.arange(len(images), device=place).view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[index, rows, columns].permute(0, 3, 1, 2)
