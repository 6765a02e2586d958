"""Small versions of networks from image to image, each with the arithmetic and the ranges of the
published one; what they take and make is stated here by hand, from their own programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.images.cyclegan import cyclegan
from tests.networks.images.espcn import espcn
from tests.networks.images.esrgan import ESRGAN
from tests.networks.images.fast_style import StyleTransfer
from tests.networks.images.gated_conv import GatedInpainting
from tests.networks.images.pix2pix import UNet
from tests.networks.images.srgan import SRGAN

UNIT, SYMMETRIC, BYTES = (0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = "imagenet"
DIV2K = (0.4488, 0.4371, 0.4040)

Span = tuple[float, float] | str


def conv(inside: int, outside: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, size, stride, size // 2)


def row(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values)[None, :, None, None]


class Compact(nn.Module):
    """Real-ESRGAN's SRVGGNetCompact: the image enlarged is added at last."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), nn.PReLU(8), conv(8, 12), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * 0.3 + F.interpolate(x, scale_factor=2.0, mode="nearest")


class UnshuffledRRDB(nn.Module):
    """Real-ESRGAN x2plus: pixels unshuffled first, a convolution last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(12, 8), conv(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first(F.pixel_unshuffle(x, 2)), 0.2)
        return self.last(F.interpolate(y, scale_factor=4.0, mode="nearest")) * 0.5 + 0.3


class Windowed(nn.Module):
    """SwinIR: the mean of DIV2K taken away and added, attention in windows of 4 between."""

    def __init__(self, img_range: float) -> None:
        super().__init__()
        self.first, self.up = conv(3, 8), nn.Sequential(conv(8, 12), nn.PixelShuffle(2))
        self.qkv, self.norm = nn.Linear(8, 24), nn.LayerNorm(8)
        self.img_range, self.mean = img_range, row(DIV2K)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) * self.img_range
        y = self.first(x)
        n, c, h, w = y.shape
        t = y.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        q, k, v = self.qkv(self.norm(t)).chunk(3, -1)
        t = torch.softmax(q @ k.transpose(1, 2), -1) @ v
        t = t.view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        return self.up(y + t) / self.img_range + self.mean


class MeanShift(nn.Conv2d):
    """EDSR's: a 1x1 convolution of the identity and a bias."""

    def __init__(self, sign: int, top: float = 255.0) -> None:
        super().__init__(3, 3, 1)
        self.weight.data = torch.eye(3)[..., None, None]
        self.bias.data = sign * top * torch.tensor(DIV2K)


class EDSR(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3, 8)
        self.body = nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8))
        self.up = nn.Sequential(conv(8, 32), nn.PixelShuffle(2), conv(8, 3))
        self.less, self.more = MeanShift(-1), MeanShift(1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(self.less(x))
        return self.more(self.up(y + self.body(y)))


class Style(nn.Module):
    """fast-neural-style (PyTorch's examples, the ONNX zoo): bytes in and out, no activation."""

    def __init__(self, mean: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.mean = mean
        self.body = nn.Sequential(
            nn.ReflectionPad2d(4), nn.Conv2d(3, 8, 9), nn.InstanceNorm2d(8, affine=True), nn.ReLU(),
            conv(8, 16, 3, 2), nn.InstanceNorm2d(16, affine=True), nn.ReLU(),
            nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(16, 8, 3),
            nn.InstanceNorm2d(8, affine=True), nn.ReLU(), nn.ReflectionPad2d(4), nn.Conv2d(8, 3, 9),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if not self.mean:
            return self.body(x) * 1.0
        return self.body(x - row(self.mean)) + row(self.mean)


class Lama(nn.Module):
    """LaMa as it is published in ONNX: [0, 1] and a mask in, bytes out."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(4, 8), nn.ReLU(), conv(8, 3))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        made = torch.sigmoid(self.body(torch.cat([image * (1 - mask), mask], 1)))
        return torch.clamp((mask * made + (1 - mask) * image) * 255, 0, 255)


class IBNorm(nn.Module):
    """MODNet's: half of the channels batch normed, half instance normed."""

    def __init__(self) -> None:
        super().__init__()
        self.batch, self.instance = nn.BatchNorm2d(4), nn.InstanceNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.batch(x[:, :4]), self.instance(x[:, 4:])], 1)


class MODNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(3, 8, 3, 2), IBNorm(), nn.ReLU6(), nn.Upsample(scale_factor=2, mode="bilinear")
        )
        self.last = conv(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.last(self.body(x)))


