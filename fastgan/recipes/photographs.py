"""Real images to train with that come with ordinary packages, and patches of them.

An image is either trained on or held out, whole: no patch of a held-out image is ever trained on.
A texture is one image; there the lower quarter is held out.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from fastgan.errors import ArgumentError
from fastgan.recipes import images

Split = Literal["train", "test"]

#: Photographs by split, each of a stated licence (NOTICE): those of scikit-learn, and those that
#: scikit-image's own package holds.
_PHOTOGRAPHS = {
    "train": ("china", "flower", "astronaut", "rocket", "camera"),
    "test": ("coffee", "chelsea"),
}
#: What judges of evaluation learn, and what shipped models learned but superres-x4 and -sharp: one
#: more, for which scikit-image states no licence.
JUDGES = ("china", "flower", "astronaut", "rocket", "motorcycle_left", "camera")
_SKLEARN = ("china", "flower")
TEXTURES = ("grass", "gravel", "brick")
_HELD_OUT = 5  # of a folder, every fifth image


@dataclass(frozen=True)
class Photographs:
    """Images of any size to cut patches from.

    Attributes:
        pictures: uint8 [C, H, W] each.
        name: which images these are, for the checkpoint.
    """

    pictures: tuple[torch.Tensor, ...]
    name: str

    def __str__(self) -> str:
        checksum = 0
        for picture in self.pictures:
            checksum = zlib.crc32(picture.contiguous().numpy().data, checksum)
        return f"{self.name}, {len(self.pictures)} images, checksum {checksum:08x}"

    def patches(
        self, count: int, size: int, draw: torch.Generator, *, turn: bool = True
    ) -> torch.Tensor:
        """Random square patches, [count, C, size, size] in [-1, 1]; with `turn`, also mirrored.

        Large images are drawn from more often, by their number of pixels.
        """
        areas = torch.tensor([float(p.shape[1] * p.shape[2]) for p in self.pictures])
        chosen = torch.multinomial(areas, count, replacement=True, generator=draw)
        cut = []
        for index in chosen.tolist():
            picture = self.pictures[index]
            top, left = (
                int(torch.randint(length - size + 1, (), generator=draw))
                for length in picture.shape[1:]
            )
            patch = picture[:, top : top + size, left : left + size]
            if turn and int(torch.randint(2, (), generator=draw)):
                patch = patch.flip(2)
            cut.append(patch)
        return to_float(torch.stack(cut))


def varied(patches: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Square patches [N, C, size, size] in [-1, 1], as other photographs might have them.

    Turned and mirrored in one of eight ways; half of them of another contrast and brightness.
    """
    found = []
    for patch, (upside, across, paler, contrast, light) in zip(
        patches, torch.rand(len(patches), 5, generator=draw).tolist(), strict=True
    ):
        turned = patch.flip(1) if upside < 0.5 else patch
        turned = turned.transpose(1, 2) if across < 0.5 else turned
        if paler < 0.5:
            turned = ((0.6 + 0.6 * contrast) * turned + 0.5 * light - 0.25).clamp(-1, 1)
        found.append(turned)
    return torch.stack(found)


