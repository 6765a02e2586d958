"""Sessions on several threads under the thread sanitizer, by FASTGAN_TSAN=1: it takes minutes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fuzz.test_bundle import make

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"

#: Images are the seed's in each, so that no input is to be given.
FAMILIES = ("sagan", "stylegan2-scaled", "keras", "wgan-gp")
ROUNDS = 20

#: What is Python's, and not the library's.
OTHERS = {"bindings.cpp", "frames.cpp", "results.cpp"}


@pytest.mark.skipif(not os.environ.get("FASTGAN_TSAN"), reason="minutes: FASTGAN_TSAN=1")
def test_no_thread_reads_what_another_writes(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ on PATH")
    program = built(compiler, tmp_path)
    bundles = [str(make(name, folder(tmp_path / name))) for name in FAMILIES]
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1 exitcode=66"}
    for cap in ("portable", "avx2", ""):
        environment["FASTGAN_CPU"] = cap
        done = subprocess.run(
            [program, str(ROUNDS), *bundles],
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, (cap, done.stdout, done.stderr)
        assert len(done.stdout.splitlines()) == len(bundles)


def built(compiler: str, target: Path) -> Path:
    """The library and `threads.c` as one program, all of it watched."""
    flags = ["-O1", "-g", "-fsanitize=thread", "-ffp-contract=off", f"-I{CSRC / 'include'}"]
    sources = [
        source
        for source in sorted(CSRC.rglob("*.cpp"))
        if source.name not in OTHERS and not source.name.endswith("_bindings.cpp")
    ]
    objects = []
    for source in (Path(__file__).with_name("threads.c"), *sources):
        made = target / ("_".join(source.parts[-2:]) + ".o")
        plain = source.suffix == ".c"
        command = ["gcc" if plain else compiler, "-std=c11" if plain else "-std=c++17", *flags]
        if not plain:
            command += ["-DFASTGAN_BUILDING", "-Wno-maybe-uninitialized", "-Wno-uninitialized"]
        subprocess.run([*command, "-c", str(source), "-o", str(made)], check=True)
        objects.append(str(made))
    program = target / "threads"
    subprocess.run(
        [compiler, "-fsanitize=thread", *objects, "-pthread", "-o", str(program)], check=True
    )
    return program


def folder(path: Path) -> Path:
    path.mkdir()
    return path
