"""The library as CMake builds and installs it, used from elsewhere by its package or pkg-config."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

import fastgan
from fastgan.bundle.write import write
from fastgan.host import processor
from fastgan.host.native import _native
from fastgan.loading import open_model
from tests.bundle.conftest import ROOT, Bundled
from tests.fuzz.test_bundle import make

CSRC = ROOT / "csrc"

#: What asks which compiler it is.
ASKS = (
    "processor",
    "bundle/crc32",
    "latents/sampling",
    "latents/path_*",
    "runtime/kernels/*",
    "runtime/tiles/*",
)

#: Of a compiler that has vectors as GCC has them, but does not say that it is GCC: clang-cl. The
#: standard library and the system's own headers have to think that it is.
PRELUDE = """
#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>
#include <cpuid.h>
#include <immintrin.h>
#include <math.h>
#undef __GNUC__
"""

#: Prints the code that is chosen, as fastgan_version's program would run it.
CHOSEN = """
#include <cstdio>
#include "latents/sampling_cpu.h"
#include "runtime/kernels/kernels.h"
int main() {
  std::printf("%s %s %s\\n", fastgan::kernels().name, fastgan::bf16_kernels().name,
              fastgan::path_names().front().c_str());
}
"""

#: Whether two libraries make the same bytes of bundles.
COMPARED = """
import sys
from pathlib import Path
import numpy as np
from tests.bundle import capi

libraries = [capi.Library(Path(path)) for path in sys.argv[1:3]]
for path in sys.argv[3:]:
    for format in (capi.FLOAT32, capi.UINT8):
        made = []
        for library in libraries:
            session = library.session(Path(path), threads=1, format=format)
            at, kind = session.program, (np.float32, np.uint8)[format]
            if at.in_channels:
                shape = at.batch, at.in_height, at.in_width, at.in_channels
                drawn = np.random.default_rng(3).random(shape) * (1, 255)[format]
                made.append(session.apply(drawn.astype(kind)))
            else:
                made.append(session.generate(at.batch, seed=7))
            session.close()
        assert made[0].tobytes() == made[1].tobytes(), (path, format)
        assert np.ptp(made[0].astype(np.float64)) > 0, path
"""

#: Layers of at least 16 channels, each between a 3-channel image and one.
TILED: dict[str, Callable[[], nn.Module]] = {
    "strided": lambda: nn.Conv2d(48, 40, 4, 2, 1),
    "transposed": lambda: nn.ConvTranspose2d(64, 24, 4, 2, 1),
    "upscaling": lambda: nn.Sequential(nn.Conv2d(40, 64, 5, padding=2), nn.PixelShuffle(2)),
    "pointwise": lambda: nn.Conv2d(64, 96, 1),
    "dilated": lambda: nn.Conv2d(32, 33, 3, padding=4, dilation=4, padding_mode="reflect"),
}

#: How far the images of two libraries lie apart, beside how far they reach.
APART = """
import sys
from pathlib import Path
import numpy as np
from tests.bundle import capi

vectors, tiles = [capi.Library(Path(path)) for path in sys.argv[1:3]]
for path in sys.argv[3:]:
    made = []
    for library in (vectors, tiles):
        session = library.session(Path(path), threads=2, format=capi.FLOAT32)
        at = session.program
        shape = at.batch, at.in_channels, at.in_height, at.in_width
        drawn = np.random.default_rng(3).integers(0, 256, shape).astype(np.float32)
        made.append(session.apply(drawn))
        session.close()
    print(np.abs(made[0] - made[1]).max() / np.ptp(made[0]))
