"""Shared set-up: how Triton runs, and the models that tests are tried on.

Triton decides between compiling and interpreting when it is first imported, so the choice is made
here, before any test module: without a GPU the kernels are interpreted on the CPU.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Tests start processes by the hundred: in an environment that keeps no bytecode each of them would
# compile PyTorch and the rest anew, which doubles what it takes to load a model.
if sys.dont_write_bytecode:
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import hypothesis
import numpy as np
import pytest
import torch
from torch.onnx._internal._lazy_import import onnxscript_apis

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from tests.drawing import FRESH, new_seed
from tests.networks import dcgan

# Hypothesis' examples follow the same rule as `tests.drawing`.
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.register_profile("fresh")
hypothesis.settings.load_profile("fixed" if FRESH == "0" else "fresh")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test draws from a seed of its own (`tests.drawing`)."""
    seed = new_seed()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.fixture(autouse=True, scope="session")
def _translations_are_read_once() -> Iterator[None]:
    """PyTorch's exporter parses the source of its 500 translations anew at every export: a third of
    what exporting a small network takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxscript_apis, "get_torchlib_ops", cache(onnxscript_apis.get_torchlib_ops))
        yield


@pytest.fixture(scope="session")
def dcgan64() -> torch.nn.Module:
    """The DCGAN of the promises: nz 100, ngf 64, 64x64, random batch norm statistics."""
    return dcgan(latent=100, width=64, channels=3, seed=0)


@pytest.fixture(scope="session")
def dcgan64_path(dcgan64: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, exported with its signature."""
    from fastgan import export

    path = tmp_path_factory.mktemp("models") / "dcgan64.onnx"
    export(dcgan64, path, latent=(100, 1, 1))
    return path


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tiny cases: torch's threads would take longer to wake than to compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
