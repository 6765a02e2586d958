"""The specification of fastgan's random numbers, in NumPy: slow, short, and exact.

Element j of sample i is a function of (seed, stream, i, j) alone. Philox4x32-10 (Salmon, Moraes,
Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011) turns

    key     = (seed low 32 bits, seed high 32 bits)
    counter = (i low 32 bits, i high 32 bits, block = j // 4, stream)

into four 32-bit words; element j is made from word j % 4. A normal takes two neighbouring words for
two neighbouring elements (0 with 1, 2 with 3), every other distribution one word per element.

The distributions use IEEE single precision add, subtract, multiply, divide and square root, one
rounding each, and never a fused multiply-add. So this file, `csrc/latents/philox.h` (C++ and CUDA)
and `kernels/latents.py` (Triton) agree bit for bit; they are written in the same order, with the
same names and the same constants, and a change to one is a change to all three.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
Floats = NDArray[np.float32]

# The kinds of draw, by the number that every implementation knows them by.
BITS, UNIFORM, NORMAL, TRUNCATED, HYPERSPHERE = range(5)

# Minimax fits; each error is that of the fit, before rounding to single precision.
# log(1 + x) = x + x^2 P(x) for 1 + x in [sqrt(1/2), sqrt(2)): 2^-25.7 of the logarithm used.
LOG = (-0.499999166, 0.333341986, -0.250057071, 0.19956477,
       -0.165032625, 0.149142057, -0.14681676, 0.0914207846)  # fmt: skip
# sin(pi/4 y) = y P(y^2) and cos(pi/4 y) = 1 + y^2 P(y^2) for y in [-1, 1]: 2^-28 and 2^-34.
SIN = (0.785398161, -0.0807454325, 0.00249000097, -3.59504077e-05)
COS = (-0.308425136, 0.0158543266, -0.00032594008, 3.53033819e-06)
# The normal quantile in two parts, each a simple leading term and a smaller rational correction:
# -ndtri(1/2 - q) = sqrt(2 pi) q + q^3 P(x) / Q(x), x = 0.16 - q^2, for q in [0, 0.4]: 2^-26.5.
CENTRE_OVER = (4.35781622, 41.5559006, 65.2566147)
CENTRE_UNDER = (1.0, 14.4645386, 52.9215355, 39.1779823)
# -ndtri(p) = s - P(s) / Q(s), s = sqrt(-2 log p), for p in [2^-33, 0.1]: 2^-27.6.
TAIL_OVER = (2.91524243, 4.51630449, 0.640420139, 0.0026618354)
TAIL_UNDER = (1.0, 3.40143251, 1.82067096, 0.135890573)

SQRT_TWO_PI = np.float32(2.50662827)
LOG_2 = np.float32(0.693147182)
SQRT_HALF_BITS = 0x3F3504F3


class Parameters(NamedTuple):
    """What a kind needs beside the words; single precision values, the same on every path.

    UNIFORM gives `offset + scale * u`, u in [0, 1). TRUNCATED draws the tail probability
    `offset + scale * v`, v in (0, 2^31), where offset + scale * 2^31 is 1/2, and keeps
    |z| <= `limit`. The others use none.
    """

    offset: float = 0.0
    scale: float = 1.0
    limit: float = 0.0


def fill(
    kind: int, out: NDArray[Any], *, seed: int, start: int, stream: int, parameters: Parameters
) -> None:
    """Write samples start, start + 1, ... to `out` [n, size]: uint32 for BITS, else float32."""
    size = out.shape[1]
    blocks = np.arange(-(-size // 4), dtype=np.uint64)
    chunk = max(1, (1 << 18) // size)  # samples at a time: keeps the intermediate arrays small
    for first in range(0, len(out), chunk):
        rows = out[first : first + chunk]
        samples = np.arange(len(rows), dtype=np.uint64) + np.uint64(start + first)
        words = philox(
            (samples[:, None], samples[:, None] >> np.uint64(32), blocks, np.uint64(stream)), seed
        )
        rows[...] = _draw(kind, words, parameters).reshape(len(rows), -1)[:, :size]
        if kind == HYPERSPHERE:
            rows /= _norm(rows)[:, None]


def philox(counter: tuple[NDArray[np.uint64] | np.uint64, ...], seed: int) -> Words:
    """The ten rounds: four arrays of counters, broadcast together [...] -> words [..., 4]."""
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = (c & low for c in np.broadcast_arrays(*counter))
    key_0, key_1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        product_0, product_1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0 = (product_1 >> np.uint64(32)) ^ c1 ^ np.uint64(key_0)
        c2 = (product_0 >> np.uint64(32)) ^ c3 ^ np.uint64(key_1)
        c1, c3 = product_1 & low, product_0 & low
        key_0, key_1 = (key_0 + 0x9E3779B9) & 0xFFFFFFFF, (key_1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack((c0, c1, c2, c3), axis=-1).astype(np.uint32)


def _draw(kind: int, words: Words, parameters: Parameters) -> Words | Floats:
    if kind == BITS:
        return words
    if kind == UNIFORM:
        return uniform(words, parameters)
    if kind == TRUNCATED:
        return truncated(words, parameters)
    first, second = normal_pair(words[..., 0::2], words[..., 1::2])
    return np.stack((first, second), axis=-1)


def uniform(words: Words, parameters: Parameters) -> Floats:
    """offset + scale u, u the multiple of 2^-24 below that the word's upper 24 bits name."""
    u = (words >> 8).astype(np.int32).astype(np.float32) * np.float32(2**-24)
    values: Floats = u * np.float32(parameters.scale) + np.float32(parameters.offset)
    return values


