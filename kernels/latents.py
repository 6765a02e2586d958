"""Latents in Triton: the numbers of `fastgan/latents/philox.py`, bit for bit, in the same order.

For a GPU user without the compiled CUDA sampler. Launched with `enable_fp_fusion=False`, and with
the correctly rounded square root and division, since bit equality needs one rounding per operation.
"""

import struct

import torch
import triton
import triton.language as tl

from .epilogue import to_stored

# The kinds of draw, by the number that every implementation knows them by.
BITS, UNIFORM, NORMAL, TRUNCATED, HYPERSPHERE = (tl.constexpr(kind) for kind in range(5))

BLOCK = 256  # Philox blocks, of four elements each, per program
BLOCK_ROWS = 16  # rows per program of the normalisation


@triton.jit
def _philox(c0, c1, c2, c3, key_0, key_1):
    """The ten rounds on uint32 counters and keys."""
    for _ in tl.static_range(10):
        product_0 = c0.to(tl.uint64) * 0xD2511F53
        product_1 = c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (product_1 >> 32).to(tl.uint32) ^ c1 ^ key_0
        c2 = (product_0 >> 32).to(tl.uint32) ^ c3 ^ key_1
        c1 = product_1.to(tl.uint32)
        c3 = product_0.to(tl.uint32)
        key_0 = (key_0.to(tl.uint64) + 0x9E3779B9).to(tl.uint32)
        key_1 = (key_1.to(tl.uint64) + 0xBB67AE85).to(tl.uint32)
    return c0, c1, c2, c3


@triton.jit
def _magnitude(words):
    value = (words >> 1).to(tl.int32, bitcast=True).to(tl.float32) + 0.5
    return tl.minimum(value, 2147483520.0)


@triton.jit
def _log(x, SHIFT: tl.constexpr):
    """log(x / 2^SHIFT) for a normal, positive x."""
    SQRT_HALF: tl.constexpr = 0x3F3504F3
    bits = x.to(tl.int32, bitcast=True) - (SQRT_HALF + (SHIFT << 23))
    exponent = (bits >> 23).to(tl.float32)
    x = ((bits & 0x7FFFFF) + SQRT_HALF).to(tl.float32, bitcast=True) - 1.0
    p = x * 0.0914207846 + -0.14681676
    p = p * x + 0.149142057
    p = p * x + -0.165032625
    p = p * x + 0.19956477
    p = p * x + -0.250057071
    p = p * x + 0.333341986
    p = p * x + -0.499999166
    return (p * (x * x) + x) + exponent * 0.693147182


@triton.jit
def _minus_ndtri(p, q):
    """-ndtri(p), the normal quantile, for p in [2^-33, 1/2]; q is 1/2 - p to full precision."""
    squared = q * q
    x = 0.16 - squared
    s = tl.sqrt_rn(_log(p, 0) * -2.0)
    tail = p < 0.1
    leading = tl.where(tail, s, q * 2.50662827)
    centre_over = ((x * 65.2566147 + 41.5559006) * x + 4.35781622) * (squared * q)
    centre_under = ((x * 39.1779823 + 52.9215355) * x + 14.4645386) * x + 1.0
    tail_over = ((s * 0.0026618354 + 0.640420139) * s + 4.51630449) * s + 2.91524243
    tail_under = ((s * 0.135890573 + 1.82067096) * s + 3.40143251) * s + 1.0
    over = tl.where(tail, -tail_over, centre_over)
    return leading + tl.div_rn(over, tl.where(tail, tail_under, centre_under))


@triton.jit
def _uniform(words, offset, scale):
    u = (words >> 8).to(tl.int32, bitcast=True).to(tl.float32) * 5.9604644775390625e-08  # 2^-24
    return u * scale + offset


@triton.jit
def _truncated(words, offset, scale, limit):
    v = _magnitude(words)
    p = v * scale + offset
    q = (2147483648.0 - v) * scale
    z = tl.minimum(_minus_ndtri(p, q), limit)
    return (z.to(tl.uint32, bitcast=True) ^ (words << 31)).to(tl.float32, bitcast=True)


