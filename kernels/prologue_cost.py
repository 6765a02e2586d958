"""When a convolution should normalise its input itself: the rule, until a tuner has measured."""

from __future__ import annotations

# Times that an element may be normalised in place of one pass over the image: see `pays`.
MOST_TIMES = 3.0


def pays(taps: int, column_tiles: int, out_pixels: int, in_pixels: int) -> bool:
    """Whether a convolution should normalise its input rather than have a pass do it beforehand.

    A pass reads and writes each element, 4 bytes in 16 bits, once. In the convolution an element is
    normalised for every tap that reads it and every tile of columns, by about 8 instructions in
    sm_90's code (15 in sm_80's, whose warps share rows; from the static report's loops). An H100
    issues 132 * 128 * 1.7e9 of them a second while it moves 3.35e12 bytes: 8.6 for a byte. So one
    time costs 8 / (4 * 8.6) = 0.23 passes, and 4.3 times are even (an A100: 3.4; an RTX 4090, with
    more arithmetic for a byte, 11), the pass's launch left out of account. Less than that, to be
    safe: 1x1 convolutions of a few column tiles, and 3x3 ones of stride 2 of one. The tuner
    measures both.
    """
    return taps * column_tiles * out_pixels <= MOST_TIMES * in_pixels
