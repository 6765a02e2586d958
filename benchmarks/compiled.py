"""What the assembler makes of a kernel, with no GPU present: compile a launch, read the result."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import mangle_type

from fastgan.kernels.types import INTERPRETED, Call

ARCHITECTURES = (80, 86, 89, 90, 100, 120)


@dataclass(frozen=True)
class Limits:
    """Of one multiprocessor (NVIDIA's CUDA programming guide, table of compute capabilities)."""

    shared_per_block: int  # bytes
    shared_per_sm: int
    warps: int
    blocks: int
    registers: int = 65536


KIB = 1024
LIMITS = {
    80: Limits(163 * KIB, 164 * KIB, 64, 32),
    86: Limits(99 * KIB, 100 * KIB, 48, 16),
    89: Limits(99 * KIB, 100 * KIB, 48, 24),
    90: Limits(227 * KIB, 228 * KIB, 64, 32),
    100: Limits(227 * KIB, 228 * KIB, 64, 32),
    120: Limits(99 * KIB, 100 * KIB, 48, 32),
}


@dataclass(frozen=True)
class Report:
    """One compiled launch."""

    architecture: int
    registers: int  # per thread
    spills: int  # bytes of spill stores and loads, per thread
    stack: int  # bytes per thread
    shared: int  # bytes per block
    warps: int
    occupancy: float  # resident warps over the most that one multiprocessor holds
    instructions: dict[str, int]  # of the machine code, by what they tell
    widest_load: int  # bytes per thread, from global memory (16: a bulk copy may move more)
    shared_limit: int

    @property
    def tensor_cores(self) -> str:
        return next((k for k in ("tcgen05", "wgmma", "mma") if self.instructions[k]), "none")


# In SASS: the tensor cores' instructions, asynchronous copies to shared memory, local memory.
PATTERNS = {
    "tcgen05": r"\bUTC\w*MMA",
    "wgmma": r"\b[HQI]GMMA",
    "mma": r"\b[HQI]MMA",
    "ffma": r"\bFFMA",
    "ldgsts": r"\bLDGSTS",  # cp.async
    "bulk": r"\bUTMALDG",  # TMA
    "ldg": r"\bLDG\b",
    "local": r"\b(?:LDL|STL)\b",
}


def signature_of(call: Call) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], Any]]:
    """The types, constants and alignments that Triton's launcher would specialise on."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int], Any] = {}
    for parameter in call.function.params:
        value = call.arguments[parameter.name]
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, int) and not isinstance(value, bool) and value == 1:
            signature[parameter.name], constants[parameter.name] = "constexpr", 1
        else:
            signature[parameter.name] = mangle_type(value)
            aligned = isinstance(value, torch.Tensor) or (
                isinstance(value, int) and value % 16 == 0
            )
            if aligned:
                attributes[(parameter.num,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def compile_call(call: Call, architecture: int) -> Any:
    """Triton's CompiledKernel of a launch, for a GPU that need not be there."""
    if INTERPRETED:
        raise RuntimeError("TRITON_INTERPRET is set: nothing can be compiled in this process")
    signature, constants, attributes = signature_of(call)
    source = ASTSource(call.function, signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": call.num_warps, "num_stages": call.num_stages}
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def report(call: Call, architecture: int) -> Report:
    compiled = compile_call(call, architecture)
    resources, sass = disassemble(compiled.asm["cubin"])
    limits = LIMITS[architecture]
    counts = {name: len(re.findall(pattern, sass)) for name, pattern in PATTERNS.items()}
    shared = compiled.metadata.shared
    warps = compiled.metadata.num_warps
    return Report(
        architecture=architecture,
        registers=resources["REG"],
        spills=spilled_bytes(compiled.asm["ptx"], architecture),
        stack=resources["STACK"],
        shared=shared,
        warps=warps,
        occupancy=occupancy(limits, resources["REG"], shared, warps),
        instructions=counts,
        widest_load=widest_load(sass),
        shared_limit=limits.shared_per_block,
    )


def occupancy(limits: Limits, registers: int, shared: int, warps: int) -> float:
    """Resident warps over the most possible; registers come in units of 256 per warp."""
    per_warp = -(-registers * 32 // 256) * 256
    blocks = min(
        limits.blocks,
        limits.warps // warps,
        limits.registers // (per_warp * warps),
        limits.shared_per_sm // (shared + KIB),  # the system keeps 1 KiB per block
    )
    return blocks * warps / limits.warps


def widest_load(sass: str) -> int:
    widths = {"": 4, ".64": 8, ".128": 16, ".U8": 1, ".S8": 1, ".U16": 2, ".S16": 2}
    widest = 0
    for line in re.findall(r"\b(?:LDGSTS|LDG)[.\w]*", sass):
        suffix = re.search(r"\.(?:64|128|U8|S8|U16|S16)\b", line)
        widest = max(widest, widths[suffix.group() if suffix else ""])
    return 16 if re.search(r"\bUTMALDG", sass) else widest


def tool(name: str) -> str:
    """A path to one of the CUDA tools that Triton ships."""
    return getattr(triton.knobs.nvidia, name).path


def disassemble(cubin: bytes) -> tuple[dict[str, int], str]:
    """The resource usage and the SASS of a compiled kernel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        usage = run(tool("cuobjdump"), "-res-usage", str(path))
        sass = run(tool("nvdisasm"), "-c", "-hex" if False else "-ndf", str(path))
    found = {name: int(value) for name, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", usage)}
    return found, sass


def spilled_bytes(ptx: str, architecture: int) -> int:
    """ptxas -v reports spills; the cubin alone does not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(ptx)
        name = "ptxas_blackwell" if architecture >= 100 else "ptxas"
        suffix = "a" if architecture >= 90 else ""
        log = run(
            tool(name),
            "-v",
            "-lineinfo",
            "--regAllocOptLevel=2",
            f"--gpu-name=sm_{architecture}{suffix}",
            str(path),
            "-o",
            str(Path(folder, "kernel.cubin")),
        )
    return sum(int(n) for n in re.findall(r"(\d+) bytes spill", log))


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
