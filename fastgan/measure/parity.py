"""How far each backend and precision is from the reference on the same inputs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan.engine import TABLE, Target, get
from fastgan.engine.base import PRECISIONS
from fastgan.errors import ArgumentError, BackendError, FastganError, Refusal, UnsupportedError
from fastgan.generator import Generator
from fastgan.images import pixels as images
from fastgan.measure.reference import as_module, run_reference
from fastgan.measure.subject import Inputs, batch_of, run_batched
from fastgan.measure.tolerances import TOLERANCES
from fastgan.model.opened import Model
from fastgan.model.signature import Output

REFERENCES = ("auto", "torch", "ort")


@dataclass(frozen=True, slots=True)
class Difference:
    """Two batches of the same images, compared.

    Attributes:
        max_abs: the largest absolute difference, in units of an image in [-1, 1].
        psnr: peak signal-to-noise ratio in dB over the model's range; inf where they are equal.
        max_uint8: the largest difference of the uint8 images; None where the output is no image.
    """

    max_abs: float
    psnr: float
    max_uint8: int | None

    def within(self, precision: str) -> bool:
        """Whether it is inside this precision's tolerance; a NaN never is."""
        limit = TOLERANCES[precision]
        exact = limit.max_abs is None or self.max_abs <= limit.max_abs
        return exact and (limit.psnr is None or self.psnr >= limit.psnr)


@dataclass(frozen=True, slots=True)
class Row:
    """One backend in one precision.

    Attributes:
        difference: from the reference; None where it did not run.
        seconds: the fastest of a few runs of the whole batch.
        refusal: why it did not run; empty where it did.
    """

    backend: str
    device: str
    precision: str
    difference: Difference | None = None
    seconds: float = math.nan
    refusal: str = ""

    @property
    def within(self) -> bool:
        """Whether it ran and is inside its tolerance."""
        return self.difference is not None and self.difference.within(self.precision)

    def as_json(self) -> dict[str, Any]:
        """What it holds, ready for JSON; None in place of what is no finite number."""
        facts: dict[str, Any] = {
            "backend": self.backend, "device": self.device, "precision": self.precision,
        }  # fmt: skip
        if self.difference is None:
            return {**facts, "refusal": self.refusal}
        figures = {**asdict(self.difference), "seconds": self.seconds}
        finite = {k: v if v is None or math.isfinite(v) else None for k, v in figures.items()}
        return {**facts, **finite, "within": self.within}


def compare(first: Tensor, reference: Tensor, output: Output) -> Difference:
    """Compare float images [n, C, H, W] with the reference's.

    Tensors that are no images have no range; the reference's largest value stands for 1.
    """
    low, high = output.range
    if output.kind != "image":
        high = float(reference.abs().max()) or 1.0
        low = -high
    delta = (first.double() - reference.double()) * (2.0 / (high - low))
    mse = float(delta.square().mean())
    psnr = math.inf if mse == 0 else 10 * math.log10(4 / mse) if mse == mse else math.nan
    return Difference(float(delta.abs().max()), psnr, _uint8(first, reference, output))


def reference_of(model: Model, inputs: Inputs, wanted: str = "auto") -> tuple[str, Tensor]:
    """What the reference is, in words, and its output for these inputs.

    Args:
        wanted: "torch" for the file's nodes one by one on torch in fp32, "ort" for ONNX Runtime,
            "auto" for the first of the two that takes the model.

    Raises:
        ArgumentError: another reference.
        UnsupportedError, BackendError: it does not take the model.
    """
    if wanted not in REFERENCES:
        raise ArgumentError("--reference", repr(wanted), ", ".join(REFERENCES))
    name = model.output.name
    n = max(tensor.shape[0] for tensor in inputs.values())
    why = ""
    if wanted != "ort":
        try:
            results = run_reference(as_module(model, n), model, inputs)
            return "torch fp32, node by node, nothing fused", results[name].float()
        except UnsupportedError as error:
            if wanted == "torch":
                raise
            why = f" (torch: {error})"
    generator = _generator(model, "ort", torch.device("cpu"), "fp32")
    if isinstance(generator, str):
        raise BackendError("reference", f"no ONNX Runtime for it ({generator}){why}", "a reference")
    batch = batch_of(generator)
    return f"ONNX Runtime fp32 on cpu{why}", run_batched(generator, inputs, name, batch)


def rows(
    model: Model,
    inputs: Inputs,
    reference: Tensor,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Row]:
    """Every backend and precision on each kind of device of this machine, against the reference."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        for backend in TABLE:
            for precision in PRECISIONS:
                say(f"{backend} {precision} on {device}")
                yield _row(model, inputs, reference, backend, device, precision)


def _row(
    model: Model, inputs: Inputs, reference: Tensor, backend: str, device: str, precision: str
) -> Row:
    generator = _generator(model, backend, torch.device(device), precision)
    if isinstance(generator, str):
        return Row(backend, device, precision, refusal=generator)
    name = model.output.name
    try:
        run = partial(run_batched, generator, inputs, name, batch_of(generator))
        images = run()
        seconds = min(_seconds(run) for _ in range(3))
    except FastganError as error:
        return Row(backend, device, precision, refusal=str(error))
    difference = compare(images.float().cpu(), reference.cpu(), model.output)
    return Row(backend, device, precision, difference, seconds)


def _generator(model: Model, backend: str, device: torch.device, precision: str) -> Generator | str:
    """A generator on this very backend, or why there is none."""
    target = Target(device, precision)
    opened = get(backend).open(model, target)
    if isinstance(opened, Refusal):
        return f"{opened.where}: {opened.found}; needed {opened.needed}"
    return Generator(opened)


def _seconds(run: Callable[[], Tensor]) -> float:
    began = time.perf_counter()
    run().flatten()[0].item()  # a device has finished once a value is here
    return time.perf_counter() - began


def _uint8(first: Tensor, reference: Tensor, output: Output) -> int | None:
    if output.kind != "image":
        return None
    pair = []
    image = images.of(output, "uint8")
    for batch in (first, reference):
        made = images.allocate(batch.shape[0], batch, "uint8", None, batch.device)
        images.store(batch, image, made)
        pair.append(made.int())
    return int((pair[0] - pair[1]).abs().max())