def normal_pair(radius_words: Words, angle_words: Words) -> tuple[Floats, Floats]:
    """Box and Muller's two independent normals from two words; |z| <= 6.661.

    31 bits of the first word give u in [2^-32, 1 - 2^-24]. The second word's upper two bits name
    one of four rotations and reflections, the rest an angle in [-pi/4, pi/4]. No value is zero.
    """
    radius = np.sqrt(_log(_magnitude(radius_words), 31) * np.float32(-2.0))
    residual = (angle_words << 2).view(np.int32).astype(np.float32)
    y = residual * np.float32(2**-31) + np.float32(2**-32)
    squared = y * y
    sine = _polynomial(SIN, squared) * y
    cosine = _polynomial(COS, squared) * squared + np.float32(1.0)
    cosine = (cosine.view(np.uint32) ^ (angle_words & np.uint32(0x80000000))).view(np.float32)
    swap = (angle_words & np.uint32(0x40000000)) != 0
    return radius * np.where(swap, sine, cosine), radius * np.where(swap, cosine, sine)


def truncated(words: Words, parameters: Parameters) -> Floats:
    """A normal conditioned on |z| <= limit: 31 bits of a word for the tail, one for the sign."""
    v, scale = _magnitude(words), np.float32(parameters.scale)
    p = v * scale + np.float32(parameters.offset)
    q = (np.float32(2147483648.0) - v) * scale
    z = np.minimum(_minus_ndtri(p, q), np.float32(parameters.limit))
    return (z.view(np.uint32) ^ (words << 31)).view(np.float32)


def _magnitude(words: Words) -> Floats:
    """The upper 31 bits plus a half, rounded to single precision and kept below 2^31."""
    value = (words >> 1).view(np.int32).astype(np.float32) + np.float32(0.5)
    below: Floats = np.minimum(value, np.float32(2147483520.0))
    return below


def _log(x: Floats, shift: int) -> Floats:
    """log(x / 2^shift) for a normal, positive x."""
    bits = x.view(np.int32) - np.int32(SQRT_HALF_BITS + (shift << 23))
    exponent = (bits >> 23).astype(np.float32)
    x = ((bits & 0x7FFFFF) + np.int32(SQRT_HALF_BITS)).view(np.float32) - np.float32(1.0)
    return (_polynomial(LOG, x) * (x * x) + x) + exponent * LOG_2


def _minus_ndtri(p: Floats, q: Floats) -> Floats:
    """-ndtri(p), the normal quantile, for p in [2^-33, 1/2]; q is 1/2 - p to full precision."""
    squared = q * q
    x = np.float32(0.16) - squared
    s = np.sqrt(_log(p, 0) * np.float32(-2.0))
    tail = p < np.float32(0.1)
    leading: Floats = np.where(tail, s, q * SQRT_TWO_PI)
    centre_over = _polynomial(CENTRE_OVER, x) * (squared * q)
    over: Floats = np.where(tail, -_polynomial(TAIL_OVER, s), centre_over)
    under: Floats = np.where(tail, _polynomial(TAIL_UNDER, s), _polynomial(CENTRE_UNDER, x))
    z: Floats = leading + over / under
    return z


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    """Horner's rule, constant term first in `coefficients`."""
    value = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + np.float32(coefficient)
    return value


def _norm(rows: Floats) -> Floats:
    """Euclidean norms [n] of rows [n, size]: 16 partial sums, then halved: 8, 4, 2, 1."""
    n, size = rows.shape
    padded = np.zeros((n, -(-size // 16), 16), np.float32)
    padded.reshape(n, -1)[:, :size] = rows
    sums = np.zeros((n, 16), np.float32)
    for part in range(padded.shape[1]):
        sums = sums + padded[:, part] * padded[:, part]
    for half in (8, 4, 2, 1):
        sums = sums[:, :half] + sums[:, half:]
    norm: Floats = np.sqrt(sums[:, 0])
    return norm
