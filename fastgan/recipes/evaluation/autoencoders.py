"""An autoencoder on held-out images: what comes back, the ELBO, and the walk between two images.

A model is two files: the decoder, and NAME-encoder.onnx beside it. Either of them may be named.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from PIL import Image

import fastgan
from fastgan.errors import ArgumentError
from fastgan.generator import Generator
from fastgan.recipes import images
from fastgan.recipes.evaluation import digits as digit_judge
from fastgan.recipes.evaluation import faces as face_judge
from fastgan.recipes.evaluation.figure import Figure
from fastgan.recipes.photographs import faces
from fastgan.recipes.vae import divergence, likelihood

_SUFFIX = "-encoder"


def of_digits(generator: Generator) -> dict[str, Figure]:
    """Of an autoencoder of digits, its samples included."""
    decoder, encoder = both(generator)
    known, real = (images.digits(split)[0] for split in ("train", "test"))
    found = reconstruction(decoder, encoder, known, real, least=18)
    return found | _of_samples(digit_judge.judge(decoder.generate(2000, seed=0).cpu()))


def of_faces(generator: Generator) -> dict[str, Figure]:
    """Of an autoencoder of faces, its samples included."""
    decoder, encoder = both(generator)
    found = reconstruction(decoder, encoder, faces("train"), faces("test"), least=17)
    return found | _of_samples(face_judge.judge(decoder.generate(1000, seed=0).cpu()))


@torch.no_grad()
def reconstruction(
    decoder: Generator, encoder: Generator, known: torch.Tensor, real: torch.Tensor, least: float
) -> dict[str, Figure]:
    """Of held-out images [N, C, H, W] in [-1, 1], decoded from the mean of their latents.

    Args:
        known: the training images, whose mean is the baseline.
        least: what the PSNR must reach, in dB.
    """
    mean, log_variance = encode(encoder, real)
    decoded = _decode(decoder, mean)
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(mean.shape, generator=draw)
    sampled = _decode(decoder, mean + noise * (log_variance / 2).exp())
    plain = known.mean(0, keepdim=True).expand_as(real)
    distance, pixels = divergence(mean, log_variance).mean().item(), real[0].numel()
    count = len(real)
    return {
        "reconstruction": Figure(
            psnr(decoded, real),
            f"PSNR of {count} held-out images, encoded and decoded; baseline: the mean image",
            least=least,
            baseline=psnr(plain, real),
            unit="dB",
        ),
        "ELBO": Figure(
            (likelihood(real, sampled).item() - distance) / pixels,
            "log density of held-out images at least, nats per pixel; baseline: the mean image",
            baseline=likelihood(real, plain).item() / pixels,
        ),
        "divergence": Figure(distance, "of the latents from N(0, 1), nats per held-out image"),
        "latents": Figure(
            (mean.var(0, unbiased=False) + log_variance.exp().mean(0)).mean().sqrt().item(),
            "standard deviation of held-out images' latents: 1 is what the decoder is fed",
            baseline=1,
        ),
    }


def both(generator: Generator) -> tuple[Generator, Generator]:
    """The decoder and the encoder of the model that one of them is of.

    Raises:
        ArgumentError: the other file does not lie beside it.
    """
    path = generator.path
    if path is None:
        raise ArgumentError("the model", "bytes", "a file, with the encoder's beside it")
    encodes = path.stem.endswith(_SUFFIX)
    stem = path.stem.removesuffix(_SUFFIX) if encodes else path.stem + _SUFFIX
    other = path.with_name(f"{stem}.onnx")
    if not other.is_file():
        raise ArgumentError(str(path), f"no {other.name} beside it", "the decoder and the encoder")
    second = fastgan.load(other, device=generator.device, precision=generator.precision)
    return (second, generator) if encodes else (generator, second)


def encode(encoder: Generator, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log variance of the latents of images [N, C, H, W], [N, latent] each."""
    name = encoder.signature.inputs[0].name
    (found,) = encoder.run({name: pictures}).values()
    mean, log_variance = found.cpu().chunk(2, 1)
    return mean, log_variance


def psnr(made: torch.Tensor, real: torch.Tensor) -> float:
    """Mean over the images of the PSNR in dB, of values in [-1, 1]."""
    mse = (made - real).square().flatten(1).mean(1).clamp(min=1e-10)
    return (10 * torch.log10(4 / mse)).mean().item()


def picture_digits(generator: Generator) -> Image.Image:
    """Walks between held-out digits."""
    real, classes = images.digits("test")
    first = torch.stack([real[classes == digit][0] for digit in range(8)])
    return walks(generator, first)


def walks(generator: Generator, pictures: torch.Tensor, steps: int = 8) -> Image.Image:
    """A row from each image to the next: the image, `steps` on the way, and the next image.

    What is between the two originals is decoded: from the latents of the one to those of the
    other, along the great circle, since normal latents of many dimensions lie near a sphere.
    """
    decoder, encoder = both(generator)
    mean, _ = encode(encoder, pictures)
    rows = []
    for index in range(len(pictures)):
        following = (index + 1) % len(pictures)
        shares = torch.linspace(0, 1, steps)[:, None]
        path = slerp(mean[index], mean[following], shares)
        rows += [pictures[index, None], _decode(decoder, path), pictures[following, None]]
    return images.grid(torch.cat(rows), columns=steps + 2, scale=2)


def slerp(first: torch.Tensor, second: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Points on the arc between two latents [latent], at these shares [N, 1] (Shoemake, 1985)."""
    cosine = torch.nn.functional.cosine_similarity(first, second, 0).clamp(-1, 1)
    angle = torch.acos(cosine)
    if angle < 1e-3 or math.pi - angle < 1e-3:
        return torch.lerp(first, second, shares)
    weights = torch.sin((1 - shares) * angle), torch.sin(shares * angle)
    return (weights[0] * first + weights[1] * second) / torch.sin(angle)


def _decode(decoder: Generator, latents: torch.Tensor) -> torch.Tensor:
    name = decoder.signature.inputs[0].name
    (made,) = decoder.run({name: latents}).values()
    return made.cpu()


def _of_samples(judged: dict[str, Figure]) -> dict[str, Figure]:
    """Figures of its samples, for information: what an autoencoder promises is reconstruction."""
    return {
        name: replace(figure, least=None, most=None)
        for name, figure in judged.items()
        if name != "the classifier"
    }
