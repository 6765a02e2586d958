"""Generated digits, judged by a classifier of real ones.

The classifier is trained here, in seconds, on the digits that the generator was trained on, and
scored on those that both never saw.
"""

from __future__ import annotations

from functools import cache, partial

import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from fastgan.generator import Generator
from fastgan.recipes import images
from fastgan.recipes.evaluation import distances
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.evaluation.novelty import novelty

_SIZE = 32
_CLASSES = 10


@cache
@torch.enable_grad()
def classifier(seed: int = 0, epochs: int = 15) -> nn.Module:
    """A small convolutional network, trained on the real training digits.

    Takes images [N, 1, 32, 32] in [-1, 1], gives logits [N, 10].
    """
    pictures, classes = images.digits("train", _SIZE)
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.AvgPool2d(2),  # [N, 1, 16, 16]: the digits come from 8x8
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [N, 16, 8, 8]
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [N, 32, 4, 4]
            nn.Flatten(),
            nn.Linear(512, _CLASSES),
        )
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(classes), generator=draw), 64):
            loss = functional.cross_entropy(network(pictures[chosen]), classes[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return network.eval()


def figures(generator: Generator, *, count: int = 2000, seed: int = 0) -> dict[str, Figure]:
    """Of a generator of digits from nothing but a latent, [N, 1, 32, 32] in [-1, 1]."""
    return judge(generator.generate(count, seed=seed).cpu())


def conditional(generator: Generator, *, count: int = 2000, seed: int = 0) -> dict[str, Figure]:
    """Of a generator that takes the digit to draw as its label."""
    asked = torch.arange(count) % _CLASSES
    samples = generator.generate(count, seed=seed, labels=asked).cpu()
    with torch.no_grad():
        found = classifier()(samples).argmax(1)
    right = found == asked
    per_class = torch.stack([right[asked == digit].float().mean() for digit in range(_CLASSES)])
    real, classes = images.digits("test", _SIZE)
    with torch.no_grad():
        on_real = (classifier()(real).argmax(1) == classes).float().mean().item()
    agreement = {
        "agreement": Figure(
            100 * right.float().mean().item(),
            "samples in which the classifier sees the digit asked for; baseline: held-out real",
            least=95,
            baseline=100 * on_real,
            unit="%",
        ),
        "agreement, worst digit": Figure(
            100 * per_class.amin().item(),
            f"the same for the digit that it draws worst, {int(per_class.argmin())}",
            unit="%",
        ),
    }
    variety = {
        "variety": Figure(
            _within(samples, asked) / _within(real, classes),
            "how much samples of one digit differ from each other, by that of held-out real ones",
            least=0.5,
            baseline=1,
        )
    }
    return agreement | variety | judge(samples)


def _within(pictures: torch.Tensor, classes: torch.Tensor) -> float:
    """Standard deviation of the pixels within a class, root mean square over the classes."""
    each = [pictures[classes == digit].var(0).mean() for digit in range(_CLASSES)]
    return torch.stack(each).mean().sqrt().item()


@torch.no_grad()
def judge(samples: torch.Tensor) -> dict[str, Figure]:
    """The figures of generated digits, [N, 1, 32, 32] in [-1, 1], by the `classifier`."""
    network = classifier()
    real, classes = images.digits("test", _SIZE)
    known, _ = images.digits("train", _SIZE)
    on_real, on_samples = network(real).softmax(1), network(samples).softmax(1)
    shares = 100 * on_samples.argmax(1).bincount(minlength=_CLASSES) / len(samples)
    percent = partial(Figure, unit="%")
    return {
        "confidence": Figure(
            on_samples.amax(1).mean().item(),
            f"mean probability of the likeliest digit, {len(samples)} samples; baseline: held-out"
            " real digits",
            least=0.9,
            baseline=on_real.amax(1).mean().item(),
        ),
        "rarest digit": percent(
            shares.amin().item(),
            f"share of the samples that are a {int(shares.argmin())}: no mode is lost",
            least=5,
            baseline=10,
        ),
        "commonest digit": percent(
            shares.amax().item(),
            f"share of the samples that are a {int(shares.argmax())}: none takes over",
            most=15,
            baseline=10,
        ),
        "novelty": Figure(
            novelty(samples, known, real),
            "median distance to the nearest training digit, by that of a held-out real one: near 0"
            " are copies",
            least=0.5,
            baseline=1,
        ),
        "the classifier": percent(
            100 * (on_real.argmax(1) == classes).float().mean().item(),
            "held-out real digits that it gets right",
            least=97,
        ),
        **distances.figures(samples, real, known),
    }


def picture(generator: Generator) -> Image.Image:
    """The first 100 samples, unselected."""
    return images.grid(generator.generate(100, seed=0).cpu(), scale=2)


def picture_conditional(generator: Generator) -> Image.Image:
    """Ten samples of each digit, unselected: a column each."""
    asked = torch.arange(100) % _CLASSES
    return images.grid(generator.generate(100, seed=0, labels=asked).cpu(), scale=2)
