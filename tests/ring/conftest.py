"""What the ring's tests share: a name of their own, and the C programs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ring.names import ring_name

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "csrc" / "include"
FLAGS = ["-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"]

Compile = Callable[..., Path]


@pytest.fixture
def name() -> Iterator[str]:
    with ring_name() as made:
        yield made


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Make a program of a C file; each set of flags once."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler: neither gcc nor clang is on PATH")
    made: dict[tuple[str, ...], Path] = {}

    def build(source: Path, *flags: str, include: Path = INCLUDE, standard: str = "c11") -> Path:
        key = (str(source), str(include), standard, *flags)
        if key not in made:
            target = tmp_path_factory.mktemp("c") / source.stem
            command = [compiler, f"-std={standard}", *FLAGS, f"-I{include}", str(source), *flags]
            result = subprocess.run(
                [*command, "-o", str(target)], capture_output=True, text=True, check=False
            )
            if "cannot find -l" in result.stderr or "cannot find /usr" in result.stderr:
                pytest.skip(f"the compiler lacks what {' '.join(flags)} needs")
            assert result.returncode == 0, result.stderr
            made[key] = target
        return made[key]

    return build
