"""The others: the same model on ONNX Runtime, PyTorch, torch.compile, OpenVINO, ncnn and TensorRT.

Each peer is fed inputs made beforehand, and its result is one array or tensor for the whole batch.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.errors import one_line
from fastgan.measure.reference import as_module
from fastgan.measure.subject import example_inputs
from fastgan.measure.timing import Run
from fastgan.model.opened import Model
from fastgan.model.signature import Shapes

#: Makes the model as a PyTorch module for a batch of n; its inputs are the model's, in order.
ModuleMaker = Callable[[int], nn.Module]


class MissingError(Exception):
    """Why a peer does not take part."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of making images.

    Attributes:
        name: short, for tables.
        what: what exactly is timed.
        prepare: for a batch of n, what to time.
        precision: what it computes in; None where it chooses itself.
    """

    name: str
    what: str
    prepare: Callable[[int], Run]
    precision: str | None = "fp32"


@dataclass(frozen=True, slots=True)
class Setting:
    """What all peers share.

    Attributes:
        module: the model as a PyTorch module, and what that is, in words.
        threads: how many CPU threads each may use.
    """

    model: Model
    device: torch.device
    threads: int
    module: ModuleMaker
    module_is: str


def registry_module(model: Model) -> tuple[ModuleMaker, str]:
    """The model's nodes as PyTorch ops, for files of which nobody has the original module."""
    return (lambda n: as_module(model, n)), "the file's nodes as PyTorch ops, nothing fused"


def onnxruntime(setting: Setting) -> Contender:
    """A session with default options on the file as it is, with the same number of threads."""
    try:
        import onnxruntime as runtime
    except ImportError:
        raise MissingError("not installed") from None
    if not hasattr(runtime, "InferenceSession"):
        raise MissingError("an empty package: see 'fastgan doctor'")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    providers = ["CPUExecutionProvider"]
    if setting.device.type == "cuda":
        providers.insert(0, "CUDAExecutionProvider")
    try:
        session = runtime.InferenceSession(
            setting.model.file.to_runtime(), options, providers=providers
        )
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise MissingError(one_line(error)) from None
    used = session.get_providers()[0]

    def prepare(n: int) -> Run:
        feeds = {name: array.numpy() for name, array in example_inputs(setting.model, n).items()}
        names = [setting.model.output.name]
        return lambda: session.run(names, feeds)

    return Contender("onnxruntime", f"plain session, {used}, fed latents", prepare)


def eager(setting: Setting) -> Contender:
    """PyTorch, op by op."""

    def prepare(n: int) -> Run:
        return _torch_run(setting.module(n).to(setting.device), setting, n)

    return Contender("eager", f"PyTorch on {setting.module_is}, fed latents", prepare)


def compiled(setting: Setting) -> Contender:
    """torch.compile with default options, for each batch size on its own."""
    if setting.device.type == "cpu" and shutil.which("g++") is None:
        raise MissingError("no g++ on the path, which its CPU code needs")

    def prepare(n: int) -> Run:
        torch._dynamo.reset()
        module = torch.compile(setting.module(n).to(setting.device), dynamic=False)
        return _torch_run(module, setting, n)

    return Contender("compile", f"torch.compile of {setting.module_is}, fed latents", prepare)


