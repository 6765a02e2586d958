"""Image-to-image models, each loaded once, and images for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fastgan
from fastgan.generator import Generator
from fastgan.model.signature import Input
from tests import drawing
from tests import image_networks as networks

OPEN = (3, "h", "w")
MASKED = [
    Input("image", "image", ("batch", 3, "h", "w")),
    Input("mask", "mask", ("batch", 1, "h", "w"), range=(0.0, 1.0)),
]
STYLED = [
    Input("content", "image", ("batch", 3, "h", "w")),
    Input("style", "image", ("batch", 3, "sh", "sw")),
]
LABELLED = [
    Input("image", "image", ("batch", 3, "h", "w")),
    Input("label", "label", ("batch", 4), classes=4),
]
MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "espcn": (networks.Espcn, {"image": OPEN}),
    "denoiser": (networks.Denoiser, {"image": OPEN}),
    "unet": (networks.UNet, {"image": OPEN}),
    "halver": (networks.Halver, {"image": OPEN}),
    "cropper": (networks.Cropper, {"image": OPEN}),
    "reflector": (networks.Reflector, {"image": OPEN}),
    "grey": (lambda: networks.Denoiser(1), {"image": (1, "h", "w")}),
    "rgba": (lambda: networks.Denoiser(4), {"image": (4, "h", "w")}),
    "fixed": (networks.UNet, {"image": (3, 32, 48)}),
    "fixed-x2": (networks.Espcn, {"image": (3, 24, 32)}),
    "inpainter": (networks.Inpainter, {"inputs": MASKED}),
    "fixed-inpainter": (networks.Inpainter, {"image": (3, 32, 32), "mask": (1, 32, 32)}),
    "labelled": (networks.LabelledTranslator, {"inputs": LABELLED}),
    "stylist": (networks.Stylist, {"inputs": STYLED}),
}
TOLERANCE = 2e-5


class Loaded:
    """Each model once, with the module that it was exported from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, str], tuple[nn.Module, Generator]] = {}

    def __call__(self, name: str, backend: str = "auto") -> tuple[nn.Module, Generator]:
        if (name, backend) not in self._made:
            make, inputs = MODELS[name]
            module = networks.seeded(make(), seed=len(name))
            path = self._folder / f"{name}.onnx"
            if not path.exists():
                fastgan.export(module, path, verify=False, **inputs)
            generator = fastgan.load(path, device="cpu", backend=backend)
            self._made[name, backend] = module, generator
        return self._made[name, backend]


def eager(module: nn.Module, *inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        return module(*inputs)


def span(generator: Generator) -> tuple[float, float]:
    port = generator.signature.image
    assert port is not None
    assert port.range is not None
    return port.range


def floats(generator: Generator, *shape: int) -> Tensor:
    low, high = span(generator)
    return torch.rand(shape) * (high - low) + low


def pixels(*shape: int) -> np.ndarray[Any, Any]:
    return drawing.new_numpy().integers(0, 256, shape, dtype=np.uint8)


def as_input(generator: Generator, array: np.ndarray[Any, Any]) -> Tensor:
    """uint8 [H, W, C] as the model's floats [1, C, H, W]."""
    low, high = span(generator)
    planes = torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1)[None]
    return planes / 255 * (high - low) + low


def as_uint8(generator: Generator, images: Tensor) -> Tensor:
    """The model's floats as uint8 [n, H, W, C]."""
    low, high = generator.signature.outputs[0].range
    return ((images - low) / (high - low) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1)


def close_uint8(found: Tensor, expected: Tensor) -> bool:
    """Equal but for values that lie halfway, to float rounding."""
    difference = (found.int() - expected.int()).abs()
    return bool(difference.max() <= 1 and (difference > 0).float().mean() < 1e-3)
