"""The model under measurement: inputs for it, and its runs by hand-made inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fastgan import latents
from fastgan.engine import Session
from fastgan.engine.batches import split
from fastgan.generator import Generator
from fastgan.host.threads import limited
from fastgan.inputs import labels
from fastgan.inputs.given import element_type
from fastgan.latents.sampling import Sampling
from fastgan.model.opened import Model
from fastgan.model.signature import Input

Inputs = dict[str, Tensor]


def example_inputs(model: Model, n: int, seed: int = 0) -> Inputs:
    """Inputs for n samples, on the CPU: a function of the seed alone.

    Latents and noise from their distributions, labels uniform, images and masks uniform in
    their range, other tensors normal.
    """
    shapes = model.shapes(n)
    return {
        port.name: _draw(port, shapes[port.name], seed, stream)
        for stream, port in enumerate(model.signature.inputs)
    }


def session_of(generator: Generator) -> Session:
    """What runs it: who measures looks further in than a generator's callers may."""
    return generator._session


def batch_of(generator: Generator) -> int | None:
    """The batch size that `generate` takes by itself; None where the model says it, or it is n."""
    if generator.signature.frozen_batch is not None or not generator.signature.made.apart:
        return None
    return session_of(generator).automatic_batch


def batched(
    generator: Generator, given: Mapping[str, Tensor], output: str, batch: int | None
) -> Callable[[], Tensor]:
    """What makes an output for inputs made beforehand, channels first, in batches of `batch_of`."""
    signature = generator.signature
    rows = {port.name for port in signature.inputs if signature.has_rows(port)}
    last = {port.name for port in signature.inputs if port.channels_last}
    given = {k: t.permute(0, 2, 3, 1) if k in last else t for k, t in given.items()}
    n = max(given[name].shape[0] for name in rows)
    parts = [
        {k: t[first : first + count] if k in rows else t for k, t in given.items()}
        for first, count in split(n, batch, signature.frozen_batch)
    ]
    turned = any(port.name == output and port.channels_last for port in signature.outputs)

    def run() -> Tensor:
        # Put together at the end: a copy between two batches starts threads of another library.
        results = [generator.run(part)[output] for part in parts]
        made = results[0] if len(results) == 1 else torch.cat(results)
        return made.permute(0, 3, 1, 2) if turned else made

    return run


def fed(generator: Generator, given: Inputs, n: int) -> Callable[[], Tensor]:
    """What `generate` does with inputs made beforehand: batches, each written to its place."""
    session, batch = session_of(generator), batch_of(generator)
    if batch is None or batch >= n:
        return batched(generator, given, session.model.output.name, batch)

    def run() -> Tensor:
        with limited(generator.threads):
            return session.images(given, n, batch, "float32", None, False)

    return run


def run_batched(
    generator: Generator, given: Mapping[str, Tensor], output: str, batch: int | None
) -> Tensor:
    """What `batched` makes, once."""
    return batched(generator, given, output, batch)()


def _draw(port: Input, shape: tuple[int, ...], seed: int, stream: int) -> Tensor:
    n, rest = (shape[0], shape[1:]) if shape else (1, ())
    if port.kind == "label":
        return labels.resolve(None, n, port, (), Sampling(seed), torch.device("cpu"))
    if port.default is not None:
        return torch.full(shape, port.default, dtype=element_type(port))
    if port.is_empty:
        return torch.zeros(shape, dtype=element_type(port))
    if port.kind in ("latent", "noise"):
        drawn = latents.sample(
            port.distribution or "normal", n, rest or (1,), seed=seed, stream=stream
        )
        return drawn.reshape(shape).to(element_type(port))
    drawn = latents.sample("uniform", n, rest or (1,), seed=seed, stream=stream).reshape(shape)
    if port.kind == "mask":
        drawn = (drawn > 0.5).float()
    low, high = port.range or (-1.0, 1.0)
    return (drawn * (high - low) + low).to(element_type(port))
