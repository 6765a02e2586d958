"""What a GPU can do at most, measured in the same run as everything that is held against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.gpu import timing


def all_of(device: torch.device, dry: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Each ceiling's name, and what measures it."""
    size = 64 if dry else 8192
    for name in ("fp16", "bf16", "tf32", "fp32"):
        yield f"product {name}", lambda n=name: product(device, n, size, dry)
    yield "product fp8", lambda: product_fp8(device, size, dry)
    yield "copy", lambda: copy(device, (1 << 16) if dry else (2 << 30), dry)
    yield "write", lambda: write(device, (1 << 16) if dry else (2 << 30), dry)
    yield "latents", lambda: latents(device, (1 << 10) if dry else (256 << 20), dry)


def product(device: torch.device, name: str, size: int, dry: bool) -> dict[str, Any]:
    """Operations per second of a large matrix product, on random numbers."""
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(name, torch.float32)
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, name == "tf32"
    try:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        found = timing.throughput(lambda: torch.mm(a, b, out=out), device, 0 if dry else 0.5)
    finally:
        matmul.allow_tf32 = before
    return {**found, "rate": 2 * size**3 / found["p50"]}


def product_fp8(device: torch.device, size: int, dry: bool) -> dict[str, Any]:
    """The same in fp8 (e4m3), scaled per tensor."""
    a, b = (torch.randn(size, size, device=device).to(torch.float8_e4m3fn) for _ in range(2))
    one = torch.ones((), device=device)

    def run() -> torch.Tensor:
        return torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16)

    found = timing.throughput(run, device, 0 if dry else 0.5)
    return {**found, "rate": 2 * size**3 / found["p50"]}


def copy(device: torch.device, size: int, dry: bool) -> dict[str, Any]:
    """Bytes per second of a large copy, each counted once read and once written."""
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found = timing.throughput(lambda: target.copy_(source), device, 0 if dry else 0.5)
    return {**found, "rate": 2 * size / found["p50"]}


def write(device: torch.device, size: int, dry: bool) -> dict[str, Any]:
    """Bytes per second of filling memory."""
    target = torch.empty(size // 4, device=device)
    found = timing.throughput(lambda: target.fill_(1.5), device, 0 if dry else 0.5)
    return {**found, "rate": size / found["p50"]}


def latents(device: torch.device, numbers: int, dry: bool) -> dict[str, Any]:
    """Bytes per second of drawing normal latents, to be held against `write`."""
    from fastgan import latents as space

    out = torch.empty((numbers // 128, 128), device=device)
    run = lambda: space.sample("normal", out.shape[0], (128,), seed=1, out=out)  # noqa: E731
    found = timing.throughput(run, device, 0 if dry else 0.5)
    return {**found, "rate": 4 * out.numel() / found["p50"]}
