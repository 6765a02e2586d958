"""From a PyTorch module to an ONNX file that says what its inputs and outputs are.

    fastgan.export(generator, "dcgan.onnx", latent=(100, 1, 1))

The batch is open, the weights are in the file, and the file is checked before it takes its place:
`onnx.checker` passes it, nothing in it holds the batch fixed, and where ONNX Runtime is installed
its output is the module's at two batch sizes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from fastgan.errors import ArgumentError, FastganError, UnsupportedError
from fastgan.exporting.check import (
    OPEN_SIZE,
    check,
    check_batch_open,
    compare,
    examples_of,
    first_lines,
)
from fastgan.host import arguments, files
from fastgan.model.signature import (
    Distribution,
    Input,
    Range,
    Signature,
    normalised_range,
)

if TYPE_CHECKING:
    import onnx_ir as ir

OUTPUT = "output"
BATCH = "batch"
_LARGEST_FILE = 2**31 - 2**20  # protobuf's limit of 2 GiB, less room for the graph itself


def export(
    module: torch.nn.Module,
    path: str | os.PathLike[str],
    *,
    latent: int | Sequence[int] | None = None,
    labels: int | None = None,
    image: Sequence[int | str] | None = None,
    mask: Sequence[int | str] | None = None,
    inputs: Sequence[Input] | None = None,
    distribution: Distribution = "normal",
    range: Range | None = None,
    class_names: Sequence[str] = (),
    batch: int | None = None,
    opset: int = 18,
    exporter: Literal["dynamo", "torchscript"] = "dynamo",
    optimize: bool = True,
    verify: bool = True,
) -> Signature:
    """Write `module` to an ONNX file with an open batch, and say in it what goes in and comes out.

    `module.forward` takes, in this order, those that are given: a latent, labels, an image, a
    mask; for anything else, say `inputs`. It returns one tensor. Module and device are left as
    they were, whatever happens.

    Args:
        module: the generator; exported as in `eval()`.
        path: the file to write; nothing is left there that failed a check.
        latent: the shape of one latent, without the batch: 100, or (100, 1, 1).
        labels: the number of classes; the input is int64 [batch].
        image: the shape of one image, (3, 64, 64); a name in place of a size leaves that open.
        mask: the shape of one mask, (1, 64, 64).
        inputs: in place of those four, every input of `forward` in order, the batch included in
            the shape as a name: `Input("w", "latent", ("batch", 18, 512))`.
        distribution: what the latent is drawn from.
        range: the lowest and the highest value of the output image, and of an image input that
            states no other. By default that of the last activation: (-1, 1) after tanh.
        class_names: the name of each class.
        batch: a number fixes it, for modules that hold it so; `load` opens it again where it finds
            that samples do not meet.
        opset: the version of ONNX's operators.
        exporter: "dynamo" needs onnxscript and gives the cleaner graph; "torchscript" is PyTorch's
            older exporter, for modules that `torch.export` does not take.
        optimize: let the dynamo exporter fold batch norms and constants.
        verify: compare the file with the module in ONNX Runtime, where that is installed.

    Returns:
        The signature that the file states.

    Raises:
        ArgumentError: the arguments contradict each other, or do not say enough.
        UnsupportedError: PyTorch cannot export the module, the batch is not open (the message
            names the node), or the file does not give the module's output.
    """
    if inputs is None:
        inputs = _usual_inputs(module, latent, labels, image, mask, distribution)
    elif any(given is not None for given in (latent, labels, image, mask)):
        raise ArgumentError("inputs", "latent, labels, image or mask beside it", "one of the two")
    if not inputs:
        needed = "latent=, labels=, image=, mask= or inputs="
        raise ArgumentError("export", "no input", needed, "for example latent=(100, 1, 1)")
    for port in inputs:
        if port.kind != "scalar" and (not port.shape or not isinstance(port.shape[0], str)):
            raise ArgumentError(f"input {port.name!r}", f"the shape {port.shape}", "an open batch")
    if batch is not None:
        fixed = arguments.whole("batch", batch)
        inputs = [replace(p, shape=(fixed, *p.shape[1:])) if p.shape else p for p in inputs]
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise ArgumentError(str(path), "no such folder", "a folder that exists")
    files.check_target("path", target)

    with _evaluation(module), torch.random.fork_rng(devices=[]), torch.no_grad():
        model = _trace(module, inputs, opset, exporter, optimize)
        signature = _signature(model, inputs, range, tuple(class_names))
        _strip(model)
        _state(model, signature)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            file = Path(folder) / target.name
            _write(model, file)
            check(file, batch)
            if verify:
                compare(module, file, signature)
            for part in sorted(Path(folder).iterdir(), key=lambda p: p == file):  # weights first
                os.replace(part, target.parent / part.name)
    return signature


def _usual_inputs(
    module: torch.nn.Module,
    latent: int | Sequence[int] | None,
    labels: int | None,
    image: Sequence[int | str] | None,
    mask: Sequence[int | str] | None,
    distribution: Distribution,
) -> list[Input]:
    floats = (p.dtype for p in module.parameters() if p.dtype.is_floating_point)
    dtype = str(next(floats, torch.float32)).removeprefix("torch.")
    found: list[Input] = []
    if latent is not None:
        sizes = _sizes("latent", latent if arguments.is_several(latent) else [latent])
        found.append(Input("latent", "latent", (BATCH, *sizes), dtype, distribution))
    if labels is not None:
        found.append(
            Input("label", "label", (BATCH,), "int64", classes=arguments.whole("labels", labels))
        )
    if image is not None:
        found.append(Input("image", "image", (BATCH, *_sizes("image", image)), dtype))
    if mask is not None:
        found.append(Input("mask", "mask", (BATCH, *_sizes("mask", mask)), dtype, range=(0.0, 1.0)))
    return found


def _sizes(name: str, given: Any) -> tuple[int | str, ...]:
    """The sizes of a shape, each a whole number or a name."""
    sizes = arguments.several(name, given, "sizes, such as (3, 64, 64)")
    return tuple(size if isinstance(size, str) else arguments.whole(name, size) for size in sizes)


@contextlib.contextmanager
def _evaluation(module: torch.nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


# ---- tracing -----------------------------------------------------------------------------------


def _trace(
    module: torch.nn.Module, inputs: Sequence[Input], opset: int, exporter: str, optimize: bool
) -> ir.Model:
    examples = examples_of(module, inputs, batch=2, open_size=OPEN_SIZE)
    shapes = tuple(
        {axis: size for axis, size in enumerate(port.shape) if isinstance(size, str)}
        for port in inputs
    )
    name = type(module).__name__
    try:
        result = module(*examples)
    except Exception as error:  # whatever the module raises; the likely cause is a wrong shape
        given = ", ".join(
            f"{p.name} {tuple(x.shape)}" for p, x in zip(inputs, examples, strict=True)
        )
        needed = "a module that takes its inputs"
        raise UnsupportedError(f"{name} given {given}", first_lines(error), needed) from error
    if not isinstance(result, torch.Tensor):
        raise UnsupportedError(name, f"a result of type {type(result).__name__}", "one tensor")

    if exporter == "torchscript":
        return _trace_torchscript(module, inputs, examples, shapes, opset)
    if exporter != "dynamo":
        raise ArgumentError("exporter", repr(exporter), "'dynamo' or 'torchscript'")
    try:
        return _trace_dynamo(module, inputs, examples, shapes, opset, optimize)
    except torch.onnx.OnnxExporterError as error:
        cause = first_lines(error.__cause__ or error)
    # Exported as it stands, the module often shows which reshape holds the batch.
    with contextlib.suppress(torch.onnx.OnnxExporterError):
        fixed = _trace_dynamo(module, inputs, examples, None, opset, optimize=True)
        check_batch_open(fixed, name)
    instead = "change the module, or try exporter='torchscript'"
    raise UnsupportedError(name, cause, "a module that torch.export takes", instead)


def _named(inputs: Sequence[Input], opset: int) -> dict[str, Any]:
    """What both exporters are told of names and versions."""
    names = [port.name for port in inputs]
    return {"input_names": names, "output_names": [OUTPUT], "opset_version": opset}


def _trace_dynamo(
    module: torch.nn.Module,
    inputs: Sequence[Input],
    examples: tuple[torch.Tensor, ...],
    shapes: tuple[dict[int, str], ...] | None,
    opset: int,
    optimize: bool,
) -> ir.Model:
    with _quiet():
        program = torch.onnx.export(
            module,
            examples,
            dynamic_shapes=shapes,
            optimize=optimize,
            dynamo=True,
            verbose=False,
            **_named(inputs, opset),
        )
    assert program is not None
    return program.model


def _trace_torchscript(
    module: torch.nn.Module,
    inputs: Sequence[Input],
    examples: tuple[torch.Tensor, ...],
    shapes: tuple[dict[int, str], ...],
    opset: int,
) -> ir.Model:
    import onnx
    import onnx_ir as ir

    axes: dict[str, dict[int, str]] = {p.name: s for p, s in zip(inputs, shapes, strict=True)}
    if any(0 in open_axes for open_axes in shapes):
        axes[OUTPUT] = {0: BATCH}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        file = Path(folder) / "traced.onnx"
        try:
            how = _named(inputs, opset)
            torch.onnx.export(module, examples, file, dynamic_axes=axes, dynamo=False, **how)
        except Exception as error:  # it raises whatever the module raises
            needed = "a module that PyTorch's TorchScript exporter takes"
            raise UnsupportedError(type(module).__name__, first_lines(error), needed) from error
        model = ir.from_proto(onnx.load(file))
    if all(list(open_axes) == [0] for open_axes in shapes):  # it leaves sizes open that are not
        model.graph.outputs[0].shape = ir.Shape([BATCH, *module(*examples).shape[1:]])
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own notices (no torchvision, deprecations inside it) from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), _log_off():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


@contextlib.contextmanager
def _log_off() -> Iterator[None]:
    """Of TorchScript's exporter, which turns its log on where it means to ask whether it is on
    (PyTorch 2.13), and then prints the whole graph of what fails, to stdout."""
    switch = getattr(torch._C, "_jit_set_onnx_log_enabled", None)
    if switch is None:
        yield
        return
    was_on = torch._C._jit_is_onnx_log_enabled()
    switch(False)
    torch._C._jit_set_onnx_log_enabled = lambda enabled: None
    try:
        yield
    finally:
        torch._C._jit_set_onnx_log_enabled = switch
        switch(was_on)


# ---- what the file states ----------------------------------------------------------------------


def _signature(
    model: ir.Model, inputs: Sequence[Input], range: Range | None, class_names: tuple[str, ...]
) -> Signature:
    from fastgan.model.described import of

    graph = of(model)
    output = graph.outputs[0]
    if range is None and output.kind == "image" and output.guessed:
        found = "a last layer that does not bound it, and no range="
        raise ArgumentError("the output's range", found, "range=(lowest, highest)")
    span = output.range
    if range is not None:
        needed = "(lowest, highest)"
        ends = arguments.several("range", range, needed)
        numbers = [arguments.number("range", end, needed=needed) for end in ends]
        if len(numbers) != 2 or not numbers[0] < numbers[1]:
            raise ArgumentError("range", str(range), needed)
        span = numbers[0], numbers[1]
    stated = tuple(
        replace(port, range=normalised_range(port.mean, port.std) if port.mean else span)
        if port.kind == "image" and port.range is None
        else port
        for port in inputs
    )
    made = replace(output, range=span, mean=(), std=(), guessed=False, basis=None)
    return Signature(stated, (made,), class_names)


def _state(model: ir.Model, signature: Signature) -> None:
    from fastgan.model import stated as signature_metadata
    from fastgan.model.described import of

    model.metadata_props[signature_metadata.KEY] = signature_metadata.dump(signature)
    try:
        of(model)  # what it refuses here it would refuse in `load`
    except FastganError as error:
        raise ArgumentError(error.where, error.found, error.needed) from error


def _strip(model: ir.Model) -> None:
    """Drop the exporter's notes: they hold the paths of the machine that it ran on."""
    model.doc_string = model.graph.doc_string = None
    for node in model.graph.all_nodes():
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _write(model: ir.Model, file: Path) -> None:
    import onnx_ir as ir

    sizes = [v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value]
    beside = file.name + ".data" if sum(sizes) > _LARGEST_FILE else None
    ir.save(model, file, external_data=beside)
