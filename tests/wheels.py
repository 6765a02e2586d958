#!/usr/bin/env python3
"""The sdist builds, and its wheels work where no checkout is.

    tests/wheels.py                          # a wheel for each Python that is here, built and tried
    tests/wheels.py python3.12 --generate    # for one; and, with its dependencies, make images
    tests/wheels.py --installed              # try what this Python has installed

sdist and wheels go to dist/. Each is installed into an empty environment and run from a folder of
its own, by default with NumPy alone: PyTorch's default build is one for CUDA, of gigabytes. That
shows that the native parts work, that the models are there and that the metadata is right.
`--generate` installs `fastgan[cpu]` as constraints.txt has it (`make test-wheel`). Needs uv,
auditwheel and patchelf.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 16 * 10**6  # bytes of a wheel
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
#: Philox4x32-10 of nothing but zeros: Random123's known answer.
KNOWN = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def look() -> None:
    """Try the fastgan that this Python has installed; PyTorch need not be there."""
    import fastgan._native as native
    import numpy as np

    import fastgan
    from fastgan import models

    words = np.zeros((1, 4), np.uint32)
    native.fill(0, words, 0, 0, 0, 0.0, 0.0, 0.0, 1, "")
    assert words[0].tolist() == KNOWN, "the native sampler"
    assert "dcgan-digits" in models.names()
    assert all(models.summary(name) for name in models.names()), "the cards"
    folder = Path(fastgan.__file__).parent
    assert ROOT not in folder.parents, f"{folder}: that is the checkout"
    for part in ("py.typed", "kernels/table.py", "include/fastgan_frames.h", "include/fastgan.h"):
        assert (folder / part).is_file(), part
    facts = importlib.metadata.metadata("fastgan")
    assert facts["License-Expression"] == "Apache-2.0"
    assert set(facts.get_all("License-File")) == {"LICENSE", "NOTICE"}
    print(f"{sys.version.split()[0]}: {len(models.names())} models; native: {native.paths()}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("pythons", nargs="*", help="interpreters (default: all that are found)")
    options.add_argument("--generate", action="store_true", help="with PyTorch, and generate")
    options.add_argument("--installed", action="store_true", help="try this Python's")
    options.add_argument("--dist", type=Path, default=ROOT / "dist", help="where they go")
    chosen = options.parse_args()
    chosen.dist = chosen.dist.resolve()
    if chosen.installed:
        look()
        return
    pythons = chosen.pythons or [path for path in map(found, VERSIONS) if path]
    shutil.rmtree(chosen.dist, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        run("uv", "build", "--quiet", "--sdist", "--out-dir", place / "sdist", ROOT, cwd=place)
        (sdist,) = (place / "sdist").glob("*.tar.gz")
        chosen.dist.mkdir(parents=True)
        shutil.copy(sdist, chosen.dist)
        for index, python in enumerate(pythons):
            here = place / str(index)
            here.mkdir()
            wheel = built(sdist, python, here, chosen.dist)
            tried(wheel, python, here, chosen.generate)


def found(version: str) -> str | None:
    """An interpreter of this version: on PATH, or one of pyenv's."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(kept[-1]) if kept else shutil.which(f"python{version}")


def built(sdist: Path, python: str, here: Path, dist: Path) -> Path:
    """The wheel of the sdist for one Python, named for the oldest platform that it runs on."""
    run("uv", "build", "--quiet", "--wheel", "--python", python, "--out-dir", here, sdist, cwd=here)
    (plain,) = here.glob("*.whl")
    run("auditwheel", "repair", "--wheel-dir", here / "repaired", plain, cwd=here)
    (wheel,) = (here / "repaired").glob("*.whl")
    assert "manylinux" in wheel.name, wheel.name
    assert wheel.stat().st_size <= MOST, f"{wheel.name}: {wheel.stat().st_size} bytes"
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("fastgan/_native.") for name in names), "no native part"
    assert not [name for name in names if name.startswith("fastgan.libs/")], "others' libraries"
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
    return Path(shutil.copy(wheel, dist))


def tried(wheel: Path, python: str, here: Path, generate: bool) -> None:
    """Install the wheel into an empty environment, and run it from an empty folder."""
    own, out = here / "venv" / "bin", here / "empty"
    out.mkdir()
    run("uv", "venv", "--quiet", "--python", python, own.parent, cwd=here)
    if not generate:
        install = ["uv", "pip", "install", "--quiet", "--python", own / "python"]
        run(*install, "--no-deps", wheel, "numpy", cwd=out)
        run(own / "python", "-I", Path(__file__), "--installed", cwd=out)
        return
    # pip knows where this machine takes PyTorch from, and what is at hand of it; uv does not.
    install = [sys.executable, "-m", "pip", "--python", own / "python", "install", "--quiet"]
    install += ["--no-compile", "--constraint", ROOT / "constraints.txt"]
    run(*install, f"fastgan[cpu] @ {wheel.as_uri()}", cwd=out)
    run(own / "python", "-I", Path(__file__), "--installed", cwd=out)
    fastgan = own / "fastgan"
    assert "generate" in run(fastgan, "--help", cwd=out)
    run(fastgan, "generate", "dcgan-digits", "--n", 16, "--outdir", "digits", cwd=out)
    assert len(list((out / "digits").glob("*.png"))) == 16
    assert "dcgan-digits" in run(fastgan, "models", cwd=out)
    run(fastgan, "doctor", cwd=out)


def run(*command: object, cwd: Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run([*map(str, command)], cwd=cwd, text=True, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}")
    if "--installed" in command:
        print(done.stdout, end="", flush=True)
    return done.stdout


if __name__ == "__main__":
    main()
