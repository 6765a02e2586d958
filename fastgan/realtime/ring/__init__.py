"""Frames in shared memory, for another process (csrc/include/fastgan_frames.h)."""
