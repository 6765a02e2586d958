"""Training images in, sample grids out. Tensors are float32 NCHW in [-1, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from fastgan.errors import ArgumentError
from fastgan.images import files as picture_files
from fastgan.images.formats import SUFFIXES

_HELD_OUT = 5  # every fifth digit is held out


def digits(split: Literal["train", "test"], size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's handwritten digits, enlarged from 8x8 so that a person can read them.

    The split is fixed: 1437 digits to train with, 360 held out.

    Returns:
        The images [N, 1, size, size] and their classes, int64 [N].
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        needed = "scikit-learn, which brings the digits"
        instead = "pip install 'fastgan[train]', or give a folder of images with --data"
        raise ArgumentError("the digits", "no scikit-learn", needed, instead) from error
    found = load_digits()
    held_out = np.arange(len(found.target)) % _HELD_OUT == 0
    chosen = held_out if split == "test" else ~held_out
    pixels = np.rint(found.images[chosen] * (255 / 16)).astype(np.uint8)  # 0..16 as it comes
    return enlarged(pixels, size), torch.from_numpy(found.target[chosen]).long()


def enlarged(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], size: int) -> torch.Tensor:
    """Grey uint8 [N, H, W] to [N, 1, size, size] in [-1, 1]."""
    larger = (Image.fromarray(p).resize((size, size), Image.Resampling.BICUBIC) for p in pixels)
    return from_bytes(np.stack([np.asarray(image) for image in larger])[..., None])


def folder(path: Path, size: int = 64, channels: int = 3) -> torch.Tensor:
    """Every image in a folder and the folders in it, cropped to its central square and resized.

    Raises:
        ArgumentError: there is no such folder, no image in it, or one that cannot be read.
    """
    images = []
    for file in files(path):
        image = read(file).convert("L" if channels == 1 else "RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        small = image.resize((size, size), Image.Resampling.LANCZOS, box)
        images.append(np.asarray(small).reshape(size, size, channels))
    return from_bytes(np.stack(images))


def files(path: Path) -> list[Path]:
    """Every image file in a folder and the folders in it, by name.

    Raises:
        ArgumentError: there is no such folder, or no image in it.
    """
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        what = "no image" if path.is_dir() else "no folder"
        raise ArgumentError(str(path), what, "a folder of " + ", ".join(SUFFIXES))
    return found


def read(file: Path) -> Image.Image:
    """The image of a file, upright and in colour, 8 bits a channel.

    Raises:
        ArgumentError: it can't be read.
    """
    try:
        pixels = picture_files.read(file).pixels
    except ArgumentError as error:
        instead = error.instead or "remove the file"
        raise ArgumentError(error.where, error.found, error.needed, instead) from error
    values = pixels.values if pixels.peak == 255 else pixels.values // 257  # of 16 bits
    channels = values[0].to(torch.uint8).expand(3, -1, -1)
    return Image.fromarray(channels.permute(1, 2, 0).contiguous().numpy())


def grid(images: torch.Tensor, columns: int = 10, scale: int = 1, gap: int = 2) -> Image.Image:
    """One picture of [N, C, H, W] images in [-1, 1], row by row, enlarged by a whole number."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    count, channels, height, width = pixels.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), "u1")
    for index, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
        row, column = divmod(index, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def in_bytes(images: torch.Tensor) -> torch.Tensor:
    """Images in [-1, 1] as a file will hold them."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)


def from_bytes(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> torch.Tensor:
    """uint8 [N, H, W, C] to [N, C, H, W] in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()
