"""A process as if on a CPU without AVX-512, for the peers too, which offer no setting for it.

Libraries ask the CPU what it can by the instruction `cpuid`, which an operating system can't
answer for it. Here copies of the peers have it replaced by a byte that is no instruction, and
`cpuid.c`, loaded beforehand, answers what that raises: as the CPU would, less AVX-512 and AMX.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from fastgan.measure.bench.peers import MissingError

PACKAGES = ("onnxruntime", "openvino", "ncnn")

#: Large, and for devices that do not take part.
_NEVER_LOADED = ("*_gpu_plugin.so", "*_npu_plugin.so", "*_npu_compiler*.so")

#: First bytes of `cpuid`, and of what stands for it: no instruction of 64-bit code.
CPUID, STAND_IN = b"\x0f\xa2", b"\x06\xa2"

#: Says in such a process that it is one.
_MARK = "BENCHMARK_INSTRUCTIONS"

#: What the C library's own functions take, which choose before anything is loaded.
_TUNABLES = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512CD,-AVX512DQ"


def peers() -> str:
    """What the peers in this process may use: "all", or "avx2"."""
    return os.environ.get(_MARK, "all")


def environment(folder: Path) -> dict[str, str]:
    """What a process of this Python is started with; `folder` takes the copies (300 MB)."""
    for tool in ("gcc", "objdump"):
        if shutil.which(tool) is None:
            raise MissingError(f"no {tool} on the path: install gcc and binutils")
    for package in PACKAGES:
        for source in _folders(package):
            copy = folder / source.name
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*_NEVER_LOADED))
            for library in sorted(copy.rglob("*.so*")):
                if CPUID in library.read_bytes():
                    replace(library)
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "LD_PRELOAD": str(answering(folder)),
        "GLIBC_TUNABLES": _TUNABLES,
        "ATEN_CPU_CAPABILITY": "avx2",
        "FASTGAN_CPU": "avx2",
        _MARK: "avx2",
    }


def answering(folder: Path) -> Path:
    """The library that answers, built in `folder`."""
    built, source = folder / "cpuid.so", Path(__file__).with_name("cpuid.c")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", built, source], check=True)
    return built


def _folders(package: str) -> Iterator[Path]:
    """Where a package lies, and the libraries that its wheel brought beside it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return
    folder = Path(found.origin).parent
    yield folder
    beside = folder.with_name(f"{folder.name}.libs")
    if beside.is_dir():
        yield beside


def replace(library: Path) -> int:
    """Every `cpuid` of a library by what stands for it; how many there were."""
    from elftools.elf.elffile import ELFFile

    addresses = _asked_at(library)
    with library.open("r+b") as file:
        binary = ELFFile(file)
        for address in addresses:
            (offset,) = binary.address_offsets(address, len(CPUID))
            file.seek(offset)
            if file.read(len(CPUID)) != CPUID:
                raise ValueError(f"{library}: no cpuid at {address:#x}")
            file.seek(offset)
            file.write(STAND_IN)
    return len(addresses)


def _asked_at(library: Path) -> list[int]:
    """Addresses of `cpuid`, by a disassembler: its two bytes also stand inside of others."""
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(library)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        found = [re.match(r"\s*([0-9a-f]+):\s+cpuid\b", line) for line in running.stdout]
    return [int(each[1], 16) for each in found if each]
