"""Launches that begin before the one before them has ended (programmatic dependent launch).

A dependent launch's programs take their places as soon as those of the launch before have begun, or
ended, and wait there until all that it has written can be seen: what is saved is the time between
one launch's end and the next one's begin, of which a batch of 1 has a node's worth each. Whatever
is launched in the usual way behind a dependent one waits for its end, and with it for all before.
Compute capability 9.0 and later; a kernel that is not launched so passes both instructions by.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .types import IS_INTERPRETED


@triton.jit
def begin(DEPENDENT: tl.constexpr):
    """Before anything is read or written: wait for the launch before, let the next one begin."""
    if DEPENDENT and not IS_INTERPRETED:
        gdc_wait()
        gdc_launch_dependents()
