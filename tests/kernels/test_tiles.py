"""The choice of tiles, which needs no kernel to run."""

import pytest
import torch

from fastgan.kernels import persistent, tiles, types
from fastgan.kernels.tiles import Product
from fastgan.kernels.types import Capability, Config


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    monkeypatch.setattr(tiles, "INTERPRETED", False)


def layer(batch: int, **changes) -> Product:
    """The 512 -> 256 layer of DCGAN-64."""
    fields = {"rows": 16 * batch, "columns": 256, "channels": 512, "taps": 4, "copies": 4}
    return Product(**{**fields, "descriptors": True, **changes})


@pytest.mark.parametrize("capability", list(tiles.MULTIPROCESSORS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("batch", [1, 3, 64, 1024])
def test_every_problem_has_sane_configs(batch, dtype, capability):
    for columns in (1, 12, 48, 64, 300):
        for channels in (3, 100, 512):
            product = layer(batch, columns=columns, channels=channels, dtype=dtype)
            configs = tiles.configs(product, capability)
            assert len(set(configs)) == len(configs) > 0
            for config in configs:
                assert min(config.block_m, config.block_n, config.block_k) >= 16
                assert 1 <= config.split_k <= tiles.MOST_SPLITS


def test_large_batches_take_large_tiles_and_small_ones_split():
    large = tiles.configs(layer(1024), (9, 0))[0]
    assert large.block_m * large.block_n >= 128 * 128
    assert large.split_k == 1
    small = tiles.configs(layer(1), (9, 0))[0]
    assert small.split_k > 1
    assert small.descriptors


def test_a_small_gpu_is_not_planned_as_its_largest_kin():
    product = layer(16, descriptors=False)
    largest = tiles.configs(product, (8, 9))[0]
    assert largest == tiles.configs(product, Capability((8, 9), 142))[0]
    small = tiles.configs(product, Capability((8, 9), 24))[0]  # an RTX 4060
    assert small.block_m * small.block_n > largest.block_m * largest.block_n
    assert tiles.configs(layer(1, descriptors=False), (8, 9))[0].split_k > 1
    assert tiles.configs(layer(1, descriptors=False), Capability((8, 9), 24))[0].split_k == 1


def test_descriptors_only_where_the_hardware_has_them():
    assert not any(config.descriptors for config in tiles.configs(layer(64), (8, 0)))
    assert all(config.descriptors for config in tiles.configs(layer(64), (10, 0)))


def test_what_bulk_copies_read_again_is_kept_small():
    """They pass the first-level cache by: larger tiles, and for an image layer pointers as well."""
    short = tiles.configs(layer(1024, columns=64, channels=128), (9, 0))[0]
    assert (short.block_m, short.block_n) == (256, 64)
    image = tiles.configs(layer(1024, columns=12, channels=64), (9, 0))
    assert image[0].descriptors
    assert any(not config.descriptors for config in image)


def test_programs_walk_where_there_are_many_tiles():
    for capability in ((9, 0), (10, 0)):
        configs = tiles.configs(layer(1024), capability)
        walking = [config for config in configs if config.persistent]
        assert 0 < len(walking) <= 2
        assert configs[0].persistent == 0
        for config in walking:
            assert config.descriptors
            resident = config.persistent * tiles.MULTIPROCESSORS[capability]
            assert tiles.programs(layer(1024), config) >= 3 * resident
            assert config.with_(persistent=0) in configs
        assert not any(config.persistent for config in tiles.configs(layer(1), capability))
    assert not any(config.persistent for config in tiles.configs(layer(1024), (8, 0)))


def test_a_grid_is_no_larger_than_what_a_device_holds():
    config, device = Config(16, 16, 16), torch.device("cpu")
    assert persistent.programs(config, 7, device) == 7
    assert persistent.programs(config.with_(persistent=2), 7, device) == 2
    assert persistent.programs(config.with_(persistent=2), 1, device) == 1


def test_box_covers_with_the_least_waste():
    assert types.box_of(64, 8, 8, 128) == (2, 8, 8)
    assert types.box_of(1, 32, 32, 128)[0] == 1
    images, rows, columns = types.box_of(5, 7, 3, 64)
    assert images * rows * columns == 64
