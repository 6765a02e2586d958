"""Bundles in C: from the start of a process to its first picture, and 60 frames a second.

    python -m benchmarks.bundle --seconds 300 --busy 1 --json bundle.json

What is promised: DCGAN-64's first picture, as a PNG file, within 60 ms of the start of the process,
and dcgan-digits' within 6; and at 60 frames a second, beside a busy process, the 99th percentile of
the time until a frame is there within the frame. Needs gcc and libpng's headers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import busy
from benchmarks.models import MODELS
from fastgan.bundle.write import write
from fastgan.loading import open_model
from fastgan.measure import machine
from tests.bundle.capi import library_path

ROOT = Path(__file__).resolve().parents[2]
FPS = 60
#: Milliseconds to the first picture.
PROMISED = {"dcgan64": 60.0, "dcgan-digits": 6.0}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bundle", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--starts", type=int, default=31, help="processes that are started")
    parser.add_argument("--seconds", type=float, default=300.0, help="of frames for each model")
    parser.add_argument("--busy", type=int, default=1, help="processes beside the frames")
    parser.add_argument("--threads", type=int, default=1, help="of the frames")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true", help="exit code 1 if a promise is broken")
    options = parser.parse_args()

    found: dict[str, Any] = {}
    kept = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = compiled(ROOT / "examples" / "seed_to_png.c", folder, png_flags())
        frames = compiled(Path(__file__).with_name("frames.c"), folder, [])
        for model in PROMISED:
            bundle = folder / f"{model}.fgb"
            write(open_model(MODELS[model]().source), bundle)
            starts = [first(picture, bundle, folder / "x.png") for _ in range(options.starts + 3)]
            starts = starts[3:]  # files are in the page cache by then
            clock = sorted(s["clock_ms"] for s in starts)
            median, used = statistics.median(clock), statistics.median(s["cpu_ms"] for s in starts)
            print(
                f"{model}: first picture after {median:.1f} ms "
                f"({clock[0]:.1f} to {clock[-1]:.1f}), processor {used:.1f} ms, "
                f"promised {PROMISED[model]:.0f} ms",
                flush=True,
            )
            kept = kept and median <= PROMISED[model]
            paced = {}
            if options.seconds > 0:
                with busy(options.busy):
                    paced = pace(frames, bundle, options.seconds, options.threads)
                print(
                    f"{model}: {paced['frames']} frames at {FPS} fps beside {options.busy} busy, "
                    f"{paced['late']} late; there after {paced['p50_ms']:.2f} ms, p99 "
                    f"{paced['p99_ms']:.2f}, most {paced['most_ms']:.2f}",
                    flush=True,
                )
                kept = kept and paced["p99_ms"] <= 1e3 / FPS
            found[model] = {"starts": starts, "frames": paced}
    if options.json is not None:
        about = {"machine": machine.describe(), "busy": options.busy, "threads": options.threads}
        options.json.write_text(json.dumps({**about, "models": found}) + "\n")
    return 1 if options.check and not kept else 0


def png_flags() -> list[str]:
    command = ["pkg-config", "--cflags", "--libs", "libpng"]
    return subprocess.check_output(command, text=True).split()


def compiled(source: Path, folder: Path, flags: list[str]) -> Path:
    """A program of a C file, with the library that is beside the package."""
    library, compiler = library_path(), shutil.which("gcc")
    if library is None or compiler is None:
        raise SystemExit("needed: gcc, and libfastgan.so.1 (python setup.py build_ext --inplace)")
    target = folder / source.stem
    command = [compiler, "-std=c11", "-O2", f"-I{ROOT / 'csrc/include'}", str(source)]
    command += [str(library), f"-Wl,-rpath,{library.parent}", *flags]
    subprocess.run([*command, "-o", str(target)], check=True)
    return target


def first(program: Path, bundle: Path, picture: Path) -> dict[str, float]:
    """Milliseconds from before the process is there until it has ended."""
    begin = time.perf_counter()
    process = os.posix_spawn(program, [program, bundle, "7", picture], os.environ)
    _, status, used = os.wait4(process, 0)
    clock = time.perf_counter() - begin
    if status != 0:
        raise SystemExit(f"{program} failed")
    return {"clock_ms": clock * 1e3, "cpu_ms": (used.ru_utime + used.ru_stime) * 1e3}


def pace(program: Path, bundle: Path, seconds: float, threads: int) -> dict[str, float]:
    """What frames.c says."""
    command = [program, bundle, str(FPS), str(seconds), str(threads)]
    words = subprocess.check_output(command, text=True).split()
    names = ("frames", "late", "p50_ms", "p99_ms", "most_ms")
    return {
        name: int(word) if "_" not in name else float(word)
        for name, word in zip(names, words, strict=True)
    }


if __name__ == "__main__":
    sys.exit(main())
