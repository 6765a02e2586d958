"""The name under which `Input` and its kin are public; they live in `fastgan.model.signature`."""

from fastgan.model.signature import Basis, Input, Output, Signature

__all__ = ["Basis", "Input", "Output", "Signature"]
