"""What a machine is and has: for a benchmark's record and for `fastgan doctor`. Never raises."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

#: CPU flags that decide how fast a generator runs, as Linux spells them.
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "bf16")

#: Distributions whose versions a record names.
PACKAGES = (
    "fastgan",
    "torch",
    "triton",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "openvino",
    "ncnn",
    "numpy",
    "pillow",
)


def describe() -> dict[str, Any]:
    """The machine and the versions on it, ready for JSON."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cpu": cpu(),
        "gpus": gpus(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The version of each installed package of `PACKAGES`."""
    found = {name: version(name) for name in PACKAGES}
    return {name: one for name, one in found.items() if one is not None}


def version(package: str) -> str | None:
    """Of an installed package; None where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu() -> dict[str, Any]:
    """Model, cores that this process may use, those of `FLAGS` it has, and memory in bytes."""
    fields = _first_processor()
    has = set((fields.get("flags") or fields.get("Features") or "").split())
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "machine": platform.machine(),
        "cores": cores(),
        "flags": [flag for flag in FLAGS if flag in has],
        "memory": _memory(),
    }


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> list[str]:
    """The NVIDIA GPUs that the driver lists, each with its memory and the driver's version."""
    query = "--query-gpu=name,memory.total,driver_version"
    if shutil.which("nvidia-smi") is None:
        return []
    text = command("nvidia-smi", query, "--format=csv,noheader") or ""
    return [line.strip() for line in text.splitlines() if line.strip()]


def command(*arguments: str) -> str | None:
    """What a program prints, or None where it is missing or fails."""
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def installed(module: str) -> bool:
    """Whether a module can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _first_processor() -> dict[str, str]:
    """The first block of Linux's /proc/cpuinfo; macOS's name for the CPU; else nothing."""
    if sys.platform == "darwin":
        return {"model name": command("sysctl", "-n", "machdep.cpu.brand_string") or ""}
    try:
        block = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
