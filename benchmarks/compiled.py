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
    spills: int  # instructions that load from or store to local memory
    stack: int  # bytes of local memory per thread
    shared: int  # bytes per block
    warps: int
    occupancy: float  # resident warps over the most that one multiprocessor holds
    tensor_cores: str  # "tcgen05", "wgmma", "mma" or "none"
    eight_bit: bool  # whether they multiply 8-bit factors
    copies: str  # to shared memory, while computing: "bulk" (TMA), "async" (cp.async) or "none"
    widest_load: int  # bytes per thread and load from global memory; 16 stands for bulk copies too
    loop: int  # instructions of the innermost loop that multiplies
    over_limit: bool  # more shared memory than a block of this architecture can have


# Machine instructions that tell; the first that is found counts.
TENSOR_CORES = {"tcgen05": r"\bUTC\w*MMA", "wgmma": r"\b[HQI]GMMA", "mma": r"\b[HQI]MMA"}
EIGHT_BIT = r"\bUTCQMMA|\bQG?MMA"
COPIES = {"bulk": r"\bUTMALDG", "async": r"\bLDGSTS"}
LOCAL = r"\b(?:LDL|STL)\b"
MULTIPLIES = r"\bUTC\w*MMA|\b[HQI]G?MMA|\bFFMA"
WIDTHS = {"": 4, ".64": 8, ".128": 16, ".U8": 1, ".S8": 1, ".U16": 2, ".S16": 2}


Constants = dict[tuple[int, ...], Any]


def signature_of(call: Call) -> tuple[dict[str, Any], Constants, Constants]:
    """The types, constants and alignments that Triton's launcher would specialise on.

    Constants and alignments are found by where they stand: the number of a parameter and, in a
    record, that of a field.
    """
    signature: dict[str, Any] = {}
    constants: Constants = {}
    attributes: Constants = {}

    def describe(value: Any, place: tuple[int, ...]) -> Any:
        if isinstance(value, tuple):
            fields = [describe(field, (*place, i)) for i, field in enumerate(value)]
            return type(value)(*fields) if hasattr(value, "_fields") else tuple(fields)
        if value is None or (type(value) is int and value == 1):
            constants[place] = value
            return "constexpr"
        if isinstance(value, torch.Tensor) or (type(value) is int and value % 16 == 0):
            attributes[place] = [["tt.divisibility", 16]]
        return mangle_type(value)

    for parameter in call.function.params:
        value, place = call.arguments[parameter.name], (parameter.num,)
        if parameter.is_constexpr:
            signature[parameter.name], constants[place] = "constexpr", value
        else:
            signature[parameter.name] = describe(value, place)
    return signature, constants, attributes


def compile_call(call: Call, architecture: int) -> Any:
    """Triton's CompiledKernel of a launch, for a GPU that need not be there."""
    if INTERPRETED:
        raise RuntimeError("TRITON_INTERPRET is set: nothing can be compiled in this process")
    signature, constants, attributes = signature_of(call)
    source = ASTSource(call.function, signature, constexprs=constants, attrs=attributes)
    target = GPUTarget("cuda", architecture, 32)
    return triton.compile(source, target=target, options=call.options)


def report(call: Call, architecture: int) -> Report:
    """Compiles a launch and reads what became of it."""
    compiled = compile_call(call, architecture)
    usage, instructions, labels = disassemble(compiled.asm["cubin"])
    limits = LIMITS[architecture]
    registers = usage["REG"]
    shared, warps = compiled.metadata.shared, compiled.metadata.num_warps
    return Report(
        architecture=architecture,
        registers=registers,
        spills=sum(bool(re.search(LOCAL, line)) for line in instructions),
        stack=usage["STACK"] + usage["LOCAL"],
        shared=shared,
        warps=warps,
        occupancy=occupancy(limits, registers, shared, warps),
        tensor_cores=first_found(TENSOR_CORES, instructions),
        eight_bit=any(re.search(EIGHT_BIT, line) for line in instructions),
        copies=first_found(COPIES, instructions),
        widest_load=widest_load(instructions),
        loop=loop_length(instructions, labels),
        over_limit=shared > limits.shared_per_block,
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


def first_found(patterns: dict[str, str], instructions: list[str]) -> str:
    text = "\n".join(instructions)
    return next((name for name, pattern in patterns.items() if re.search(pattern, text)), "none")


def widest_load(instructions: list[str]) -> int:
    """Bytes that one thread moves in the widest load from global memory."""
    widest = 0
    for instruction in instructions:
        if re.search(r"\bUTMALDG", instruction):
            return 16
        load = re.search(r"\b(?:LDGSTS|LDG)([.\w]*)", instruction)
        if load:
            suffix = re.search(r"\.(?:64|128|U8|S8|U16|S16)\b", load.group(1))
            widest = max(widest, WIDTHS[suffix.group() if suffix else ""])
    return widest


def loop_length(instructions: list[str], labels: dict[str, int]) -> int:
    """Instructions of the shortest loop with a multiplication in it; 0 where there is none."""
    lengths = []
    for end, instruction in enumerate(instructions):
        branch = re.search(r"\bBRA\b.*?(\.L_x_\d+)", instruction)
        start = labels.get(branch.group(1), end) if branch else end
        body = instructions[start : end + 1] if start < end else []
        if any(re.search(MULTIPLIES, line) for line in body):
            lengths.append(len(body))
    return min(lengths, default=0)


def disassemble(cubin: bytes) -> tuple[dict[str, int], list[str], dict[str, int]]:
    """A compiled kernel's resources, its instructions, and the index each label stands at."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        usage = run(triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(path))
        text = run(triton.knobs.nvidia.nvdisasm.path, "-ndf", str(path))
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        label = re.match(r"\s*(\.L_x_\d+):", line)
        instruction = re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?);", line)
        if label:
            labels[label.group(1)] = len(instructions)
        elif instruction:
            instructions.append(instruction.group(1))
    resources = {k: int(v) for k, v in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    return resources, instructions, labels


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
