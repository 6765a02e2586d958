"""Latents from seeds: the same numbers, bit for bit, on every device, batch size and thread count.

Sample i of seed s on stream t is a function of (s, t, i) alone: `start=i` begins there, and
`n=a+b` equals `n=a` followed by `n=b, start=a`. `fastgan.latents.philox` specifies the numbers in
NumPy; compiled code makes them where it was built, else Triton on a GPU, else NumPy itself.

With `rng="numpy"` sample i is instead `numpy.random.RandomState(seed + i).randn(1, size)`, rounded
to float32: the latent that StyleGAN's own scripts make for seed number `seed + i`.
"""

from __future__ import annotations

import ctypes
import decimal
import importlib.metadata
import importlib.util
import logging
import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch

from fastgan.errors import ArgumentError, BackendError
from fastgan.host import arguments, memory
from fastgan.host.native import _native
from fastgan.latents import philox
from fastgan.latents.philox import Parameters

log = logging.getLogger("fastgan")


DISTRIBUTIONS = {
    "normal": (philox.NORMAL, Parameters()),
    "uniform": (philox.UNIFORM, Parameters(offset=0.0, scale=1.0)),
    "uniform_symmetric": (philox.UNIFORM, Parameters(offset=-1.0, scale=2.0)),
    "hypersphere": (philox.HYPERSPHERE, Parameters()),
}
LABEL_STREAM = 1  # labels and latents of one sample are independent


def sample(
    distribution: str,
    n: int,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    start: int = 0,
    stream: int = 0,
    truncation: float | None = None,
    rng: str = "philox",
    device: torch.device | str | None = None,
    out: torch.Tensor | None = None,
    threads: int | None = None,
) -> torch.Tensor:
    """Draws samples start, start + 1, ..., start + n - 1.

    Args:
        distribution: "normal"; "uniform" in [0, 1); "uniform_symmetric" in [-1, 1);
            "hypersphere", uniform on the unit sphere of all elements of a sample.
        n: how many samples, at least 1.
        shape: of one sample; its elements are numbered in C order.
        seed: in [0, 2**64).
        start: the first sample's index, at least 0.
        stream: in [0, 2**32): further independent numbers for the same seed and samples.
        truncation: a normal conditioned on |z| <= truncation. These are other numbers than the
            same seed's without truncation, however large it is.
        rng: "philox", or "numpy" (see above; normal, without truncation, seed + index < 2**32).
        device: where; by default that of `out`, else the CPU.
        out: a contiguous float32 tensor [n, *shape] to write to; by default a new one.
        threads: at most this many CPU threads; by default PyTorch's number.

    Returns:
        float32 [n, *shape].

    Raises:
        ArgumentError: for an argument out of range.
    """
    sizes = arguments.several("shape", shape, "the sizes of one sample")
    shape = tuple(arguments.whole("shape", length, 1, 1 << 34) for length in sizes)
    size = math.prod(shape)
    n = arguments.whole("n", n, 1, 1 << 48)
    kind, seed, start, stream, parameters = recipe(
        distribution, n, seed=seed, start=start, stream=stream, truncation=truncation
    )
    threads = None if threads is None else arguments.whole("threads", threads, 1, 1 << 16)
    if rng not in ("philox", "numpy"):
        raise ArgumentError("rng", repr(rng), "'philox' or 'numpy'")
    if size > 1 << 34:
        raise ArgumentError("shape", f"{size} elements", "at most 2**34")

    out = _destination((n, *shape), torch.float32, device, out)
    rows = out.view(n, size)
    if rng == "numpy":
        if kind != philox.NORMAL:
            raise ArgumentError("rng", "'numpy'", "a normal without truncation", "use 'philox'")
        arguments.whole("seed", seed + start, 0, (1 << 32) - n)
        draws = [np.random.RandomState(seed + start + i).randn(1, size) for i in range(n)]
        rows.copy_(torch.from_numpy(np.concatenate(draws).astype(np.float32)))
    else:
        _fill(kind, rows, seed, start, stream, parameters, threads)
    return out


def recipe(
    distribution: str, n: int, *, seed: int, start: int, stream: int, truncation: float | None
) -> tuple[int, int, int, int, Parameters]:
    """What `sample` draws with `rng="philox"`: kind, seed, first sample, stream and parameters.

    Raises:
        ArgumentError: for an argument out of range, as in `sample`.
    """
    where = _where(n, seed, start, stream)
    kind, parameters = _kind(distribution, truncation)
    return kind, *where, parameters


