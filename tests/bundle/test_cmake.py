"""The library as CMake builds and installs it, used from elsewhere by its package or pkg-config."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.bundle.conftest import ROOT, Bundled

CSRC = ROOT / "csrc"

#: Without C++: what the static library needs of it, its package says.
PROJECT = """
cmake_minimum_required(VERSION 3.18)
project(game C)
find_package(fastgan 1 REQUIRED)
foreach(kind fastgan static)
  add_executable(by_${kind} misuse.c)
  target_link_libraries(by_${kind} PRIVATE fastgan::${kind})
endforeach()
"""


def run(*command: object, **options: object) -> str:
    made = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert made.returncode == 0, (made.stdout[-4000:], made.stderr[-4000:])
    return made.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it was installed, which is not where it was configured for."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed: apt install cmake")
    folder = tmp_path_factory.mktemp("cmake")
    built, prefix = folder / "built", folder / "prefix"
    # Half the time of -O3: what is built here is not measured.
    flags = ["-DFASTGAN_OPTIMISE=-O0", "-DCMAKE_INSTALL_LIBDIR=lib"]
    run("cmake", "-S", CSRC, "-B", built, "-DCMAKE_INSTALL_PREFIX=/nowhere", *flags)
    run("cmake", "--build", built, "--parallel", 2)
    run("ctest", "--output-on-failure", cwd=built)
    run("cmake", "--install", built, "--prefix", prefix)
    return prefix


@pytest.mark.slow
def test_a_project_finds_the_package(prefix: Path, tmp_path: Path, bundled: Bundled) -> None:
    shutil.copy(CSRC / "capi" / "misuse.c", tmp_path)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    run("cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path / "b")
    for kind in ("fastgan", "static"):
        run(tmp_path / "b" / f"by_{kind}", bundled("dcgan-digits"))


@pytest.mark.slow
def test_pkg_config_finds_it(prefix: Path, tmp_path: Path, bundled: Bundled) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed: apt install pkg-config")
    library = prefix / "lib"
    found = {**os.environ, "PKG_CONFIG_PATH": str(library / "pkgconfig")}
    tried = 0
    for compiler in filter(shutil.which, ("gcc", "clang")):
        for kind in ([], ["--static"]):
            flags = run("pkg-config", *kind, "--cflags", "--libs", "fastgan", env=found).split()
            target = tmp_path / f"{compiler}{len(kind)}"
            own = ["-static"] if kind else [f"-Wl,-rpath,{library}"]
            run(compiler, CSRC / "capi" / "misuse.c", *flags, *own, "-o", target)
            run(target, bundled("dcgan-digits"))
            tried += 1
    if tried == 0:
        pytest.skip("no C compiler: neither gcc nor clang is on PATH")


@pytest.mark.slow
def test_it_shows_what_the_header_declares(prefix: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed: apt install binutils")
    shared = next((prefix / "lib").glob("libfastgan.so.1.*"))
    names = re.findall(r" T (\w+)", run("nm", "-D", "--defined-only", shared))
    declared = re.findall(
        r"FASTGAN_API [^;]*?\b(fastgan_\w+)\(", (CSRC / "include/fastgan.h").read_text()
    )
    assert sorted(names) == sorted(declared)
