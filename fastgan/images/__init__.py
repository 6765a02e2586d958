"""Tensors to pictures and back: pixels, files, tiles."""
