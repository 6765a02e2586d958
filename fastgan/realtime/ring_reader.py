"""The name that programs know the ring's reader by; it lives in `fastgan.realtime.ring`."""

from fastgan.realtime.ring.reader import RingFrame, RingReader

__all__ = ["RingFrame", "RingReader"]