class U2Net(nn.Module):
    """Seven cut-outs, the best one first."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU())
        self.sides = nn.ModuleList([conv(8, 1) for _ in range(6)])
        self.last = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.body(x)
        sides = [side(y) for side in self.sides]
        return tuple(torch.sigmoid(d) for d in (self.last(torch.cat(sides, 1)), *sides))


class DnCNN(nn.Module):
    def __init__(self, c: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(c, 8), nn.ReLU(), conv(8, 8), nn.ReLU(), conv(8, c))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.body(x)


class DRUNet(nn.Module):
    """The noise level as a fourth channel, no residual to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.down = conv(4, 8), nn.Conv2d(8, 16, 2, 2, bias=False)
        self.up, self.tail = nn.ConvTranspose2d(16, 8, 2, 2, bias=False), conv(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        return self.tail(self.up(F.relu(self.down(y))) + y)


class AnimeGAN(nn.Module):
    """AnimeGANv2: layer norms written as group norms of one group, Tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, 8, 7), nn.GroupNorm(1, 8), nn.LeakyReLU(0.2),
            nn.Conv2d(8, 3, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class DeOldify(nn.Module):
    """fast.ai's U-Net: ImageNet's constants in and out, a Sigmoid from -3 to 3."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.body(x)) * 6 - 3


class GFPGAN(nn.Module):
    """A StyleGAN2 whose style comes from the image: weights of each sample's own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.style = conv(3, 8, 3, 2), nn.Linear(8, 8)
        self.weight = nn.Parameter(torch.randn(1, 8, 8, 3, 3))
        self.to_rgb = conv(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first(x), 0.2)
        n, c, h, w = y.shape
        weight = self.weight * self.style(y.mean((2, 3))).view(n, 1, c, 1, 1)
        weight = weight * torch.rsqrt(weight.pow(2).sum((2, 3, 4), keepdim=True) + 1e-8)
        y = F.conv2d(y.reshape(1, n * c, h, w), weight.view(n * 8, c, 3, 3), padding=1, groups=n)
        y = F.interpolate(y.view(n, 8, h, w), scale_factor=2.0)
        return self.to_rgb(F.leaky_relu(y, 0.2))


class CodeFormer(nn.Module):
    """VQGAN's encoder and decoder: group norms and swish, no last activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.down = conv(3, 8), nn.GroupNorm(4, 8), conv(8, 8, 3, 2)
        self.codes, self.last = nn.Parameter(torch.randn(16, 8)), conv(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(F.silu(self.norm(self.first(x))))
        n, c, h, w = y.shape
        t = y.permute(0, 2, 3, 1).reshape(-1, c)
        codes = self.codes[(t @ self.codes.T).argmax(1)].view(n, h, w, c).permute(0, 3, 1, 2)
        return self.last(F.silu(self.norm(F.interpolate(codes, scale_factor=2.0))))


class Matting(nn.Module):
    """Robust Video Matting's ends: ImageNet's mean inside, the foreground a clamped residual."""

    def __init__(self) -> None:
        super().__init__()
        self.body = conv(3, 4)
        self.mean, self.std = row(MEAN), row(STD)

    def forward(self, src: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body((src - self.mean) / self.std)
        return (y[:, :3] + src).clamp(0, 1), y[:, 3:].clamp(0, 1)


class DeblurGAN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), nn.InstanceNorm2d(8), nn.ReLU(), conv(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(torch.tanh(self.body(x)) + x, -1, 1)


class NAFNet(nn.Module):
    """Padded to multiples, the image added, cropped."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = conv(3, 8), nn.GroupNorm(1, 8), conv(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 8, 0, 8))
        y = self.first(padded)
        y = self.last(self.norm(y)[:, :4].repeat(1, 2, 1, 1) * y) + padded
        return y[:, :, :-8, :-8]


class AdaIN(nn.Module):
    """Content and style, each through VGG as it came from Torch: BGR bytes less their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.bgr = nn.Conv2d(3, 3, 1)
        self.bgr.weight.data = 255 * torch.eye(3).flip(0)[..., None, None]
        self.bgr.bias.data = torch.tensor((-103.939, -116.779, -123.68))
        self.encoder, self.decoder = conv(3, 8), conv(8, 3)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        a, b = (F.relu(self.encoder(self.bgr(x) / 100)) for x in (content, style))
        a = (a - a.mean((2, 3), keepdim=True)) / (a.std((2, 3), keepdim=True) + 1e-5)
        a = a * b.std((2, 3), keepdim=True) + b.mean((2, 3), keepdim=True)
        return self.decoder(a) * 0.3


class Wrapped(nn.Module):
    """A network of [-1, 1] in a file of bytes, as they are made for deployment."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x / 127.5 - 1) + 1) * 127.5


class JohnsonStyle(nn.Module):
    """Johnson's own: bytes in, 150 times Tanh and a half."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x / 255) * 150 + 127.5


class Imagenet(nn.Module):
    """Takes what torchvision's networks take, and has its constants taken back inside."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mean, self.std = conv(3, 3), row(MEAN), row(STD)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.body(x * self.std + self.mean))


@dataclass(frozen=True, slots=True)
class Published:
    """A network and, by hand, what it takes and makes.

    Attributes:
        takes: the range of each image input; a mask is [0, 1].
        makes: the range of the first output.
        inputs: (name, channels).
        firm: whether the evidence is no mere habit, so that nothing is warned of.
    """

    make: Callable[[], nn.Module]
    takes: Span
    makes: Span
    inputs: tuple[tuple[str, int], ...] = (("input", 3),)
    firm: bool = True


INPAINTING = (("image", 3), ("mask", 1))

PUBLISHED = {
    "real-esrgan-compact": Published(Compact, UNIT, UNIT),
    "real-esrgan-x2plus": Published(UnshuffledRRDB, UNIT, UNIT),
    "esrgan": Published(lambda: ESRGAN(8, 4), UNIT, UNIT),
    "espcn": Published(lambda: espcn(8), UNIT, UNIT, (("y", 1),)),
    "swinir": Published(lambda: Windowed(1.0), UNIT, UNIT),
    "rcan-255": Published(lambda: Windowed(255.0), UNIT, UNIT),
    "edsr": Published(EDSR, BYTES, BYTES),
    "srgan": Published(lambda: SRGAN(8), UNIT, SYMMETRIC, firm=False),
    "cyclegan": Published(lambda: cyclegan(4), SYMMETRIC, SYMMETRIC),
    "pix2pix": Published(lambda: UNet(6), SYMMETRIC, SYMMETRIC),
    "animegan": Published(AnimeGAN, SYMMETRIC, SYMMETRIC),
    "fast-neural-style": Published(Style, BYTES, BYTES, firm=False),
    "fast-neural-style-mean": Published(lambda: Style((123.68, 116.779, 103.939)), BYTES, BYTES),
    "fast-neural-style-tanh": Published(lambda: StyleTransfer(4), BYTES, BYTES),
    "johnson": Published(JohnsonStyle, BYTES, BYTES),
    "lama": Published(Lama, UNIT, BYTES, INPAINTING),
    "gated-conv": Published(lambda: GatedInpainting(6), SYMMETRIC, SYMMETRIC, INPAINTING),
    "modnet": Published(MODNet, SYMMETRIC, UNIT),
    "u2net": Published(U2Net, IMAGENET, UNIT, firm=False),
    "rvm": Published(Matting, UNIT, UNIT, (("src", 3),)),
    "dncnn": Published(DnCNN, UNIT, UNIT, (("input", 1),)),
    "dncnn-colour": Published(lambda: DnCNN(3), UNIT, UNIT),
    "drunet": Published(DRUNet, UNIT, UNIT, (("input", 4),), firm=False),
    "nafnet": Published(NAFNet, UNIT, UNIT),
    "deblurgan": Published(DeblurGAN, SYMMETRIC, SYMMETRIC),
    "deoldify": Published(DeOldify, IMAGENET, IMAGENET),
    "gfpgan": Published(GFPGAN, SYMMETRIC, SYMMETRIC, firm=False),
    "codeformer": Published(CodeFormer, SYMMETRIC, SYMMETRIC, firm=False),
    "adain": Published(AdaIN, UNIT, UNIT, (("content", 3), ("style", 3)), firm=False),
    "wrapped": Published(Wrapped, BYTES, BYTES),
    "imagenet": Published(Imagenet, IMAGENET, UNIT),
}
