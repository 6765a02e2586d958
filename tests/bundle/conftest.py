"""What the bundle's tests share: bundles, made once each, and the library that was built."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import fastgan
from fastgan.bundle.write import write
from fastgan.loading import open_model
from tests.bundle import capi

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "csrc" / "include"

Bundled = Callable[..., Path]
Build = Callable[..., Path]


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Bundled:
    """The bundle of a model, for batches and sizes."""
    made: dict[tuple[object, ...], Path] = {}

    def make(
        source: str | Path, batches: tuple[int, ...] = (1, 4), size: tuple[int, int] | None = None
    ) -> Path:
        key = (source, batches, size)
        if key not in made:
            path = tmp_path_factory.mktemp("bundle") / "model.fgb"
            write(open_model(source), path, batches, [size] if size else [])
            made[key] = path
        return made[key]

    return make


@pytest.fixture(scope="session")
def library_path() -> Path:
    path = capi.library_path()
    if path is None:
        pytest.skip("libfastgan.so.1 was not built: python setup.py build_ext --inplace")
    return path


@pytest.fixture(scope="session")
def library(library_path: Path) -> capi.Library:
    return capi.Library(library_path)


@pytest.fixture(scope="session")
def compile_with(library_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Make a program of a C or C++ file that uses the library."""

    def build(source: Path, *flags: str) -> Path:
        plus = source.suffix == ".cpp"
        compiler = shutil.which("g++" if plus else "gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("no C compiler: neither gcc nor clang is on PATH")
        target = tmp_path_factory.mktemp("program") / source.stem
        command = [compiler, "-std=c++17" if plus else "-std=c11", "-O1", "-Wall", "-Wextra"]
        command += ["-Wpedantic", "-Werror", f"-I{INCLUDE}", str(source)]
        command += [str(library_path), f"-Wl,-rpath,{library_path.parent}", *flags]
        made = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True)
        if "cannot find -l" in made.stderr:
            pytest.skip(f"the compiler lacks what {' '.join(flags)} needs")
        assert made.returncode == 0, made.stderr
        return target

    return build


@pytest.fixture
def generated() -> Callable[..., torch.Tensor]:
    """What the package makes of the ONNX file, on as many threads as the library's sessions."""

    def make(source: str | Path, n: int, **options: object) -> torch.Tensor:
        return fastgan.load(source, device="cpu").generate(n, **options)

    return make
