"""The models that the benchmarks run on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastgan import export, models
from fastgan.measure.bench.peers import ModuleMaker
from tests.networks import dcgan


@dataclass(frozen=True)
class Model:
    """A model to time.

    Attributes:
        source: what `fastgan.load` takes.
        module: for PyTorch's own ways, the module that the file was exported from and what that
            is; None where only the file is there, whose nodes are then run as PyTorch ops.
    """

    source: str
    module: tuple[ModuleMaker, str] | None = None


@cache
def dcgan64() -> Model:
    """The DCGAN of 64x64 in colour: nz 100, ngf 64, random weights and batch norm statistics."""
    module = dcgan(latent=100, width=64, channels=3, seed=0)
    path = Path(tempfile.mkdtemp(prefix="fastgan-bench-")) / "dcgan64.onnx"
    export(module, path, latent=(100, 1, 1), verify=False)
    return Model(str(path), (lambda n: module, "the nn.Module that was exported"))


def digits() -> Model:
    """The trained model that ships with the package.

    Raises:
        ArgumentError: it is not there.
    """
    models.path("dcgan-digits")
    return Model("dcgan-digits")


MODELS: dict[str, Callable[[], Model]] = {"dcgan64": dcgan64, "dcgan-digits": digits}