def to_float(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 to [-1, 1]."""
    return pixels.float().div(127.5).sub(1)


def photographs(split: Split, folder: Path | None = None, *, least: int = 64) -> Photographs:
    """Colour photographs, or the images in a folder: of those, every fifth is held out.

    Args:
        least: the least height and width; what is smaller is enlarged.

    Raises:
        ArgumentError: the folder holds too few images, or one that can't be read.
    """
    if folder is not None:
        files = images.files(folder)
        if len(files) < 2:
            found = f"{len(files)} image"
            raise ArgumentError(str(folder), found, "at least two: one is held out")
        held_out = set(files[::_HELD_OUT]) if len(files) > 2 else {files[0]}
        chosen = [file for file in files if (file in held_out) == (split == "test")]
        opened = [images.read(file) for file in chosen]
        return Photographs(tuple(_tensor(image, least) for image in opened), str(folder.name))
    return named(_PHOTOGRAPHS[split], least=least, halves=split == "train")


def named(names: Sequence[str], *, least: int = 64, halves: bool = True) -> Photographs:
    """Colour photographs that packages hold, by name.

    Args:
        least: as for `photographs`.
        halves: the same again at half the size: sharper, and of another scale.
    """
    pictures = tuple(_tensor(packaged(name), least) for name in names)
    if halves:
        pictures += tuple(_half(picture) for picture in pictures)
    return Photographs(pictures, f"photographs ({', '.join(names)})")


def texture(name: str, split: Split, shrink: int = 2) -> Photographs:
    """One of the grey textures of 512x512, made smaller by `shrink`; its lower quarter is held out.

    Raises:
        ArgumentError: there is no texture of this name.
    """
    if name not in TEXTURES:
        raise ArgumentError("texture", repr(name), ", ".join(TEXTURES))
    return Photographs((_part(packaged(name), split, shrink),), name)


def histology(split: Split, shrink: int = 1) -> Photographs:
    """The stained tissue of scikit-image, in colour; its lower quarter is held out."""
    whole = packaged("ihc").convert("RGB")
    return Photographs((_part(whole, split, shrink),), "histology")


def _part(whole: Image.Image, split: Split, shrink: int) -> torch.Tensor:
    """Three quarters of an image, from above, or the quarter below them; `shrink` times smaller."""
    if not 1 <= shrink <= 8:
        raise ArgumentError("shrink", str(shrink), "1 to 8")
    small = whole.resize((whole.width // shrink, whole.height // shrink), Image.Resampling.BOX)
    pixels = _tensor(small, 1)
    border = pixels.shape[1] * 3 // 4
    return pixels[:, :border] if split == "train" else pixels[:, border:]


def collection(name: str, split: Split, least: int, shrink: int = 1) -> Photographs:
    """A collection by its name, "photographs", "histology" or a texture's, or a folder; in colour.

    Args:
        least: the least height and width; photographs and the images in a folder that are smaller
            are enlarged.
        shrink: how many times smaller histology is taken, so that there is more of it in a patch.

    Raises:
        ArgumentError: there is neither a collection nor a folder of that name, or it is of one
            image that is smaller.
    """
    if name == "photographs":
        return photographs(split, least=least)
    if name == "histology":
        return large_enough(histology(split, shrink), least)
    if name in TEXTURES:
        grey = large_enough(texture(name, split), least)
        return Photographs(tuple(p.expand(3, -1, -1) for p in grey.pictures), grey.name)
    return photographs(split, Path(name), least=least)


def large_enough(found: Photographs, least: int) -> Photographs:
    """What patches of `least` pixels can be cut from: itself.

    Raises:
        ArgumentError: an image is smaller.
    """
    side = min(min(picture.shape[1:]) for picture in found.pictures)
    if side < least:
        needed = f"at most {side}: no more of {found.name} is there"
        raise ArgumentError("size", str(least), needed, "a folder of larger images with --data")
    return found


def faces(split: Split, size: int = 32, *, without: bool = False) -> torch.Tensor:
    """100 grey faces of 25x25, enlarged, [N, 1, size, size] in [-1, 1]; every fifth is held out.

    Those of Labeled Faces in the Wild (Huang et al., 2007) that scikit-image brings. With
    `without`, its 100 patches that show no face.
    """
    every = np.load(_skimage_folder() / "lfw_subset.npy")  # faces first, then what is none
    found = every[100:] if without else every[:100]
    held_out = np.arange(len(found)) % _HELD_OUT == 0
    chosen = found[held_out if split == "test" else ~held_out]
    bytes_ = np.rint(chosen * 255).clip(0, 255).astype(np.uint8)
    return images.enlarged(bytes_, size)


def subject(name: str, split: Split, size: int) -> torch.Tensor:
    """Digits or faces, [N, 1, size, size] in [-1, 1]; faces to train with also mirrored.

    Raises:
        ArgumentError: the subject is neither.
    """
    if name == "digits":
        return images.digits(split, size)[0]
    if name != "faces":
        raise ArgumentError("subject", repr(name), "digits or faces")
    found = faces(split, size)
    return torch.cat([found, found.flip(3)]) if split == "train" else found


def pixels(image: Image.Image) -> torch.Tensor:
    """uint8 [C, H, W]."""
    return _tensor(image, 1)


def packaged(name: str) -> Image.Image:
    """An image that a package holds, as it is: "china", "astronaut", "grass"...

    Raises:
        ArgumentError: the package that holds it is missing.
    """
    if name in _SKLEARN:
        try:
            from sklearn.datasets import load_sample_image
        except ImportError as error:
            raise _missing("scikit-learn") from error
        return Image.fromarray(load_sample_image(f"{name}.jpg"))
    suffix = ".jpg" if name == "rocket" else ".png"
    with Image.open(_skimage_folder() / f"{name}{suffix}") as opened:
        opened.load()
        return opened.copy()


def _skimage_folder() -> Path:
    try:
        import skimage
    except ImportError as error:
        raise _missing("scikit-image") from error
    return Path(skimage.__file__).parent / "data"


def _missing(package: str) -> ArgumentError:
    instead = "pip install 'fastgan[train]', or give a folder of images with --data"
    return ArgumentError(
        "the training images", f"no {package}", f"{package}, whose they are", instead
    )


def _tensor(image: Image.Image, least: int) -> torch.Tensor:
    """uint8 [C, H, W]: grey stays grey only where nothing else is mixed with it."""
    if least > 1:
        image = image.convert("RGB")
        if min(image.size) < least:
            factor = least / min(image.size)
            size = (round(image.width * factor) + 1, round(image.height * factor) + 1)
            image = image.resize(size, Image.Resampling.BICUBIC)
    pixels = np.array(image)
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1).contiguous()


def _half(picture: torch.Tensor) -> torch.Tensor:
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)
    return _tensor(half, 1)
