"""When a convolution should normalise its input itself: the rule, until a tuner has measured."""

from __future__ import annotations

# Times that an element may be normalised in place of one pass over the image: see `pays`.
MOST_TIMES = 2.5


def pays(taps: int, column_tiles: int, out_pixels: int, in_pixels: int) -> bool:
    """Whether a convolution should normalise its input rather than have a pass do it beforehand.

    A pass reads and writes each element, 4 bytes in 16 bits, once. In the convolution an element is
    normalised for every tap that reads it and every tile of columns: by 8 instructions in the loops
    that are compiled for sm_90, by 12 to 29 for sm_80, where warps may hold the same elements.
    An H100 issues 132 * 128 * 1.7e9 of them a second while it moves 3.35e12 bytes: 8.6 for a byte.
    So one time costs 8 / (4 * 8.6) = 0.23 passes, and 4.3 times are even; for an A100 (12.6 for a
    byte) 1.7 to 4.2, for a GPU with more arithmetic for a byte (an RTX 4090: 41) more. The pass's
    launch comes on top. None of this is measured; the limit is between: 1x1 convolutions of two
    column tiles, and 3x3 ones of stride 2 of one. The tuner measures both ways.
    """
    return taps * column_tiles * out_pixels <= MOST_TIMES * in_pixels
