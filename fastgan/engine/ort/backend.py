"""The `ort` backend: ONNX Runtime runs the checked file as it is. The fallback."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.engine.base import Backend, Executable, Session, Target
from fastgan.engine.ort.versions import stamp_down
from fastgan.errors import ArgumentError, BackendError, FastganError, Refusal, UnsupportedError
from fastgan.host import forks
from fastgan.images.format import ImageFormat, as_asked
from fastgan.model.file import ModelFile
from fastgan.model.opened import Model
from fastgan.model.signature import Shapes
from fastgan.ops.random import draws_noise
from fastgan.plan.batch import as_declared

_INSTALL = "pip install 'fastgan[cpu]', or 'fastgan[gpu]' for an NVIDIA GPU (never both)"


class OrtSession(Session):
    """A runtime's session serves every shape; there is one per process: it stands on threads."""

    plans = False
    owns_batch = True
    shared: dict[int, Any]

    def share(self) -> dict[int, Any]:
        """See `Session.share`: the runtime's sessions by process."""
        return {}

    @property
    def owns_noise(self) -> bool:
        """See `Session.owns_noise`."""
        return draws_noise(self.model.file.model)

    def __str__(self) -> str:
        return "ONNX Runtime"

    def compile(self, shapes: Shapes, target: Target) -> SessionExecutable:
        """The runtime's session behind the face of an executable."""
        return SessionExecutable(self.runtime, target.device)

    def runtime(self) -> Any:
        """The runtime's session of this process.

        Raises:
            BackendError: ONNX Runtime is not installed, or refuses the model.
        """
        if os.getpid() not in self.shared:
            made = _session(self.model.file, self.target)
            self.shared[os.getpid()] = forks.never_freed_in_a_child(made)
        return self.shared[os.getpid()]


class OrtBackend(Backend):
    """Takes every model that ONNX Runtime makes a session of."""

    name = "ort"
    devices = ("cpu", "cuda")
    precisions = ("fp32",)
    session = OrtSession

    def lacks(self, target: Target) -> Refusal | None:
        """See `Backend.lacks`."""
        if target.precision not in self.precisions:
            needed = "fp32: a file runs in its own precision"
            return Refusal(self.name, "precision", target.precision, needed)
        try:
            runtime = _runtime()
        except BackendError as error:
            return Refusal(self.name, error.where, error.found, error.needed)
        if target.device.type == "cuda" and not _cuda_provider(runtime):
            found = ", ".join(runtime.get_available_providers())
            needed = "CUDAExecutionProvider"
            return Refusal(self.name, "ONNX Runtime's providers", found, needed)
        return None

    def open(self, model: Model, target: Target, shared: Any = None) -> Session | Refusal:
        """See `Backend.open`: the runtime holds a file to the shapes that it declares."""
        if model.declared.frozen_batch is not None:
            model = replace(model, signature=as_declared(model.file.model, model.declared))
        session = super().open(model, target, shared)
        if isinstance(session, OrtSession):
            runtime = session.runtime()
            for port in (*runtime.get_inputs(), *runtime.get_outputs()):
                if _STRANGE.match(port.type):
                    return Refusal(self.name, f"{port.name!r}", port.type, "a type that NumPy has")
        return session


BACKEND = OrtBackend()


class SessionExecutable(Executable):
    """An ONNX Runtime session behind the face of an executable."""

    def __init__(self, session: Callable[[], Any], device: torch.device) -> None:
        self._session, self.device = session, device
        self._names = [output.name for output in session().get_outputs()]
        self._dtypes = {i.name: _NUMPY_DTYPES.get(i.type) for i in session().get_inputs()}

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the session; on a CPU neither the inputs nor the outputs are copied.

        Raises:
            ArgumentError: ONNX Runtime refuses the inputs, by their sizes or their values.
            BackendError: it fails at anything else.
            UnsupportedError: an output is not numbers.
        """
        runtime = _runtime()
        feeds = {key: self._feed(key, tensor) for key, tensor in inputs.items()}
        options = runtime.RunOptions()
        options.log_severity_level = _SILENT
        try:
            results = self._session().run(self._names, feeds, options)
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise _failure(error, f"ONNX Runtime on {_shapes_text(inputs)}") from error
        return {
            key: _numbers(key, result).to(self.device)
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


#: What ONNX Runtime computes in, and neither takes from Python nor gives to it.
_STRANGE = re.compile(r"tensor\((bfloat16|float8.*|float4.*|u?int[24])\)")

#: Of ONNX Runtime's log, "fatal": what it has to say of a failure is in what it raises.
_SILENT = 4
_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : (\w+) : ")
_AT_NODE = re.compile(
    r"Non-zero status code returned while running (\S+) node\. Name:'(.*?)' Status Message: "
)
#: What stands before a failed check's own words: where in its source that check is.
_IN_SOURCE = re.compile(r"/\S+:\d+ .*? was false\. ")


def _failure(error: Exception, where: str) -> FastganError:
    """What ONNX Runtime raised in a run, as ours: its node is the place, where it names one."""
    text = " ".join(str(error).split())
    code = _CODE.match(text)
    text = _CODE.sub("", text, 1)
    if at := _AT_NODE.match(text):
        where = f"node {at[2]!r} ({at[1]}), run by {where}"
        text = _IN_SOURCE.sub("", text[at.end() :])
    kind = ArgumentError if code and code[1] == "INVALID_ARGUMENT" else BackendError
    found = text[:300] or type(error).__name__
    return kind(where, found, "inputs that the model takes, and a model that fits together")


def _shapes_text(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())


def _numbers(name: str, result: Any) -> Tensor:
    """An output of ONNX Runtime as a tensor."""
    try:
        array = np.asarray(result)
        # By its plain name: of C's types of 64 bits PyTorch knows one, ONNX Runtime gives another.
        return torch.from_numpy(array.view(array.dtype.str))
    except (TypeError, ValueError):  # text, a sequence, an optional that is none
        kind = getattr(result, "dtype", type(result).__name__)
        raise UnsupportedError(f"output {name!r}", f"{kind}", "a tensor of numbers") from None


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


def profiled(model: ModelFile, target: Target, prefix: str) -> Any:
    """A session of its own whose `end_profiling` names a file, begun with `prefix`, of its nodes'
    times. Raises as `_session`.
    """
    return _session(model, target, prefix)


def _session(model: ModelFile, target: Target, profile: str | None = None) -> Any:
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _SILENT
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    providers: list[Any] = ["CPUExecutionProvider"]
    if target.device.type == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": target.device.index or 0}))
    return _open(runtime, model, options, providers)


def _open(runtime: Any, model: ModelFile, options: Any, providers: list[Any]) -> Any:
    """A session; where the runtime knows only older versions, of the model stamped down."""
    source: str | bytes | None = _source(model, options)
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


def _source(model: ModelFile, options: Any) -> str | bytes:
    """What a session is made of: never of files that may be others by now, where it knows how."""
    give = getattr(options, "add_external_initializers_from_files_in_memory", None)
    if give is None or not model.external:
        return model.to_runtime()
    data, files = model.in_memory()
    give(list(files), [file.data for file in files.values()], [f.data.size for f in files.values()])
    return data


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
