"""The others on the same weights and inputs: eager PyTorch, its graphs, its compiler, ONNX Runtime.

Inputs already lie on the device; a run's result stays there.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.gpu.timing import Run

Make = Callable[[nn.Module, Path, Tensor], Run]


def _settings(tf32: bool) -> None:
    """The settings of the whole process, for whatever is measured next."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32


def eager(dtype: torch.dtype = torch.float32, tf32: bool = False, last: bool = False) -> Make:
    """PyTorch op by op; `last`: in channels-last."""

    def make(module: nn.Module, path: Path, x: Tensor) -> Run:
        _settings(tf32)
        model, given = _placed(module, x, dtype, last)

        def run() -> Tensor:
            with torch.inference_mode():
                return model(given)

        return run

    return make


def graphed(inner: Make) -> Make:
    """Another one's run captured as a CUDA graph."""

    def make(module: nn.Module, path: Path, x: Tensor) -> Run:
        if x.device.type != "cuda":
            raise RuntimeError("CUDA graphs need a GPU")
        run = inner(module, path, x)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run()

        def replay() -> object:
            graph.replay()
            return result

        return replay

    return make


def compiled(dtype: torch.dtype, mode: str | None, tf32: bool = False) -> Make:
    """torch.compile, with static shapes; "max-autotune" captures CUDA graphs by itself."""

    def make(module: nn.Module, path: Path, x: Tensor) -> Run:
        _settings(tf32)
        torch._dynamo.reset()
        model, given = _placed(module, x, dtype, dtype != torch.float32)
        if x.device.type == "cuda":
            fast = torch.compile(model, mode=mode, dynamic=False)
        else:  # a rehearsal
            fast = torch.compile(model, backend="eager", dynamic=False)

        def run() -> Tensor:
            with torch.inference_mode():
                if mode is not None:
                    torch.compiler.cudagraph_mark_step_begin()
                return fast(given)

        return run

    return make


def onnxruntime(module: nn.Module, path: Path, x: Tensor) -> Run:
    """ONNX Runtime on the file, inputs and outputs bound to the device."""
    import onnxruntime as runtime

    provider = "CUDAExecutionProvider" if x.device.type == "cuda" else "CPUExecutionProvider"
    if provider not in runtime.get_available_providers():
        raise RuntimeError(f"no {provider} in this onnxruntime")
    session = runtime.InferenceSession(str(path), providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"{provider} could not be used")
    binding = session.io_binding()
    given = x.contiguous()
    binding.bind_input(
        session.get_inputs()[0].name,
        x.device.type,
        x.device.index or 0,
        "float32",
        list(given.shape),
        given.data_ptr(),
    )
    for output in session.get_outputs():
        binding.bind_output(output.name, x.device.type, x.device.index or 0)

    def run() -> object:
        session.run_with_iobinding(binding)
        return given

    return run


HALF = torch.float16
PEERS: dict[str, Make] = {
    "eager fp32": eager(),
    "eager fp16 channels-last graph": graphed(eager(HALF, last=True)),
    "eager fp16 channels-last": eager(HALF, last=True),
    "eager tf32": eager(tf32=True),
    "eager fp32 graph": graphed(eager()),
    "eager tf32 graph": graphed(eager(tf32=True)),
    "compile fp16": compiled(HALF, None),
    "compile fp16 max-autotune": compiled(HALF, "max-autotune"),
    "onnxruntime": onnxruntime,
}


def _placed(
    module: nn.Module, x: Tensor, dtype: torch.dtype, last: bool
) -> tuple[nn.Module, Tensor]:
    layout = torch.channels_last if last else torch.contiguous_format
    model = copy.deepcopy(module).eval().to(x.device, dtype)
    if last:
        model = model.to(memory_format=layout)  # type: ignore[call-overload]
    given = x.to(dtype)
    return model, given.contiguous(memory_format=layout) if given.dim() == 4 else given


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """True fp32 in PyTorch's own ops, for references."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
