"""The `ort` backend: ONNX Runtime runs the checked file as it is. The fallback.

No tensor is copied on its way: on a CPU the runtime takes NumPy's arrays as they are, elsewhere
inputs and outputs are bound where they lie.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.engine.base import Backend, Executable, Session, Target
from fastgan.engine.library import backend as library
from fastgan.engine.ort.versions import stamp_down
from fastgan.errors import (
    ArgumentError,
    BackendError,
    FastganError,
    Refusal,
    UnsupportedError,
    one_line,
)
from fastgan.host import forks
from fastgan.model.file import ModelFile
from fastgan.model.opened import Model
from fastgan.model.signature import Shapes
from fastgan.ops.random import draws_noise
from fastgan.ops.registry import holds
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

    def compile(self, shapes: Shapes, target: Target) -> Executable:
        """The runtime's session behind the face of an executable.

        Raises:
            UnsupportedError: nothing goes into a layer at which the runtime ends the process then,
                and there is no plan either.
        """
        if any(0 in shape for shape in shapes.values()) and _is_recurrent(self.model.file):
            return _empty(self.model.file, shapes, target)
        return SessionExecutable(self.runtime, target.device)

    def runtime(self) -> Any:
        """The runtime's session of this process.

        Raises:
            BackendError: ONNX Runtime is not installed, or refuses the model.
        """
        if os.getpid() not in self.shared:
            made = open_session(self.model.file, self.target)
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
        for name in map(_name, _providers(target)):
            if name != _CPU and name not in runtime.get_available_providers():
                found = ", ".join(runtime.get_available_providers())
                return Refusal(self.name, "ONNX Runtime's providers", found, name)
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
        self._binds = device.type != "cpu"
        self._names = [output.name for output in session().get_outputs()]
        self._dtypes = {i.name: _DTYPES.get(i.type) for i in session().get_inputs()}

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the session, on the inputs and to the outputs where they lie.

        Raises:
            ArgumentError: ONNX Runtime refuses the inputs, by their sizes or their values.
            BackendError: it fails at anything else.
            UnsupportedError: an output is not numbers.
        """
        options = _runtime().RunOptions()
        options.log_severity_level = _SILENT
        given = {key: self._feed(key, tensor) for key, tensor in inputs.items()}
        run = self._bound if self._binds else self._plain
        try:
            made = run(self._session(), given, options)
        except Exception as error:  # ONNX Runtime's errors have no common base
            shapes = ", ".join(f"{name} {list(t.shape)}" for name, t in inputs.items())
            raise _failure(error, f"ONNX Runtime on {shapes}") from error
        take = _tensor if self._binds else _numbers
        return {key: take(key, value) for key, value in zip(self._names, made, strict=True)}

    def _plain(self, session: Any, given: Mapping[str, Tensor], options: Any) -> Any:
        """Outputs as NumPy has them: a binding costs more calls than a small model takes."""
        return session.run(self._names, {key: t.numpy() for key, t in given.items()}, options)

    def _bound(self, session: Any, given: Mapping[str, Tensor], options: Any) -> Any:
        """Outputs as values of ONNX Runtime, on the device."""
        place, binding = (self.device.type, self.device.index or 0), session.io_binding()
        for key, tensor in given.items():
            kind, shape = self._dtypes.get(key, _NUMPY[tensor.dtype]), list(tensor.shape)
            # ONNX Runtime takes no null, which an empty tensor's address is.
            address = tensor.data_ptr() or _NOTHING.data_ptr()
            binding.bind_input(key, *place, kind, shape, address)
        for name in self._names:
            binding.bind_output(name, *place)
        if self.device.type == "cuda":  # its stream is another one than torch's
            torch.cuda.current_stream(self.device).synchronize()
        session.run_with_iobinding(binding, options)
        binding.synchronize_outputs()
        return binding.get_outputs()

    def first_nonfinite(self, inputs: Mapping[str, Tensor]) -> str | None:
        """ONNX Runtime shows no intermediate results, so no node can be named."""
        return None

    def _feed(self, key: str, tensor: Tensor) -> Tensor:
        kind = self._dtypes.get(key)
        dtype = tensor.dtype if kind is None else _TORCH[kind]
        return tensor.detach().to(self.device, dtype).contiguous()


#: NumPy's types by ONNX Runtime's names for them in a tensor, and PyTorch's by NumPy's.
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64,
    "tensor(uint32)": np.uint32,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(complex64)": np.complex64,
    "tensor(complex128)": np.complex128,
}
_TORCH = {kind: torch.from_numpy(np.empty(0, kind)).dtype for kind in _DTYPES.values()}
_NUMPY = {dtype: kind for kind, dtype in _TORCH.items()}

#: What an empty tensor is said to lie at.
_NOTHING = torch.empty(1)


#: What ONNX Runtime computes in, and neither takes from Python nor gives to it.
_STRANGE = re.compile(r"tensor\((bfloat16|float8.*|float4.*|u?int[24])\)")

#: Of ONNX Runtime's log, "fatal": what it has to say of a failure is in what it raises.
_SILENT = 4
#: What stands before the words; a run on bound tensors leaves the code out.
_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : (\w+) : |Error in execution: ")
_REFUSED = re.compile(r"(Invalid rank|Got invalid dimensions) for input")
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
    refused = (code and code[1] == "INVALID_ARGUMENT") or _REFUSED.match(text)
    kind = ArgumentError if refused else BackendError
    found = text[:300] or type(error).__name__
    return kind(where, found, "inputs that the model takes, and a model that fits together")


