"""The sizes that image-to-image models take, held to eager PyTorch on images padded by NumPy."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fastgan
from fastgan.generator import Generator
from tests import size_networks as networks
from tests.image_networks import seeded

TOLERANCE = 2e-5
#: Sizes that are a multiple of nothing.
AWKWARD = ((100, 150), (97, 61), (5, 2))

#: The network, and for height and width the size traced, the multiple, and the scale.
Case = tuple[Callable[[], nn.Module], tuple[int, int], tuple[int, int], tuple[Fraction, Fraction]]


def _case(
    make: Callable[[], nn.Module],
    traced: int | tuple[int, int],
    multiple: int | tuple[int, int],
    scale: float | tuple[float, float] = 1,
) -> Case:
    def pair(value: Any) -> tuple[Any, Any]:
        return value if isinstance(value, tuple) else (value, value)

    vertical, horizontal = (Fraction(by).limit_denominator(64) for by in pair(scale))
    return make, pair(traced), pair(multiple), (vertical, horizontal)


WINDOWS = (3, 5, 7, 12, 14, 24)
CASES: dict[str, Case] = {
    **{f"patches of {k}": _case(lambda k=k: networks.Patches(k), 6 * k, k) for k in (3, 14)},
    "patches of 3 x 5": _case(lambda: networks.Patches((3, 5)), 30, (3, 5)),
    **{
        f"{n} halvings": _case(lambda n=n: networks.Halvings(n), 256, 2**n)
        for n in (1, 2, 3, 6, 7, 8)
    },
    "4 halvings, traced at 48": _case(lambda: networks.Halvings(4), 48, 16),
    "5 halvings, traced at 96": _case(lambda: networks.Halvings(5), 96, 32),
    **{f"unshuffled by {k}": _case(lambda k=k: networks.Unshuffled(k), 2 * k, k) for k in WINDOWS},
    **{f"windows of {k}": _case(lambda k=k: networks.Windows(k), 2 * k, k) for k in WINDOWS},
    "windows of 8 at a quarter": _case(lambda: networks.Windows(8, halvings=2), 64, 32),
    "windows of 7 at an eighth": _case(lambda: networks.Windows(7, halvings=3), 56, 56),
    "windows of 6 and 4": _case(lambda: networks.Windows(6, 4), 48, 12),
    "windows of 5 and 3, traced at 60": _case(lambda: networks.Windows(5, 3), 60, 15),
    "unshuffled by 3 of windows of 5": _case(
        lambda: nn.Sequential(networks.Unshuffled(3), networks.Windows(5)), 45, 15
    ),
    "shifted windows of 7": _case(lambda: networks.Shifted(7), 28, 7),
    "shifted windows of 8, x4": _case(lambda: networks.Shifted(8, 4), 32, 8, 4),
    "windows of 7, x2": _case(lambda: networks.Windows(7, scale=2), 28, 7, 2),
    "windows of 6, x3": _case(lambda: networks.Windows(6, scale=3), 24, 6, 3),
    "windows of 12, x4": _case(lambda: networks.Windows(12, scale=4), 48, 12, 4),
    "half": _case(lambda: nn.Sequential(nn.Conv2d(3, 3, 4, 2, 1), nn.Tanh()), 48, 2, 0.5),
    "a third": _case(lambda: nn.Sequential(nn.AvgPool2d(3), nn.Tanh()), 48, 3, 1 / 3),
    "stretched": _case(networks.Stretched, 48, (1, 2), (2, 0.5)),
}


def load(network: nn.Module, height: int, width: int, **options: str) -> Generator:
    """The network as PyTorch's tracing exporter writes it, sizes open."""
    file, axes = io.BytesIO(), {0: "n", 2: "h", 3: "w"}
    torch.onnx.export(
        network,
        (torch.rand(1, 3, height, width),),
        file,
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": axes, "y": axes},
    )
    return fastgan.load(file.getvalue(), device="cpu", **options)


