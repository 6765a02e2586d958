"""Kernels on CUDA: a plan's steps bound to launches."""
