"""What fastgan finds on a machine, and what that lacks. Never raises."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import fastgan
from fastgan.engine.base import without_fp8
from fastgan.errors import ArgumentError
from fastgan.host import gpu, processor
from fastgan.measure import machine

#: Packages that overwrite one another's files: at most one may be installed.
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")

_BUILD = "then 'pip install --force-reinstall --no-deps' fastgan from source"


def examine() -> dict[str, Any]:
    """{"facts": name -> text, "missing": lines that say what to run}, ready for JSON."""
    facts: dict[str, str] = {}
    missing: list[str] = []
    for name, look in (
        ("fastgan", _package),
        ("python", _python),
        ("system", _system),
        ("cpu", _cpu),
        ("gpu", _gpu),
        ("torch", _torch),
        ("triton", _triton),
        ("onnxruntime", _onnxruntime),
        ("openvino", _openvino),
        ("onnx", _onnx),
        ("real time", _real_time),
        ("latents", _latents),
        ("compilers", _compilers),
    ):
        try:
            facts[name] = look(missing)
        except Exception as error:  # a broken installation is what this is for
            facts[name] = f"broken: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            missing.append(f"{name}: it is installed, but fails as shown above; install it again")
    return {"facts": facts, "missing": missing}


def _real_time(missing: list[str]) -> str:
    versions = {name: machine.version(name) for name in ("av", "aiohttp", "python-osc")}
    text = ", ".join(f"{name} {found or 'not installed'}" for name, found in versions.items())
    return text if all(versions.values()) else f"{text} (pip install 'fastgan[live]')"


def _package(missing: list[str]) -> str:
    return f"{fastgan.__version__}, in {Path(fastgan.__file__).parent}"


def _python(missing: list[str]) -> str:
    import platform
    import sys

    return f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}"


def _system(missing: list[str]) -> str:
    import platform

    return platform.platform()


def _cpu(missing: list[str]) -> str:
    cpu = machine.cpu()
    memory = f", {cpu['memory'] / 2**30:.0f} GiB" if cpu["memory"] else ""
    flags = ", ".join(cpu["flags"]) or "none of the flags that matter"
    text = f"{cpu['model']}, {cpu['cores']} cores{memory}; {flags}"
    try:
        cap = processor.cap()
    except ArgumentError as error:
        missing.append(str(error))
        return text
    return text if cap is None else f"{text}; used as {cap}, because of {processor.VARIABLE}"


def _gpu(missing: list[str]) -> str:
    found = machine.gpus()
    if found:
        lacking = gpu.without_compiler()
        if lacking is not None:
            missing.append(f"{lacking}: Triton builds its launchers with them: {gpu.INSTALL}")
        return "; ".join(found)
    driver = Path("/proc/driver/nvidia/version").exists()
    return "an NVIDIA driver, but nvidia-smi lists no GPU" if driver else "no NVIDIA GPU"


def _torch(missing: list[str]) -> str:
    if not machine.installed("torch"):
        missing.append("torch: pip install torch")
        return "not installed"
    import torch

    if torch.version.cuda is None:
        build = "CPU build"
    else:
        usable = torch.cuda.is_available()
        build = f"CUDA {torch.version.cuda}, {torch.cuda.device_count()} usable GPUs"
        if usable:
            found = without_fp8(torch.device("cuda"))
            major, minor = torch.cuda.get_device_capability()
            if (major, minor) < (8, 0):
                build += (
                    f", compute capability {major}.{minor}: on torch's operators, not on kernels"
                )
            build += ", which have fp8" if found is None else f", without fp8 ({found})"
    wrong = None if torch.cuda.is_available() else gpu.unusable()
    if wrong is not None:
        missing.append(f"{wrong[1]}: found {wrong[0]}")
    fast = processor.has_bfloat16()
    bf16 = "bf16 through oneDNN" if fast else "no instructions for bf16"
    return f"{torch.__version__}, {build}; {torch.get_num_threads()} threads; {bf16}"


def _triton(missing: list[str]) -> str:
    version = machine.versions().get("triton")
    if version is None:
        if machine.gpus():
            missing.append("triton, since there is a GPU: pip install 'fastgan[gpu]'")
        return "not installed (needed for NVIDIA GPUs only)"
    return version


def _onnxruntime(missing: list[str]) -> str:
    versions = machine.versions()
    found = [name for name in _RUNTIMES if name in versions]
    extra = "gpu" if machine.gpus() else "cpu"
    again = f"pip install 'fastgan[{extra}]'"
    if not found and not machine.installed("onnxruntime"):
        missing.append(f"onnxruntime, the fallback for models that no plan covers: {again}")
        return "not installed"
    if len(found) > 1:
        missing.append(
            f"{' and '.join(found)} overwrite each other's files: pip uninstall -y "
            f"{' '.join(found)}, then {again}"
        )
    runtime = importlib.import_module("onnxruntime")
    names = " and ".join(f"{name} {versions[name]}" for name in found) or "onnxruntime"
    if not hasattr(runtime, "InferenceSession"):
        missing.append(
            f"onnxruntime's files, lost when one of two was removed: pip uninstall -y "
            f"{' '.join(found) or 'onnxruntime'}, then {again}"
        )
        return f"{names}, but its files are gone"
    return f"{names}: {', '.join(runtime.get_available_providers())}"


def _openvino(missing: list[str]) -> str:
    return machine.versions().get("openvino", "not installed (only a peer in benchmarks)")


def _onnx(missing: list[str]) -> str:
    versions = machine.versions()
    names = ("onnx", "onnx_ir", "onnxscript")
    missing.extend(f"{name}: pip install {name}" for name in names if name not in versions)
    return ", ".join(f"{name} {versions.get(name, 'missing')}" for name in names)


def _latents(missing: list[str]) -> str:
    from fastgan import latents

    ways = latents.available()
    if ways.get("cpu native") is None:
        missing.append(f"the native sampler (NumPy does it, slower): install g++, {_BUILD}")
    if machine.gpus() and ways.get("cuda native") is None:
        missing.append(f"the CUDA sampler (Triton does it): install nvcc, {_BUILD}")
    return "; ".join(f"{way}: {found or 'missing'}" for way, found in ways.items())


def _compilers(missing: list[str]) -> str:
    found = []
    for name in ("g++", "clang++", "nvcc"):
        if shutil.which(name):
            lines = (machine.command(name, "--version") or "").splitlines()
            line = next((text for text in lines if "release" in text), lines[0] if lines else "")
            found.append(f"{name} ({line.strip()})")
    if not any(text.startswith(("g++", "clang++")) for text in found):
        missing.append("a C++ compiler (g++), for the native sampler and torch.compile")
    return ", ".join(found) or "none"