def eager(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(images)


def padded(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Reflected at the bottom and the right up to a size."""
    by = [(0, size[0] - images.shape[2]), (0, size[1] - images.shape[3])]
    return torch.from_numpy(np.pad(images.numpy(), [(0, 0), (0, 0), *by], mode="reflect"))


def up(size: tuple[int, int], multiple: tuple[int, int]) -> tuple[int, int]:
    height, width = (-(-side // by) * by for side, by in zip(size, multiple, strict=True))
    return height, width


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_images_are_padded_to_what_the_model_takes(name: str) -> None:
    make, traced, multiple, scale = CASES[name]
    network = seeded(make(), seed=len(name))
    generator = load(network, *traced)
    assert generator.backend == "torch"
    assert generator.scale == tuple(map(float, scale))
    for size in AWKWARD:
        images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(size[0]))
        result = generator(images)
        height, width = (math.ceil(side * by) for side, by in zip(size, scale, strict=True))
        expected = eager(network, padded(images, up(size, multiple)))[:, :, :height, :width]
        assert result.shape == expected.shape
        assert (result - expected).abs().max() <= TOLERANCE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [(100, 150), (97, 61), (5, 9)])
def test_a_graph_that_pads_by_itself_takes_any_size(size: tuple[int, int]) -> None:
    network = seeded(networks.PadsItself(3), seed=1)
    generator = load(network, 48, 48)
    assert (generator.backend, generator.scale) == ("torch", (3, 3))
    images = torch.rand(1, 3, *size)
    assert (generator(images) - eager(network, images)).abs().max() <= TOLERANCE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [(100, 150), (97, 61), (21, 34)])
def test_a_result_without_its_border_comes_as_it_is(size: tuple[int, int]) -> None:
    network = seeded(networks.Unpadded(), seed=1)
    generator = load(network, 48, 48)
    assert generator.scale is None
    images = torch.rand(2, 3, *size)
    assert eager(network, images).shape[2:] == tuple(2 * side - 12 for side in size)
    assert (generator(images) - eager(network, images)).abs().max() <= TOLERANCE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [(38, 54), (100, 150), (97, 61)])
def test_an_unpadded_unet_gets_a_size_that_its_skips_fit(size: tuple[int, int]) -> None:
    """Its sizes are two more than multiples of four, and its results 20 pixels smaller."""
    network = seeded(networks.Valid(), seed=1)
    generator = load(network, 38, 54)
    assert (generator.backend, generator.scale) == ("torch", None)
    images = torch.rand(1, 3, *size)
    height, width = up((size[0] - 2, size[1] - 2), (4, 4))
    expected = eager(network, padded(images, (height + 2, width + 2)))
    expected = expected[:, :, : size[0] - 20, : size[1] - 20]
    for format, found in (
        ("float32", generator(images)),
        ("uint8", generator(images, format="uint8").permute(0, 3, 1, 2)),
    ):
        assert found.shape == expected.shape, format
    assert (generator(images) - expected).abs().max() <= TOLERANCE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tile", [None, 24])
@pytest.mark.parametrize("size", [(101, 47), (100, 150), (2, 1)])
def test_odd_sizes_where_even_ones_lose_a_pixel(size: tuple[int, int], tile: int | None) -> None:
    network = seeded(networks.OddSizes(), seed=1)
    generator = load(network, 65, 33)
    assert (generator.backend, generator.scale) == ("torch", (1, 1))
    images = torch.rand(1, 3, *size)
    whole = tuple(max(3, side + 1 - side % 2) for side in size)
    expected = eager(network, padded(images, whole))[:, :, : size[0], : size[1]]
    assert (generator(images, tile=tile) - expected).abs().max() <= TOLERANCE


FIXED: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], int]] = {
    "windows at 48": (lambda: networks.Traced(48, 48), (48, 48), 1),
    "windows at 96": (lambda: networks.Traced(96, 96, 12), (96, 96), 1),
    "windows at 48 x 96": (lambda: networks.Traced(48, 96), (48, 96), 1),
    "positions at 48": (lambda: networks.Positions(48, 48), (48, 48), 1),
    "positions at 256 x 320": (lambda: networks.Positions(256, 320), (256, 320), 1),
    "cropped at 48": (lambda: networks.Cropped(48, 48), (48, 48), 2),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FIXED)
def test_the_size_of_a_trace_is_the_only_one(name: str) -> None:
    make, traced, scale = FIXED[name]
    network = seeded(make(), seed=len(name))
    generator = load(network, *traced)
    assert (generator.backend, generator.scale) == ("torch", (scale, scale))
    exact = torch.rand(1, 3, *traced)
    assert (generator(exact) - eager(network, exact)).abs().max() <= TOLERANCE
    assert generator(torch.rand(1, 3, 100, 150)).shape[2:] == (100 * scale, 150 * scale)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [(1, 1), (3, 100), (5, 6), (7, 2), (97, 61)])
def test_small_images_are_padded_to_the_smallest_size(size: tuple[int, int]) -> None:
    network = seeded(networks.Reflected(outer=3, inner=2), seed=1)
    generator = load(network, 48, 48)
    assert generator.backend == "torch"
    images = torch.rand(1, 3, *size)
    least = tuple(max(6, side) for side in up(size, (2, 2)))  # half of that is more than 2
    expected = eager(network, padded(images, least))[:, :, : size[0], : size[1]]
    assert (generator(images) - expected).abs().max() <= TOLERANCE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [lambda: networks.Halvings(7), lambda: networks.Windows(7)])
def test_onnx_runtime_gets_the_same_sizes(make: Callable[[], nn.Module]) -> None:
    network = seeded(make(), seed=1)
    generator = load(network, 896, 896, backend="ort")
    images = torch.rand(1, 3, 100, 150)
    multiple = (128, 128) if isinstance(network, networks.Halvings) else (7, 7)
    expected = eager(network, padded(images, up((100, 150), multiple)))[:, :, :100, :150]
    assert (generator(images) - expected).abs().max() <= TOLERANCE


@pytest.mark.filterwarnings("ignore")
def test_tiles_of_windows_begin_where_windows_do() -> None:
    """Windows apart from each other: a tile then sees what the whole image does."""
    network = seeded(networks.Unshuffled(7), seed=1)
    generator = load(network, 28, 28)
    images = torch.rand(1, 3, 131, 77)
    assert (generator(images, tile=30, tile_pad=0) - generator(images)).abs().max() <= TOLERANCE