@dataclass(frozen=True, slots=True)
class _Lent:
    """Memory of ONNX Runtime's as NumPy and PyTorch take it over, on a CPU and on a GPU."""

    value: Any
    __array_interface__: Mapping[str, Any]
    __cuda_array_interface__: Mapping[str, Any]


def _tensor(name: str, value: Any) -> Tensor:
    """An output of ONNX Runtime as a tensor on its memory.

    Raises:
        UnsupportedError: it is text, a sequence, or an optional that is none.
    """
    kind = value.data_type() if value.has_value() else "nothing"
    dtype = _DTYPES.get(kind)
    if dtype is None:
        raise UnsupportedError(f"output {name!r}", kind, "a tensor of numbers")
    shape = tuple(value.shape())
    on_cpu = value.device_name().lower() == "cpu"
    if 0 in shape:
        return torch.empty(shape, dtype=_TORCH[dtype], device="cpu" if on_cpu else "cuda")
    facts = {"shape": shape, "typestr": np.dtype(dtype).str, "version": 3}
    lent = _Lent(value, *2 * ({**facts, "data": (value.data_ptr(), False)},))
    return torch.from_numpy(np.asarray(lent)) if on_cpu else torch.as_tensor(lent, device="cuda")


def _numbers(name: str, result: Any) -> Tensor:
    """An output as NumPy has it, as a tensor.

    Raises:
        UnsupportedError: it is text, a sequence, or an optional that is none.
    """
    try:
        array = np.asarray(result)
        # By its plain name: of C's types of 64 bits PyTorch knows one, ONNX Runtime gives another.
        return torch.from_numpy(array.view(array.dtype.str))
    except (TypeError, ValueError):
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


#: What every ONNX Runtime has.
_CPU = "CPUExecutionProvider"


def _providers(target: Target) -> list[Any]:
    """The providers asked for, or the device's own; what they leave is a CPU's."""
    place = {"device_id": target.device.index or 0}
    own = [("CUDAExecutionProvider", place)] if target.device.type == "cuda" else []
    found: dict[str, Any] = {}
    for provider in (*target.providers, *own, _CPU):
        found.setdefault(_name(provider), provider)
    return [*found.values()]


def _name(provider: Any) -> str:
    return provider if isinstance(provider, str) else str(provider[0])


def open_session(model: ModelFile, target: Target, profile: str | None = None) -> Any:
    """A session of ONNX Runtime's.

    Args:
        profile: how the name of a file begins that `end_profiling` writes its nodes' times to.

    Raises:
        BackendError: ONNX Runtime, or a provider, is not there, or refuses the model.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = target.threads or torch.get_num_threads()
    options.log_severity_level = _SILENT
    # Weights of 8 bits are multiplied in float32, as the file says; else their inputs are rounded.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    session = _open(runtime, model, options, _providers(target))
    used = session.get_providers()
    for provider in map(_name, target.providers):
        if provider not in used:  # it only logs that a library is missing, and goes on without
            found = f"{provider} did not come up: it runs on {', '.join(used)}"
            raise BackendError("ONNX Runtime's providers", found, "the libraries that it needs")
    return session


def _open(runtime: Any, model: ModelFile, options: Any, providers: list[Any]) -> Any:
    """A session; where the runtime knows only older versions, of the model stamped down."""
    source: str | bytes | None = _source(model, options)
    # It makes one of equal constants, over two of which a training norm writes its statistics.
    less = {"disabled_optimizers": ["ConstantSharing"]} if _trains(model) else {}
    refusals = ""
    while source is not None:
        try:
            return runtime.InferenceSession(source, options, providers=providers, **less)
        except Exception as error:  # ONNX Runtime's errors have no common base
            if str(error) in refusals:
                break
            refusals += str(error)
            last = error
            # All refusals so far: the IR version is refused first, the opset after it.
            source = stamp_down(model, refusals)
    raise BackendError("ONNX Runtime", one_line(last), "a model that it accepts") from last


def _is_recurrent(model: ModelFile) -> bool:
    """Whether there is a layer at which the runtime ends the process where no rows come in."""
    return holds(model.model, ("GRU", "LSTM"))


def _empty(model: ModelFile, shapes: Shapes, target: Target) -> Executable:
    """What runs a call of no rows, or of sequences of no steps, in the runtime's place."""
    try:
        return library.compile(model, target, shapes)
    except UnsupportedError as error:
        given = ", ".join(f"{name} {[*shape]}" for name, shape in shapes.items())
        needed = "rows, since ONNX Runtime ends the process at a recurrent layer without"
        raise UnsupportedError(error.where, f"inputs {given}; {error.found}", needed) from error


def _trains(model: ModelFile) -> bool:
    """Whether there is a norm in training mode."""
    nodes = model.model.graph.all_nodes()
    norms = (node for node in nodes if node.op_type == "BatchNormalization")
    return any(node.attributes.get_int("training_mode", 0) for node in norms)


def _source(model: ModelFile, options: Any) -> str | bytes:
    """What a session is made of: never of files that may be others by now, where it knows how."""
    give = getattr(options, "add_external_initializers_from_files_in_memory", None)
    if give is None or not model.external:
        return model.to_runtime()
    data, files = model.in_memory()
    # One name for each, as it has them: "./w" is "w".
    files = {os.path.normpath(location): file for location, file in files.items()}
    give(list(files), [file.data for file in files.values()], [f.data.size for f in files.values()])
    return data
