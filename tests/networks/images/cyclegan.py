"""CycleGAN: Zhu et al., "Unpaired image-to-image translation using cycle-consistent adversarial
networks", 2017: the residual generator with reflection padding and instance norm."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two padded 3x3 convolutions with instance norms, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def cyclegan(width: int, blocks: int = 2) -> nn.Module:
    """Images [N, 3, H, W], H and W multiples of 4 -> tanh images of the same size."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7)]
    layers += [nn.InstanceNorm2d(width), nn.ReLU()]
    for before in (width, width * 2):
        layers += [nn.Conv2d(before, before * 2, 3, 2, 1), nn.InstanceNorm2d(before * 2), nn.ReLU()]
    layers += [ResidualBlock(width * 4) for _ in range(blocks)]
    for before in (width * 4, width * 2):
        layers += [nn.ConvTranspose2d(before, before // 2, 3, 2, 1, output_padding=1)]
        layers += [nn.InstanceNorm2d(before // 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())
