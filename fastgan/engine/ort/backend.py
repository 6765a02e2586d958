"""The `ort` backend: ONNX Runtime runs the checked file as it is. The fallback."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.engine.base import Target
from fastgan.engine.ort.versions import stamp_down
from fastgan.errors import BackendError, Refusal
from fastgan.host import forks
from fastgan.images.format import ImageFormat, as_asked
from fastgan.model.file import ModelFile
from fastgan.plan import Plan

name = "ort"
devices = ("cpu", "cuda")

_INSTALL = "pip install 'fastgan[cpu]', or 'fastgan[gpu]' for an NVIDIA GPU (never both)"


def accepts(
    model: ModelFile, target: Target, shapes: Mapping[str, tuple[int, ...]]
) -> Refusal | None:
    """Takes every model that ONNX Runtime makes a session of."""
    if target.precision != "fp32":
        return Refusal(
            name, "precision", target.precision, "fp32: a file runs in its own precision"
        )
    try:
        runtime = _runtime()
        if target.device.type == "cuda" and not _cuda_provider(runtime):
            return Refusal(
                name,
                "ONNX Runtime's providers",
                ", ".join(runtime.get_available_providers()),
                "CUDAExecutionProvider",
            )
        _session(model, target)
    except BackendError as error:
        return Refusal(name, error.where, error.found, error.needed)
    return None


def compile(
    model: ModelFile, target: Target, shapes: Mapping[str, tuple[int, ...]]
) -> SessionExecutable:
    """A session serves every shape, so it is made once per model and target."""
    return SessionExecutable(lambda: _session(model, target), target.device)


class SessionExecutable:
    """An ONNX Runtime session behind the face of an executable."""

    plan: Plan | None = None

    def __init__(self, session: Callable[[], Any], device: torch.device) -> None:
        self._session, self.device = session, device
        self._names = [output.name for output in session().get_outputs()]
        self._dtypes = {i.name: _NUMPY_DTYPES.get(i.type) for i in session().get_inputs()}

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the session; on a CPU neither the inputs nor the outputs are copied."""
        feeds = {key: self._feed(key, tensor) for key, tensor in inputs.items()}
        results = self._session().run(self._names, feeds)
        return {
            key: torch.from_numpy(np.asarray(result)).to(self.device)
            for key, result in zip(self._names, results, strict=True)
        }

    def images(
        self, inputs: Mapping[str, Tensor], image: ImageFormat, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `Executable.images`: the file's own precision, so no guard."""
        return as_asked(self(inputs)[image.name], image), None

    def first_nonfinite(self, inputs: Mapping[str, Tensor]) -> str | None:
        """ONNX Runtime shows no intermediate results, so no node can be named."""
        return None

    def _feed(self, key: str, tensor: Tensor) -> np.ndarray[Any, Any]:
        array: np.ndarray[Any, Any] = tensor.detach().cpu().contiguous().numpy()
        dtype = self._dtypes.get(key)
        return array if dtype is None else array.astype(dtype, copy=False)


_NUMPY_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise BackendError("onnxruntime", "not installed", _INSTALL) from None
    if not hasattr(onnxruntime, "InferenceSession"):
        # What is left when one of onnxruntime and onnxruntime-gpu was removed after the other
        # had overwritten its files.
        raise BackendError(
            "onnxruntime", "an empty package", f"pip uninstall onnxruntime, then {_INSTALL}"
        )
    return onnxruntime


def _cuda_provider(runtime: Any) -> bool:
    return "CUDAExecutionProvider" in runtime.get_available_providers()


def _session(model: ModelFile, target: Target) -> Any:
    """The session of this model, made once per target and process: it stands on threads.

    Raises:
        BackendError: ONNX Runtime is not installed, or refuses the model.
    """
    key = f"ort.{target.device}.{os.getpid()}"
    if key not in model.model.meta:
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # its warnings are about its own fallbacks, not ours
        providers: list[Any] = ["CPUExecutionProvider"]
        if target.device.type == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": target.device.index or 0}))
        made = _open(runtime, model, options, providers)
        model.model.meta[key] = forks.never_freed_in_a_child(made)
    return model.model.meta[key]


def _open(runtime: Any, model: ModelFile, options: Any, providers: list[Any]) -> Any:
    """A session; where the runtime knows only older versions, of the model stamped down."""
    source: str | bytes | None = model.to_runtime()
    refusals = ""
    while source is not None:
        try:
            return runtime.InferenceSession(source, options, providers=providers)
        except Exception as error:  # ONNX Runtime's errors have no common base
            if str(error) in refusals:
                break
            refusals += str(error)
            last = error
            # All refusals so far: the IR version is refused first, the opset after it.
            source = stamp_down(model, refusals)
    raise BackendError("ONNX Runtime", _one_line(last), "a model that it accepts") from last


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
