"""The features that distances between collections of images are measured on: our own, small.

    python -m fastgan.recipes.evaluation.features      # trains it again and writes features.onnx

A network of 40 thousand weights that tells apart ten digits, faces, patches without a face, three
textures and six photographs, all from the training halves; what it has in front of its last layer
are the features. It is named for what it is: distances on it are no "FID" of Inception and can't be
compared with those in papers, but they rank models of such images, and they ship with the package.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import fastgan
from fastgan.errors import ArgumentError
from fastgan.generator import Generator
from fastgan.recipes import images, photographs
from fastgan.recipes.translate import grey

FILE = Path(__file__).with_name("features.onnx")
SIZE = 32
COUNT = 64


class Network(nn.Module):
    """Grey images [N, 1, 32, 32] in [-1, 1] to features [N, 64]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for depth, wide in ((1, 16), (16, 32), (32, COUNT)):
            layers += [nn.Conv2d(depth, wide, 3, padding=1), nn.LeakyReLU(0.1), nn.AvgPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(COUNT, COUNT, 3, padding=1), nn.ReLU())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.layers(image).mean((2, 3))
        return features


def of(pictures: torch.Tensor) -> torch.Tensor:
    """Features [N, 64] of images [N, 1 or 3, H, W] in [-1, 1], of any size of at least 32.

    Colour is made grey (ITU-R BT.601). Images of 32 are taken as they are, larger ones as their
    windows of 32 side by side, so that a texture gives several rows.
    """
    pictures = pictures.float()
    if pictures.shape[1] == 3:
        pictures = grey(pictures)
    windows = pictures.unfold(2, SIZE, SIZE).unfold(3, SIZE, SIZE)
    return _network().run({"image": windows.reshape(-1, 1, SIZE, SIZE)})["output"].cpu()


@cache
def _network() -> Generator:
    if not FILE.is_file():
        needed = "a checkout's, or one that is trained here in a minute"
        instead = "python -m fastgan.recipes.evaluation.features"
        raise ArgumentError(FILE.name, "none in this installation", needed, instead)
    return fastgan.load(FILE, device="cpu", precision="fp32")


def _data(draw: torch.Generator, photographs_each: int = 150) -> tuple[torch.Tensor, torch.Tensor]:
    """Every training image and its class."""
    digits, classes = images.digits("train", SIZE)
    faces = photographs.faces("train", SIZE)
    groups = [torch.cat([faces, faces.flip(3)]), photographs.faces("train", SIZE, without=True)]
    for name in photographs.TEXTURES:
        texture = photographs.texture(name, "train")
        groups.append(texture.patches(photographs_each, SIZE, draw))
    for picture in photographs.named(photographs.JUDGES, halves=False).pictures:
        one = photographs.Photographs((picture,), "")
        groups.append(one.patches(photographs_each, SIZE, draw).mean(1, keepdim=True))
    labels = [torch.full((len(group),), 10 + index) for index, group in enumerate(groups)]
    return torch.cat([digits, *groups]), torch.cat([classes, *labels])


def train(steps: int = 2000, seed: int = 0) -> Network:
    """The network, trained."""
    draw = torch.Generator().manual_seed(seed)
    pictures, classes = _data(draw)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, last = Network(), nn.Linear(COUNT, int(classes.max()) + 1)
    optimizer = torch.optim.AdamW([*network.parameters(), *last.parameters()], 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(classes), (64,), generator=draw)
        given = pictures[chosen] + 0.05 * torch.randn(64, 1, SIZE, SIZE, generator=draw)
        loss = functional.cross_entropy(last(network(given)), classes[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return network.eval()


if __name__ == "__main__":
    fastgan.export(train(), FILE, image=(1, SIZE, SIZE), range=(-1, 1))
