"""Restoration tuned by reinforcement learning: policy gradient on the generator of `denoise`.

The generator's output is the mean of a Gaussian policy: an action is a restored image, drawn
around it. The reward of an action is its PSNR, plus the discriminator's log D of it. Nothing is
differentiated but the policy's own log-probability, so that a reward may be anything that can be
computed of an image in whole bytes.

An image is very many actions at once, and one number would not tell which of them were good. So
every pixel is rewarded by its own share of the image's PSNR, and by log D of its neighbourhood.

Policy gradient with a baseline and an entropy bonus: Williams, "Simple Statistical
Gradient-Following Algorithms for Connectionist Reinforcement Learning" (1992). A baseline of the
other actions: Kool et al., "Buy 4 REINFORCE Samples, Get a Baseline for Free!" (2019). A reward for
every pixel: Furuta et al., "Fully Convolutional Network with Multi-Step Reinforcement Learning for
Image Processing" (2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from fastgan.errors import ArgumentError
from fastgan.recipes import denoise, losses
from fastgan.recipes.denoise import Damage, Denoiser
from fastgan.recipes.images import in_bytes
from fastgan.recipes.photographs import Photographs
from fastgan.recipes.restoration import Restoration, UNetSettings

NAME = "restore-rl"


@dataclass(frozen=True)
class PolicySettings(UNetSettings):
    """Beside those of `denoise`; `adversarial` is the weight of log D beside the PSNR in dB.

    Attributes:
        actions: images that are drawn and rewarded for each damaged one; even, at least 2: they
            come in pairs, one on either side of the mean.
        sigma: the policy's standard deviation at the start; then it is learned. It should not be
            above the error of the better images: it adds to every image's error, and so evens out
            what they weigh.
        entropy: weight of the entropy of a pixel's action beside its reward.
    """

    start: str = "denoise-photos"
    actions: int = 4
    sigma: float = 0.01
    entropy: float = 0.3
    adversarial: float = 0.3


SETTINGS = {
    "ship": PolicySettings(
        steps=1500, lr=2e-4, lr_end=0.01, lr_discriminator=3.0, vary=True, precision="bf16"
    ),
    "full": PolicySettings(
        steps=100_000, lr=1e-4, lr_end=0.01, lr_discriminator=3.0, vary=True, size=128, actions=8
    ),
    "quick": PolicySettings(steps=30, batch=4, lr=1e-3, width=8, average=0.9, start=""),
}

data = denoise.data


class Spread(nn.Module):
    """The policy's standard deviation: one for every colour, whatever the image."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.full((3, 1, 1), math.log(sigma)))


class PolicyGradient(Restoration):
    """`Restoration` by reward alone."""

    options: PolicySettings

    def __init__(self, settings: PolicySettings, found: tuple[Photographs, Photographs]) -> None:
        self.spread = Spread(settings.sigma)
        network = partial(Denoiser, settings.width)
        super().__init__(NAME, settings, network, Damage(), found, spread=self.spread)

    def step(self, draw: torch.Generator) -> dict[str, float]:
        """Train the discriminator, then draw actions, reward them, and follow the gradient."""
        s = self.options
        given, real = self.pair(draw)
        with self.autocast():
            mean = self.generator(given).float()
        centre, sigma = mean.detach(), self.spread.log.detach().exp()
        half = torch.randn(s.actions // 2, *real.shape, generator=draw)
        noise = torch.cat([half, -half]).to(self.device)  # [K, N, 3, H, W]
        actions = centre + sigma * noise

        blur = sigma * torch.randn(real.shape, generator=draw).to(self.device)
        with self.autocast():  # a policy's noise must not be what gives it away
            on_real = self.judged(given, real + blur)
            on_fake = self.judged(given, actions[0])
        d_loss = losses.discriminator_loss(on_real, on_fake, s.loss, s.label_smoothing)
        self.descend(d_loss, "discriminator")

        reward = self.rewards(given, actions, real)
        others = (reward.sum(0) - reward) / (s.actions - 1)
        log_sigma = self.spread.log
        miss = (actions - mean) / log_sigma.exp()
        log_policy = (-0.5 * miss.square() - log_sigma).sum(2)  # [K, N, H, W]
        entropy = log_sigma.sum()
        gain = ((reward - others) * log_policy).mean() + s.entropy * entropy
        self.descend(-gain, "generator", "spread")
        self.update_average()
        psnr = self.psnr(centre, real)
        view = functional.logsigmoid(on_fake).mean().item()
        return {
            "reward": psnr + s.adversarial * view,
            "PSNR": psnr,
            "log D": view,
            "D": d_loss.item(),
            "sigma": self.spread.log.exp().mean().item(),
        }

    @torch.no_grad()
    def rewards(
        self, given: torch.Tensor, actions: torch.Tensor, real: torch.Tensor
    ) -> torch.Tensor:
        """What each pixel of each action [K, N, 3, H, W] earns, in dB: [K, N, H, W].

        A pixel's share of the PSNR is the derivative of it by the pixel's squared error, times that
        error, times the number of pixels, so that their mean moves as the image's PSNR does.
        """
        error = (in_bytes(actions) - real).square().mean(2)  # [K, N, H, W]
        whole = error.mean((0, 2, 3))[:, None, None].clamp(min=1e-6)
        share = -10 / math.log(10) * error / whole
        if not self.options.adversarial:
            return share
        with self.autocast():
            logits = self.judged(given, actions.flatten(0, 1))
        views = functional.interpolate(functional.logsigmoid(logits), real.shape[-2:])
        return share + self.options.adversarial * views.view_as(share)

    def score(self) -> float:
        """Minus the PSNR on held-out patches, in dB."""
        given, whole = self.pairs(32, self.options.size)
        with torch.no_grad():
            return -self.psnr(self.finished()(given), whole)

    def psnr(self, images: torch.Tensor, real: torch.Tensor) -> float:
        """In dB, of images in whole bytes; the mean over them."""
        error = (in_bytes(images) - real).div(2).square().mean((1, 2, 3)).clamp(min=1e-7)
        return -10 * error.log10().mean().item()


def build(settings: PolicySettings, found: tuple[Photographs, Photographs]) -> PolicyGradient:
    """The recipe on these photographs, to train with and held out.

    Raises:
        ArgumentError: an odd number of actions.
    """
    if settings.actions < 2 or settings.actions % 2:
        raise ArgumentError("actions", str(settings.actions), "an even number, at least 2")
    return PolicyGradient(settings, found)
