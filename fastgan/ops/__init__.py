"""ONNX operators on torch tensors, one file per family."""

from fastgan.ops.registry import Op, all_ops, find, register

__all__ = ["Op", "all_ops", "find", "register"]
