"""Every preset of every recipe starts: data, networks and a first step fit each other."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import get_args

import pytest
import torch

from fastgan.cli.train import Recipe

pytest.importorskip("skimage", reason="photographs and textures come with scikit-image")


@pytest.mark.parametrize("name", get_args(Recipe))
def test_the_full_preset_starts(name):
    module = import_module(f"fastgan.recipes.{name.replace('-', '_')}")
    settings = replace(module.SETTINGS["full"], batch=2)
    recipe = module.build(settings, module.data(settings, None))
    losses = recipe.step(torch.Generator().manual_seed(0))
    assert losses
    assert all(torch.tensor(loss).isfinite() for loss in losses.values())