@triton.jit
def _normal_pair(radius_words, angle_words):
    """Box and Muller's two independent normals from two words."""
    radius = tl.sqrt_rn(_log(_magnitude(radius_words), 31) * -2.0)
    residual = (angle_words << 2).to(tl.int32, bitcast=True).to(tl.float32)
    y = residual * 4.656612873077393e-10 + 2.3283064365386963e-10  # 2^-31, 2^-32
    squared = y * y
    sine = squared * -3.59504077e-05 + 0.00249000097
    sine = sine * squared + -0.0807454325
    sine = (sine * squared + 0.785398161) * y
    cosine = squared * 3.53033819e-06 + -0.00032594008
    cosine = cosine * squared + 0.0158543266
    cosine = cosine * squared + -0.308425136
    cosine = cosine * squared + 1.0
    sign = angle_words & 0x80000000
    cosine = (cosine.to(tl.uint32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    swap = (angle_words & 0x40000000) != 0
    return radius * tl.where(swap, sine, cosine), radius * tl.where(swap, cosine, sine)


@triton.jit
def _pair(even, odd, KIND: tl.constexpr, offset, scale, limit):
    """Two neighbouring elements from their two words."""
    if KIND == BITS:
        return even.to(tl.int32, bitcast=True), odd.to(tl.int32, bitcast=True)
    elif KIND == UNIFORM:
        return _uniform(even, offset, scale), _uniform(odd, offset, scale)
    elif KIND == TRUNCATED:
        return _truncated(even, offset, scale, limit), _truncated(odd, offset, scale, limit)
    else:
        return _normal_pair(even, odd)


@triton.jit
def _rounded(value, DTYPE: tl.constexpr):
    """A float32, or a word, as it is stored."""
    if value.dtype == tl.float32:
        value = to_stored(value, 0.0, 1.0, "nhwc", DTYPE)
    return value


# The seed, start and sizes change from call to call: nothing is gained by compiling for a value.
_VARYING = ["size", "total_blocks", "key_0", "key_1", "start_low", "start_high", "stream"]


@triton.jit
def _fill_block(
    out,  # [n, size]
    size,
    total_blocks,  # n * ceil(size / 4)
    first,  # uint64: the index of the first sample
    key_0,  # uint32, as key_1 and stream
    key_1,
    stream,
    offset,
    scale,
    limit,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """This program's part of the samples."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    blocks_per_sample = (size.to(tl.int64) + 3) // 4
    row = index // blocks_per_sample
    block = index - row * blocks_per_sample
    sample = first + row.to(tl.uint64)
    zero = sample.to(tl.uint32) & 0
    w0, w1, w2, w3 = _philox(
        sample.to(tl.uint32),
        (sample >> 32).to(tl.uint32),
        block.to(tl.uint32),
        zero + stream,
        zero + key_0,
        zero + key_1,
    )
    z0, z1 = _pair(w0, w1, KIND, offset, scale, limit)
    z2, z3 = _pair(w2, w3, KIND, offset, scale, limit)
    column = block * 4
    place = out + row * size + column
    inside = index < total_blocks
    DTYPE: tl.constexpr = out.dtype.element_ty
    tl.store(place, _rounded(z0, DTYPE), mask=inside)
    tl.store(place + 1, _rounded(z1, DTYPE), mask=inside & (column + 1 < size))
    tl.store(place + 2, _rounded(z2, DTYPE), mask=inside & (column + 2 < size))
    tl.store(place + 3, _rounded(z3, DTYPE), mask=inside & (column + 3 < size))


@triton.jit
def _joined(low, high):
    """Two 32-bit words as one uint64."""
    low = low.to(tl.uint32).to(tl.uint64)
    return (high.to(tl.uint32).to(tl.uint64) << 32) | low


@triton.jit(do_not_specialize=_VARYING)
def _fill_kernel(
    out,
    size,
    total_blocks,
    key_0,
    key_1,
    start_low,
    start_high,
    stream,
    parameters,  # offset, scale, limit
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    _fill_block(
        out,
        size,
        total_blocks,
        _joined(start_low, start_high),
        key_0.to(tl.uint32),
        key_1.to(tl.uint32),
        stream.to(tl.uint32),
        parameters[0],
        parameters[1],
        parameters[2],
        KIND,
        BLOCK,
    )


@triton.jit
def _first(state):
    """The index of the first sample that a state stands at."""
    return _joined(tl.load(state + 2), tl.load(state + 3))


@triton.jit
def _advance(state, first):
    tl.store(state + 2, first.to(tl.uint32).to(tl.int32, bitcast=True))
    tl.store(state + 3, (first >> 32).to(tl.uint32).to(tl.int32, bitcast=True))


@triton.jit(do_not_specialize=["n", "size", "total_blocks"])
def _fill_next_kernel(
    out,
    state,  # [WORDS] int32, see `words`
    n,
    size,
    total_blocks,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
    ADVANCES: tl.constexpr,
):
    first = _first(state)
    _fill_block(
        out,
        size,
        total_blocks,
        first,
        tl.load(state).to(tl.uint32),
        tl.load(state + 1).to(tl.uint32),
        tl.load(state + 4).to(tl.uint32),
        tl.load(state + 5).to(tl.float32, bitcast=True),
        tl.load(state + 6).to(tl.float32, bitcast=True),
        tl.load(state + 7).to(tl.float32, bitcast=True),
        KIND,
        BLOCK,
    )
    if ADVANCES:
        tl.debug_barrier()  # all threads have read the state
        _advance(state, first + n.to(tl.uint64))


@triton.jit(do_not_specialize=["n"])
def _advance_kernel(state, n):
    _advance(state, _first(state) + n.to(tl.uint64))


@triton.jit
def _halve(sums, ROWS: tl.constexpr, HALF: tl.constexpr):
    """[ROWS, 2 HALF] -> [ROWS, HALF]: the left half plus the right half."""
    left, right = tl.split(tl.permute(tl.reshape(sums, [ROWS, 2, HALF]), [0, 2, 1]))
    return left + right


@triton.jit(do_not_specialize=["n", "size"])
def _normalise_kernel(rows, n, size, ROWS: tl.constexpr):
    """Divides rows [n, size] by their norms: 16 partial sums, then halved: 8, 4, 2, 1."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # [ROWS]
    lane = tl.arange(0, 16)
    start = rows + (row * size)[:, None] + lane[None, :]  # [ROWS, 16]
    sums = tl.zeros([ROWS, 16], tl.float32)
    for column in range(0, size, 16):
        inside = (row < n)[:, None] & (column + lane < size)[None, :]
        value = tl.load(start + column, mask=inside, other=0.0)
        sums += value * value
    sums = _halve(sums, ROWS, 8)
    sums = _halve(sums, ROWS, 4)
    sums = _halve(sums, ROWS, 2)
    norm = tl.sqrt_rn(_halve(sums, ROWS, 1))  # [ROWS, 1]
    norm = tl.where((row < n)[:, None], norm, 1.0)
    for column in range(0, size, 16):
        inside = (row < n)[:, None] & (column + lane < size)[None, :]
        value = tl.load(start + column, mask=inside, other=1.0)
        tl.store(start + column, tl.div_rn(value, norm + tl.zeros_like(value)), mask=inside)


def fill(
    kind: int,
    out: torch.Tensor,
    seed: int,
    start: int,
    stream: int,
    offset: float,
    scale: float,
    limit: float,
) -> None:
    """Write samples start, start + 1, ... to `out`: contiguous [n, size], int32 for BITS, else
    float32. The last three are `fastgan.latents.philox.Parameters`."""
    n, size = out.shape
    total_blocks = n * ((size + 3) // 4)
    _fill_kernel[(triton.cdiv(total_blocks, BLOCK),)](
        out,
        size,
        total_blocks,
        *(_signed(word) for word in (seed, seed >> 32, start, start >> 32, stream)),
        (offset, scale, limit),
        KIND=NORMAL.value if kind == HYPERSPHERE.value else kind,
        BLOCK=BLOCK,
        enable_fp_fusion=False,
    )
    _normalise(kind, out)


# A state in device memory: seed, first sample, stream, and three parameters, as int32 words.
_STATE, _WORDS = struct.Struct("<QQI3f"), struct.Struct("<8i")
WORDS = _STATE.size // 4


def words(
    seed: int, start: int, stream: int, offset: float, scale: float, limit: float
) -> tuple[int, ...]:
    """The state that `fill_next` reads: seed, first sample (two words each, the lower one first),
    stream, and the bits of the three parameters."""
    packed = _STATE.pack(seed % (1 << 64), start % (1 << 64), stream, offset, scale, limit)
    return _WORDS.unpack(packed)


def fill_next(kind: int, out: torch.Tensor, state: torch.Tensor) -> None:
    """`fill`, from a state in device memory, which afterwards stands behind these samples.

    So the same launches, captured once, make the next samples each time that they are replayed.
    `state` is int32 [WORDS] as `words` has it, on the device of `out`. That may be in 16 bits too,
    if they need not be normalised: each number rounded, to the nearest.
    """
    n, size = out.shape
    total_blocks = n * ((size + 3) // 4)
    programs = triton.cdiv(total_blocks, BLOCK)
    _fill_next_kernel[(programs,)](
        out,
        state,
        n,
        size,
        total_blocks,
        KIND=NORMAL.value if kind == HYPERSPHERE.value else kind,
        BLOCK=BLOCK,
        ADVANCES=programs == 1,  # where there are several, all have to have read it: see below
        enable_fp_fusion=False,
    )
    _normalise(kind, out)
    if programs > 1:
        _advance_kernel[(1,)](state, n, num_warps=1)


def _normalise(kind: int, out: torch.Tensor) -> None:
    if kind == HYPERSPHERE.value:
        n, size = out.shape
        _normalise_kernel[(triton.cdiv(n, BLOCK_ROWS),)](
            out, n, size, ROWS=BLOCK_ROWS, enable_fp_fusion=False
        )


def _signed(word: int) -> int:
    """The lower 32 bits as a signed number: an argument of the same type whatever its value."""
    word &= 0xFFFFFFFF
    return word - (1 << 32) if word >> 31 else word
