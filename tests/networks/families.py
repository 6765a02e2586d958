"""The kinds of generators that the field knows: from latents, from images, from the rest."""

from __future__ import annotations

from fastgan.model.signature import Input
from tests.networks.biggan import BigGAN
from tests.networks.dcgan import dcgan
from tests.networks.family import Family
from tests.networks.gan3d import gan3d
from tests.networks.hifigan import HifiGan
from tests.networks.images.adain import AdaInDecoder
from tests.networks.images.context_encoder import ContextEncoder
from tests.networks.images.cyclegan import cyclegan
from tests.networks.images.espcn import espcn
from tests.networks.images.esrgan import ESRGAN
from tests.networks.images.fast_style import StyleTransfer
from tests.networks.images.gated_conv import GatedInpainting
from tests.networks.images.pix2pix import UNet
from tests.networks.images.srgan import SRGAN
from tests.networks.images.stargan import StarGAN
from tests.networks.plain import keras_style
from tests.networks.progressive import ProgressiveGenerator
from tests.networks.resnet_gan import ResnetGenerator
from tests.networks.sagan import sagan
from tests.networks.stylegan2 import StyleGAN2, StyleGAN2WithNoise
from tests.networks.vae import vae_decoder
from tests.networks.vqvae import VqVaeDecoder
from tests.networks.weights import build, spectral


def latent(*shape: int) -> Input:
    return Input("latent", "latent", ("batch", *shape), distribution="normal")


def image(*shape: int | str, name: str = "image") -> Input:
    return Input(name, "image", ("batch", *shape))


OPEN = ("height", "width")
#: Instance norms over the 16 pixels of a 4x4 level divide by what little the pixels differ, and
#: rounding with it. Eager PyTorch in bf16 itself keeps 39 dB in the worst of 40 draws (the median
#: is 44); fp16 has three bits more.
AMPLIFIED_BF16, AMPLIFIED_FP16 = 37.0, 2e-2
#: Two untrained networks pass rounding on: of some 50 batches of fresh inputs each, the worst were
#: off by 8.1e-3 (WGAN-GP, median 4e-3) and 7.6e-3 (progressive, median 3e-3).
PASSED_ON_FP16 = 1e-2

NOISES = tuple(
    Input(f"noise{size}", "noise", ("batch", 1, size, size), distribution="normal")
    for size in (8, 16)
)

FROM_LATENTS = {
    "dcgan": Family(lambda: dcgan(16, 4, 3, seed=1), (latent(16, 1, 1),)),
    "keras": Family(lambda: keras_style(seed=2), (latent(100),)),
    "wgan-gp": Family(
        lambda: build(lambda: ResnetGenerator(16, 8), 3), (latent(16),), fp16=PASSED_ON_FP16
    ),
    "sngan": Family(lambda: build(lambda: ResnetGenerator(16, 8, wrap=spectral), 4), (latent(16),)),
    "sagan": Family(lambda: build(lambda: sagan(12, 8), 5), (latent(12, 1, 1),)),
    "biggan": Family(
        lambda: build(lambda: BigGAN(6, 8, 10, 4), 6),
        (latent(18), Input("label", "label", ("batch",), "int64", classes=10)),
    ),
    "progressive": Family(
        lambda: build(lambda: ProgressiveGenerator(12), 7), (latent(12),), fp16=PASSED_ON_FP16
    ),
    "stylegan2-scaled": Family(lambda: build(lambda: StyleGAN2(12, 8, "scaled"), 8), (latent(12),)),
    "stylegan2-groups": Family(
        lambda: build(lambda: StyleGAN2(12, 8, "groups"), 12), (latent(12),), frozen=2
    ),
    "stylegan2-noise": Family(
        lambda: build(lambda: StyleGAN2WithNoise(12, 8, "scaled"), 10),
        (latent(12), *NOISES),
    ),
    "vae": Family(lambda: build(lambda: vae_decoder(8, 8), 11), (latent(8),), range=(0.0, 1.0)),
}

FROM_IMAGES = {
    "pix2pix": Family(lambda: build(lambda: UNet(6), 20), (image(3, 32, 32),)),
    "cyclegan": Family(
        lambda: build(lambda: cyclegan(4), 21),
        (image(3, *OPEN),),
        bf16=AMPLIFIED_BF16,
        fp16=AMPLIFIED_FP16,
    ),
    "stargan": Family(
        lambda: build(lambda: StarGAN(4, 5), 22),
        (image(3, 16, 16), Input("label", "label", ("batch", 5), classes=5)),
        bf16=AMPLIFIED_BF16,
        fp16=AMPLIFIED_FP16,
    ),
    "srgan": Family(lambda: build(lambda: SRGAN(8), 23), (image(3, *OPEN),), size=(8, 8)),
    "esrgan": Family(
        lambda: build(lambda: ESRGAN(8, 4), 24),
        (image(3, *OPEN),),
        range=(0.0, 1.0),
        size=(8, 8),
    ),
    "espcn": Family(
        lambda: build(lambda: espcn(8), 25),
        (image(1, *OPEN),),
        range=(0.0, 1.0),
        size=(10, 14),
    ),
    "fast-style": Family(
        lambda: build(lambda: StyleTransfer(4), 26),
        (image(3, *OPEN),),
        range=(0.0, 255.0),
        size=(36, 40),
    ),
    "context-encoder": Family(lambda: build(lambda: ContextEncoder(6), 27), (image(3, 32, 32),)),
    "gated-conv": Family(
        lambda: build(lambda: GatedInpainting(6), 28),
        (
            image(3, *OPEN),
            Input("mask", "mask", ("batch", 1, *OPEN), range=(0.0, 1.0)),
        ),
    ),
}

FROM_THE_REST = {
    "adain": Family(
        lambda: build(lambda: AdaInDecoder(4), 40),
        tuple(Input(n, "tensor", ("batch", 16, 8, 8)) for n in ("content", "style")),
        range=(0.0, 1.0),
    ),
    "vqvae": Family(
        lambda: build(lambda: VqVaeDecoder(16, 8, 12), 41),
        (Input("codes", "tensor", ("batch", 6, 6), "int64"),),
        codes=16,
    ),
    "hifigan": Family(
        lambda: build(lambda: HifiGan(8, 4), 42),
        (Input("mel", "tensor", ("batch", 8, "frames")),),
        size=(8, 8),
    ),
    "gan3d": Family(
        lambda: build(lambda: gan3d(8, 4), 43), (latent(8, 1, 1, 1),), range=(0.0, 1.0)
    ),
}

FAMILIES = {**FROM_LATENTS, **FROM_IMAGES, **FROM_THE_REST}