def openvino(setting: Setting, precision: str = "fp32") -> Contender:
    """OpenVINO on the CPU. Left to itself it takes bf16 where the CPU has it, so it is told."""
    try:
        import openvino as ov
    except ImportError:
        raise MissingError("not installed: pip install openvino") from None
    if setting.device.type != "cpu":
        raise MissingError("it does not run on NVIDIA GPUs")
    source = setting.model.file.to_runtime()
    options = {
        "INFERENCE_NUM_THREADS": setting.threads,
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = ov.Core()
    try:
        model = core.read_model(source)
    except Exception as error:  # OpenVINO raises bare RuntimeErrors
        raise MissingError(one_line(error)) from None

    def prepare(n: int) -> Run:
        shapes = setting.model.shapes(n)
        static = model.clone()
        static.reshape({static.input(name): list(shape) for name, shape in shapes.items()})
        request = core.compile_model(static, "CPU", options).create_infer_request()
        feeds = {name: array.numpy() for name, array in example_inputs(setting.model, n).items()}
        output = request.get_compiled_model().output(setting.model.output.name)
        return lambda: request.infer(feeds, share_inputs=True)[output]

    name = "openvino" if precision == "fp32" else f"openvino {precision}"
    return Contender(name, f"OpenVINO in {precision}, fed latents", prepare, precision)


def tensorrt(setting: Setting, precision: str = "fp32") -> Contender:
    """TensorRT on the GPU, an engine for each batch size; its inputs and outputs stay there.

    fp16 is a choice of TensorRT's where its version still makes it: from 11 on the types are the
    file's. What fp32 multiplies in is fp32, not tf32, as everywhere here.
    """
    if setting.device.type != "cuda":
        raise MissingError("it runs on NVIDIA GPUs alone")
    try:
        import tensorrt as trt
    except ImportError:
        raise MissingError("not installed: pip install tensorrt") from None
    half = getattr(trt.BuilderFlag, "FP16", None)
    if precision == "fp16" and half is None:
        raise MissingError(f"TensorRT {trt.__version__} takes its types from the file alone")
    source = setting.model.file.to_runtime()
    logger = trt.Logger(trt.Logger.ERROR)

    def engine(shapes: Shapes) -> Any:
        builder = trt.Builder(logger)
        # The flag that TensorRT 8 needs, and 10 ignores.
        explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        network = builder.create_network(0 if explicit is None else 1 << int(explicit))
        parser = trt.OnnxParser(network, logger)
        taken = parser.parse_from_file(source) if isinstance(source, str) else parser.parse(source)
        if not taken:
            raise RuntimeError(str(parser.get_error(0)))
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        for name, shape in shapes.items():
            profile.set_shape(name, shape, shape, shape)
        config.add_optimization_profile(profile)
        config.clear_flag(trt.BuilderFlag.TF32)
        if precision == "fp16":
            config.set_flag(half)
        built = builder.build_serialized_network(network, config)
        if built is None:
            raise RuntimeError("TensorRT builds no engine of this model")
        return trt.Runtime(logger).deserialize_cuda_engine(built)

    def prepare(n: int) -> Run:
        made = engine(setting.model.shapes(n))
        context = made.create_execution_context()
        tensors = {k: t.to(setting.device) for k, t in example_inputs(setting.model, n).items()}
        for name, tensor in tensors.items():
            context.set_input_shape(name, tuple(tensor.shape))
        names = [made.get_tensor_name(i) for i in range(made.num_io_tensors)]
        for name in names:
            if name not in tensors:
                dtype = torch.from_numpy(np.empty(0, trt.nptype(made.get_tensor_dtype(name)))).dtype
                shape = tuple(context.get_tensor_shape(name))
                tensors[name] = torch.empty(shape, dtype=dtype, device=setting.device)
            context.set_tensor_address(name, tensors[name].data_ptr())
        output = tensors[setting.model.output.name]

        def run() -> Tensor:
            if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
                raise RuntimeError("TensorRT did not run the engine")
            return output

        return run

    name = "tensorrt" if precision == "fp32" else f"tensorrt {precision}"
    return Contender(name, f"TensorRT in {precision}, fed latents", prepare, precision)


def ncnn(setting: Setting) -> Contender:
    """ncnn on the file as its converter, pnnx, understands it. It takes one sample at a time."""
    try:
        import ncnn as runtime
        import pnnx
    except ImportError:
        raise MissingError("not installed: pip install ncnn pnnx") from None
    if setting.device.type != "cpu":
        raise MissingError("it does not run on CUDA")

    def prepare(n: int) -> Run:
        samples = example_inputs(setting.model, 1)
        if any(not tensor.is_floating_point() for tensor in samples.values()):
            raise MissingError("whole numbers as inputs")
        shapes = ",".join(f"[{','.join(map(str, t.shape))}]f32" for t in samples.values())
        with tempfile.TemporaryDirectory(prefix="fastgan-ncnn-") as folder:
            file = Path(folder, "model.onnx")
            source = setting.model.file.to_runtime()
            file.write_bytes(Path(source).read_bytes() if isinstance(source, str) else source)
            command = [pnnx.EXEC_PATH, str(file), f"inputshape={shapes}", "fp16=0"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            param, weights = Path(folder, "model.ncnn.param"), Path(folder, "model.ncnn.bin")
            if done.returncode or not param.exists():
                raise MissingError(f"pnnx: {one_line(RuntimeError(done.stderr[-200:]))}")
            unknown = {line.split()[0] for line in param.read_text().splitlines()[2:]}
            left = sorted(name for name in unknown if "." in name or "::" in name)
            if left:
                raise MissingError(f"pnnx leaves {', '.join(left[:3])}")
            net = runtime.Net()
            net.opt.num_threads = setting.threads
            net.opt.use_vulkan_compute = False
            if net.load_param(str(param)) or net.load_model(str(weights)):
                raise MissingError("it does not load what pnnx made of the file")
        names = list(net.input_names())
        if len(names) != len(samples):
            raise MissingError(f"{len(samples)} inputs became {len(names)}")
        inputs = [tensor[0].contiguous().numpy() for tensor in samples.values()]
        output = net.output_names()[0]

        def run() -> Any:
            for _ in range(n):
                extractor = net.create_extractor()
                for name, array in zip(names, inputs, strict=True):
                    extractor.input(name, runtime.Mat(array))
                status, made = extractor.extract(output)
                if status:
                    raise RuntimeError(f"ncnn: status {status}")
            return made

        return run

    return Contender("ncnn", "ncnn on what pnnx makes of the file, a sample at a time", prepare)


#: Peers by the name that `--peers` takes.
PEERS: dict[str, Callable[[Setting], Contender]] = {
    "onnxruntime": onnxruntime,
    "eager": eager,
    "compile": compiled,
    "openvino": openvino,
    "openvino-bf16": lambda setting: openvino(setting, "bf16"),
    "ncnn": ncnn,
    "tensorrt": tensorrt,
    "tensorrt-fp16": lambda setting: tensorrt(setting, "fp16"),
}


def _torch_run(module: Any, setting: Setting, n: int) -> Run:
    inputs = [tensor.to(setting.device) for tensor in example_inputs(setting.model, n).values()]

    def run() -> Tensor | tuple[Tensor, ...]:
        with torch.inference_mode():
            result: Tensor | tuple[Tensor, ...] = module(*inputs)
            return result

    return run