"""

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


def declared() -> list[str]:
    """The functions of the C face."""
    header = (CSRC / "include/fastgan.h").read_text()
    return re.findall(r"FASTGAN_API [^;]*?\b(fastgan_\w+)\(", header)


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
    assert sorted(names) == sorted(declared())


def built_by(compiler: str, folder: Path, *flags: str, files: Sequence[str] = ASKS) -> list[Path]:
    """Objects of files: of those that ask which compiler it is."""
    sources = sorted(path for name in files for path in CSRC.glob(f"{name}.cpp"))
    folder.mkdir()
    common = ["-std=c++17", "-O0", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden", "-Wall"]
    objects = [folder / f"{source.parent.name}-{source.stem}.o" for source in sources]
    for source, target in zip(sources, objects, strict=True):
        run(compiler, *common, *flags, "-c", source, "-o", target)
    return objects


@pytest.mark.slow
def test_a_compiler_without_vectors_makes_the_same(
    prefix: Path, library_path: Path, bundled: Bundled, tmp_path: Path
) -> None:
    """MSVC, say: plain C++ gives the bytes of the portable code. GCC holds it to the standard."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not on PATH")
    objects = built_by(compiler, tmp_path / "objects", "-DFASTGAN_PLAIN", "-pedantic-errors")
    plain = tmp_path / "plain.so"
    wanted = [f"-Wl,--undefined={name}" for name in declared()]
    archive = prefix / "lib" / "libfastgan.a"
    run(compiler, "-shared", "-pthread", *wanted, *objects, archive, "-o", plain)
    rounded = tmp_path / "bf16.fgb"
    write(open_model("dcgan-digits"), rounded, precision="bf16")
    bundles = [rounded, bundled("cgan-digits"), bundled("superres-x4", size=(16, 24))]
    for name in ("biggan", "sagan", "stylegan2-noise", "cyclegan", "recurrent", "windows"):
        (tmp_path / name).mkdir()
        bundles.append(make(name, tmp_path / name))
    environment = {**os.environ, "FASTGAN_CPU": "portable"}
    command = [sys.executable, "-c", COMPARED, library_path, plain, *bundles]
    run(*command, cwd=ROOT, env=environment)


@pytest.mark.slow
def test_tiles_make_what_vectors_make(prefix: Path, library_path: Path, tmp_path: Path) -> None:
    """AMX, which only few processors have: its instructions as loops, by Intel's manual."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not on PATH")
    if _native.runtime.bf16_path() != "avx512_bf16":
        pytest.skip("no AVX512-BF16 here, which code for AMX has beside its tiles")
    emulated, files = ["-DFASTGAN_EMULATE_TILES", "-O1"], ["runtime/tiles/*"]
    objects = built_by(compiler, tmp_path / "objects", *emulated, files=files)
    tiles, archive = tmp_path / "tiles.so", prefix / "lib" / "libfastgan.a"
    wanted = [f"-Wl,--undefined={name}" for name in declared()]
    run(compiler, "-shared", "-pthread", *wanted, *objects, archive, "-o", tiles)
    torch.manual_seed(0)
    bundles = []
    for whole in (True, False):
        for name, make_layer in TILED.items():
            layer = make_layer()
            channels = next(layer.parameters()).shape[name != "transposed"]
            net = nn.Sequential(nn.Conv2d(3, channels, 1), layer, nn.LazyConv2d(3, 1))
            net(torch.zeros(1, 3, 12, 16))
            for numbers in net.parameters() if whole else ():
                numbers.data = torch.randint(-1, 2, numbers.shape).float()
            file = tmp_path / f"{name}-{whole}.onnx"
            fastgan.export(net, file, image=(3, 12, 16), range=(0.0, 255.0), exporter="torchscript")
            bundles.append(file.with_suffix(".fgb"))
            write(open_model(file), bundles[-1], (1, 2), precision="bf16")
    command = [sys.executable, "-c", APART, library_path, tiles, *bundles]
    apart = [float(line) for line in run(*command, cwd=ROOT).split()]
    exact, rounded = apart[: len(TILED)], apart[len(TILED) :]
    assert exact == [0.0] * len(TILED)  # the sums of whole numbers, in whatever order
    assert all(0 < x < 1e-2 for x in rounded), rounded  # of a layer that did go by tiles


@pytest.mark.slow
def test_vectors_are_not_gccs_alone(prefix: Path, tmp_path: Path) -> None:
    """clang-cl, which does not say that it is GCC, gets the code of each instruction set."""
    compiler = shutil.which("clang++")
    if compiler is None:
        pytest.skip("clang is not installed, its code was not tried: apt install clang")
    prelude, source, program = (tmp_path / name for name in ("all.h", "chosen.cpp", "chosen"))
    prelude.write_text(PRELUDE)
    source.write_text(CHOSEN)
    objects = built_by(compiler, tmp_path / "objects", "-include", str(prelude), "-Werror")
    command = [compiler, "-std=c++17", f"-I{CSRC}", source, *objects, "-pthread"]
    run(*command, prefix / "lib" / "libfastgan.a", "-o", program)
    gcc = [*command[:4], prefix / "lib" / "libfastgan.a", "-pthread", "-o", tmp_path / "gcc"]
    run(*gcc)
    for cap in processor.LEVELS:
        environment = {**os.environ, "FASTGAN_CPU": cap}
        assert run(program, env=environment) == run(tmp_path / "gcc", env=environment)
