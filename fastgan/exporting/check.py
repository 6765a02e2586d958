"""The checks that an exported file passes before it takes its place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from fastgan.errors import FastganError, UnsupportedError
from fastgan.model.signature import Input, Signature

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

OPEN_SIZE = 64  # what an open height or width is traced at; it is checked at half as much more
_LARGEST_DIFFERENCE = {"float64": 1e-6, "float32": 1e-4, "float16": 2e-2}


def check(file: Path, batch: int | None = None) -> None:
    """Refuse a file that is not valid ONNX, or, where no batch was asked for, whose is not open."""
    import onnx
    import onnx_ir as ir

    try:
        onnx.checker.check_model(os.fspath(file))
    except onnx.checker.ValidationError as error:
        raise UnsupportedError(file.name, first_lines(error), "valid ONNX") from error
    if batch is None:
        check_batch_open(ir.load(file), file.name)


def check_batch_open(model: ir.Model, where: str) -> None:
    """Refuse a Reshape that takes data that came in to a shape with nothing left open.

    That is how a batch gets frozen: `view(2, 256, 4, 4)` for the batch of 2 it was traced with.
    """
    depends = {value for value in model.graph.inputs if not value.is_initializer()}
    for node in model.graph:
        if node.op_type in ("Shape", "Size") or depends.isdisjoint(node.inputs):
            continue
        depends.update(node.outputs)
        target = _constant_shape(node.inputs[1]) if node.op_type == "Reshape" else None
        if target is not None and all(size > 0 for size in target) and node.inputs[0] in depends:
            line = node.metadata_props.get("pkg.torch.onnx.stack_trace", "").strip().splitlines()
            code = f" ({line[-1].strip()})" if line else ""
            found = f"a Reshape to {list(target)}, which holds the batch fixed{code}"
            instead = "write -1 or x.size(0) where the batch is"
            raise UnsupportedError(f"{where}, node {node.name!r}", found, "an open batch", instead)


def _constant_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    import onnx_ir as ir

    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tuple(int(size) for size in tensor.numpy().reshape(-1))


def compare(module: torch.nn.Module, file: Path, signature: Signature) -> None:
    """Run the file at two batch sizes, and refuse it where it differs from the module."""
    try:
        import onnxruntime
    except ImportError:
        return
    import numpy as np

    limit = _LARGEST_DIFFERENCE.get(signature.outputs[0].dtype)
    if limit is None or _draws_random_numbers(file):  # then there is no one right output
        return
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    where = f"{file.name} in ONNX Runtime"
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for batch, open_size in ((1, OPEN_SIZE), (3, OPEN_SIZE * 3 // 2)):
            examples = examples_of(module, signature.inputs, batch, open_size)
            feeds = {
                port.name: tensor.cpu().numpy()
                for port, tensor in zip(signature.inputs, examples, strict=True)
            }
            found = np.asarray(session.run(None, feeds)[0])
            needed = module(*examples).cpu().numpy()
            where = f"{file.name} at batch {batch}"
            if found.shape != needed.shape:
                raise UnsupportedError(where, f"{found.shape}", f"the module's {needed.shape}")
            difference = float(np.abs(found - needed).max())
            if not difference <= limit * max(1.0, float(np.abs(needed).max())):
                text = f"a largest difference of {difference:.3g} from the module's output"
                raise UnsupportedError(where, text, f"at most {limit:g}, relative to its maximum")
    except FastganError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no common base; they name the node
        instead = "change the module, or verify=False"
        raise UnsupportedError(where, first_lines(error), "a run", instead) from error


def _draws_random_numbers(file: Path) -> bool:
    import onnx_ir as ir

    return any(node.op_type.startswith("Random") for node in ir.load(file).graph.all_nodes())


def examples_of(
    module: torch.nn.Module, inputs: Sequence[Input], batch: int, open_size: int
) -> tuple[torch.Tensor, ...]:
    """One tensor per input, drawn as the input says, on the module's device."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    draw = torch.Generator().manual_seed(batch)
    tensors = []
    for port in inputs:
        sizes = [size if isinstance(size, int) else open_size for size in port.shape]
        if port.shape and isinstance(port.shape[0], str):
            sizes[0] = batch
        dtype = getattr(torch, port.dtype)
        if dtype.is_floating_point:
            tensor = torch.randn(sizes, generator=draw)
            tensor = torch.tanh(tensor) if port.kind in ("image", "mask") else tensor
        else:
            tensor = torch.randint(port.classes or 2, sizes, generator=draw)
        tensors.append(tensor.to(device, dtype))
    return tuple(tensors)


def first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:400] or type(error).__name__
