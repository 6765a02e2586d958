"""BigGAN: Brock, Donahue, Simonyan, "Large scale GAN training for high fidelity natural image
synthesis", 2019, appendix B: class-conditional batch norms from a shared embedding, one piece of
the latent for each block, attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.sagan import SelfAttention
from tests.networks.weights import spectral


class ConditionalBatchNorm(nn.Module):
    """A batch norm whose gain (about 1) and bias are linear in a condition."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        # A gain and a bias of its own change nothing; the TorchScript exporter asks for them.
        self.norm = nn.BatchNorm2d(channels, eps=1e-4)
        self.gain = spectral(nn.Linear(condition, channels, bias=False))
        self.bias = spectral(nn.Linear(condition, channels, bias=False))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain = 1 + 0.3 * self.gain(condition)[:, :, None, None]
        return self.norm(x) * gain + self.bias(condition)[:, :, None, None]


class Block(nn.Module):
    """The residual block of figure 15 (b)."""

    def __init__(self, before: int, after: int, condition: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(before, condition)
        self.norm2 = ConditionalBatchNorm(after, condition)
        self.conv1 = spectral(nn.Conv2d(before, after, 3, padding=1))
        self.conv2 = spectral(nn.Conv2d(after, after, 3, padding=1))
        self.shortcut = spectral(nn.Conv2d(before, after, 1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = F.interpolate(F.relu(self.norm1(x, condition)), scale_factor=2)
        y = self.conv2(F.relu(self.norm2(self.conv1(y), condition)))
        return y + self.shortcut(F.interpolate(x, scale_factor=2))


class BigGAN(nn.Module):
    """Latent [N, 3 * piece], int64 label [N] -> tanh images [N, 3, 16, 16]."""

    def __init__(self, piece: int, width: int, classes: int, embedding: int) -> None:
        super().__init__()
        self.piece, self.width = piece, width
        self.shared = nn.Embedding(classes, embedding)
        self.dense = spectral(nn.Linear(piece, width * 2 * 16))
        condition = piece + embedding
        self.blocks = nn.ModuleList(
            [Block(width * 2, width, condition), Block(width, width, condition)]
        )
        self.attention = SelfAttention(width, max(1, width // 8), pool=True)
        self.norm = nn.BatchNorm2d(width, eps=1e-4)
        self.to_rgb = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        first, *pieces = torch.split(z, self.piece, dim=1)
        embedded = self.shared(label)
        x = self.dense(first).view(-1, self.width * 2, 4, 4)
        for index, (block, piece) in enumerate(zip(self.blocks, pieces, strict=True)):
            x = block(x, torch.cat([embedded, piece], dim=1))
            if index == 0:
                x = self.attention(x)
        return torch.tanh(0.5 * self.to_rgb(F.relu(self.norm(x))))