def _where(n: int, seed: int, start: int, stream: int) -> tuple[int, int, int]:
    """Seed, first of n samples and stream, checked."""
    return (
        arguments.whole("seed", seed, 0, (1 << 64) - 1),
        arguments.whole("start", start, 0, (1 << 64) - n),
        arguments.whole("stream", stream, 0, (1 << 32) - 1),
    )


def normal(n: int, size: int, **options: Any) -> torch.Tensor:
    """Standard normals, float32 [n, size]; the options are those of `sample`."""
    return sample("normal", n, (size,), **options)


def uniform(n: int, size: int, **options: Any) -> torch.Tensor:
    """Uniform in [0, 1), multiples of 2**-24, float32 [n, size]; the options are `sample`'s."""
    return sample("uniform", n, (size,), **options)


def hypersphere(n: int, size: int, **options: Any) -> torch.Tensor:
    """Rows uniform on the unit sphere, float32 [n, size]; the options are those of `sample`."""
    return sample("hypersphere", n, (size,), **options)


def labels(
    n: int,
    classes: int,
    *,
    seed: int = 0,
    start: int = 0,
    stream: int = LABEL_STREAM,
    device: torch.device | str | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Uniform class numbers in [0, classes), int64 [n]; the arguments are those of `sample`.

    The upper half of a 32-bit word times `classes` (at most 2**31): no class is likelier than
    another by more than 2**-32.
    """
    n = arguments.whole("n", n, 1, 1 << 48)
    classes = arguments.whole("classes", classes, 1, 1 << 31)
    where = _where(n, seed, start, stream)
    out = _destination((n,), torch.int64, device, out)
    words = torch.empty((n, 1), dtype=torch.int32, device=out.device)
    _fill(philox.BITS, words, *where, Parameters(), None)
    out.copy_(words.view(n)).bitwise_and_(0xFFFFFFFF)  # the words are unsigned
    return out.mul_(classes).bitwise_right_shift_(32)


def available() -> dict[str, str | None]:
    """The ways to sample, best first for each device: a description, or None where missing."""
    library = importlib.util.find_spec("fastgan._native_cuda")
    triton = importlib.util.find_spec("triton")
    return {
        "cpu native": ", ".join(_native.paths()) if _native is not None else None,
        "cpu numpy": np.__version__,
        "cuda native": library.origin if library is not None else None,
        "cuda triton": importlib.metadata.version("triton") if triton is not None else None,
    }


def _fill(
    kind: int,
    rows: torch.Tensor,
    seed: int,
    start: int,
    stream: int,
    parameters: Parameters,
    threads: int | None,
) -> None:
    """Writes to rows [n, size] (int32 for BITS, else float32) by the best way its device has."""
    if rows.device.type == "cpu":
        array = rows.detach().numpy()
        if kind == philox.BITS:
            array = array.view(np.uint32)
        if _native is None:
            philox.fill(kind, array, seed=seed, start=start, stream=stream, parameters=parameters)
        else:
            threads = torch.get_num_threads() if threads is None else threads
            _native.fill(kind, array, seed, start, stream, *parameters, threads)
    elif rows.device.type != "cuda" or not _fill_there(kind, rows, seed, start, stream, parameters):
        host = torch.empty(rows.shape, dtype=rows.dtype)
        _fill(kind, host, seed, start, stream, parameters, threads)
        rows.copy_(host)


def filling(kind: int, rows: torch.Tensor) -> Callable[[int, int, int, Parameters], None]:
    """`fill(seed, start, stream, parameters)`: writes such samples, of a kind of `recipe`'s, again
    and again to rows [n, size], contiguous float32. The samples are not checked any more."""
    if rows.device.type != "cpu" or _native is None:
        return lambda seed, start, stream, parameters: _fill(
            kind, rows, seed, start, stream, parameters, None
        )
    array, fill, threads = rows.detach().numpy(), _native.fill, torch.get_num_threads

    def native(seed: int, start: int, stream: int, parameters: Parameters) -> None:
        fill(kind, array, seed, start, stream, *parameters, threads())

    return native


#: The ways of sampling on a GPU that failed there, and why: they are not tried again.
failed: dict[str, str] = {}


def _fill_there(
    kind: int, rows: torch.Tensor, seed: int, start: int, stream: int, parameters: Parameters
) -> bool:
    """Draw on a GPU, if one of the ways to do so works; each that fails is named once."""
    library = None if "CUDA" in failed else _cuda_library()
    with torch.cuda.device(rows.device):  # kernels run on the current one
        if library is not None:
            try:
                _fill_cuda(library, kind, rows, seed, start, stream, *parameters)
                return True
            except BackendError as error:
                give_up("CUDA", error.found)
        if "Triton" in failed or importlib.util.find_spec("triton") is None:
            return False
        from fastgan.kernels import latents as kernels

        try:
            kernels.fill(kind, rows, seed, start, stream, *parameters)
            return True
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:
            torch.cuda.current_stream(rows.device).query()  # raises where the device has failed
            give_up("Triton", str(error))
    return False


def give_up(way: str, reason: str) -> None:
    """Draw without one of the ways to sample on a GPU ("CUDA" or "Triton") from now on."""
    text = " ".join(reason.split())[:200]
    if way not in failed:
        log.warning("latents: the %s sampler failed, going on without: %s", way, text)
    failed[way] = text


@cache
def _cuda_library() -> Any:
    """The shared library of csrc/latents/sampling.cu, or None where it was not built."""
    spec = importlib.util.find_spec("fastgan._native_cuda")
    if spec is None or spec.origin is None:
        return None
    library = ctypes.CDLL(spec.origin)
    wide, narrow, real = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_float
    library.fastgan_cuda_sample.argtypes = [
        ctypes.c_int, ctypes.c_void_p, wide, wide, wide, wide, narrow,
        real, real, real, ctypes.c_int, ctypes.c_void_p,
    ]  # fmt: skip
    library.fastgan_cuda_message.restype = ctypes.c_char_p
    return library


def _fill_cuda(library: Any, kind: int, rows: torch.Tensor, *of: int | float) -> None:
    status = library.fastgan_cuda_sample(
        kind, rows.data_ptr(), *rows.shape, *of,
        rows.device.index, torch.cuda.current_stream(rows.device).cuda_stream,
    )  # fmt: skip
    if status != 0:
        message = library.fastgan_cuda_message(status).decode()
        raise BackendError(f"sampling on {rows.device}", message, "a working CUDA device")


def _kind(distribution: str, truncation: float | None) -> tuple[int, Parameters]:
    if distribution not in DISTRIBUTIONS:
        raise ArgumentError(
            "distribution", repr(distribution), f"one of {', '.join(DISTRIBUTIONS)}"
        )
    if truncation is not None:
        if distribution != "normal":
            raise ArgumentError("truncation", f"a {distribution} distribution", "a normal one")
        needed = "a finite number above 0"
        limit = arguments.number("truncation", truncation, above=0, needed=needed)
        return philox.TRUNCATED, _truncation(limit)
    return DISTRIBUTIONS[distribution]


@lru_cache(maxsize=64)
def _truncation(limit: float) -> Parameters:
    """The tail probability beyond `limit` and the step to 1/2, in decimal arithmetic.

    A C library's erfc differs from machine to machine; decimal's exp is correctly rounded.
    """
    with decimal.localcontext(decimal.Context(prec=60)):
        t = decimal.Decimal(min(limit, 8.0))  # nothing lies beyond 6.7, see philox.TAIL_OVER
        term = total = t
        k = 1
        while term > total * decimal.Decimal("1e-50"):  # Phi(t) - 1/2 = pdf(t) sum t^k / k!!
            k += 2
            term *= t * t / k
            total += term
        pi = decimal.Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
        inside = total * (-t * t / 2).exp() / (2 * pi).sqrt()
        offset = float(decimal.Decimal("0.5") - inside)
        scale = float(inside / 2**31)
    bound = np.float32(limit)
    if float(bound) > limit:
        bound = np.nextafter(bound, np.float32(0))
    return Parameters(float(np.float32(offset)), float(np.float32(scale)), float(bound))


def _destination(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device | str | None,
    out: torch.Tensor | None,
) -> torch.Tensor:
    if device is not None and device != "cpu":
        try:
            device = torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:  # the latter: PyTorch without CUDA
            found = str(error).splitlines()[0]
            raise ArgumentError("device", found, "a device that PyTorch has here") from None
    if out is None:
        needed = math.prod(shape) * dtype.itemsize
        place = torch.device(device or "cpu")
        memory.require("n", needed, f"{shape[0]} samples", place, "draw them in parts, with start=")
        return torch.empty(shape, dtype=dtype, device=device)
    if not isinstance(out, torch.Tensor):
        raise ArgumentError("out", type(out).__name__, "a torch.Tensor")
    if tuple(out.shape) != shape or out.dtype != dtype or not out.is_contiguous():
        found = f"{out.dtype} {list(out.shape)} with strides {list(out.stride())}"
        raise ArgumentError("out", found, f"a contiguous {dtype} {list(shape)}")
    if device is not None and torch.device(device) != out.device:
        raise ArgumentError("out", f"a tensor on {out.device}", f"one on {device}, as asked")
    return out
