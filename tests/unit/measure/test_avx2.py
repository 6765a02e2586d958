"""A library that asks the CPU what it can, told that there is no AVX-512 (benchmarks.avx2)."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from benchmarks import avx2

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="cpuid is an instruction of x86-64"
)

#: Prints two leaves whole; `innocent` holds the instruction's bytes inside of another.
PROGRAM = r"""
#include <cpuid.h>
#include <stdio.h>
unsigned innocent(void) {
    unsigned n;
    __asm__ volatile("movl $0x9090a20f, %0" : "=r"(n));
    return n;
}
int main(void) {
    for (unsigned leaf = 1; leaf <= 7; leaf += 6) {
        unsigned a, b, c, d;
        __cpuid_count(leaf, 0, a, b, c, d);
        printf("%u %u %u %u ", leaf == 1 ? 0 : a, leaf == 1 ? 0 : b, c, d);
    }
    printf("%x\n", innocent());
    return 0;
}
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    source, built = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM)
    subprocess.run(["gcc", "-O1", "-o", built, source], check=True)
    return built


def printed(program: Path, **environment: str) -> list[str]:
    done = subprocess.run(
        [program], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_all_but_avx512_is_told_as_it_is(program: Path, tmp_path: Path) -> None:
    before = printed(program)
    assert avx2.replace(program) > 0
    after = printed(program, LD_PRELOAD=str(avx2.answering(tmp_path)))
    assert after[-1] == before[-1] == "9090a20f"
    assert after[:5] == before[:5]
    ebx, was = int(after[5]), int(before[5])
    avx512 = sum(1 << bit for bit in (16, 17, 21, 26, 27, 28, 30, 31))
    assert ebx == was & ~avx512
    assert ebx >> 5 & 1 == was >> 5 & 1  # AVX2


def test_another_illegal_instruction_still_ends_the_process(tmp_path: Path) -> None:
    source, built = tmp_path / "illegal.c", tmp_path / "illegal"
    source.write_text("int main(void) { __builtin_trap(); }\n")
    subprocess.run(["gcc", "-O1", "-o", built, source], check=True)
    answers = str(avx2.answering(tmp_path))
    done = subprocess.run([built], env=os.environ | {"LD_PRELOAD": answers}, check=False)
    assert done.returncode == -4
