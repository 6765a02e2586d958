"""A model's inputs: those given, checked; and the rest made from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan import labels as class_labels
from fastgan import latents as latent_space
from fastgan.backends.base import Draw, Samples
from fastgan.errors import ArgumentError
from fastgan.signature import Input, Signature

Shapes = dict[str, tuple[int, ...]]


def input_shapes(signature: Signature, batch: int) -> Shapes:
    """A shape for each input at this batch size.

    A frozen batch stays; an open size is 64 for an image or a mask, and 1 for anything else.
    """
    shapes: Shapes = {}
    for port in signature.inputs:
        spatial = 64 if port.kind in ("image", "mask") else 1
        sizes = [size if isinstance(size, int) else spatial for size in port.shape]
        if sizes and not isinstance(port.shape[0], int):
            sizes[0] = batch
        shapes[port.name] = tuple(sizes)
    return shapes


class Inputs:
    """Makes and checks the inputs of one model on one device."""

    def __init__(self, signature: Signature, device: torch.device) -> None:
        self._signature, self._device = signature, device

    def make(
        self,
        n: int,
        seed: int | Sequence[int],
        start: int,
        labels: Any,
        truncation: float | None,
        rng: str,
        given: Mapping[str, Tensor] | None = None,
        lazily: bool = False,
    ) -> dict[str, Any]:
        """Every input of the model for n samples: those given, and the rest from the seed.

        With `lazily` what comes from one seed is a `Draw`.
        """
        inputs: dict[str, Any] = dict(given or {})
        sample = self._draw if lazily and isinstance(seed, int) else self.sample
        first_latent = self._signature.latent
        for index, port in enumerate(self._signature.inputs):
            if port.name in inputs:
                continue
            if port.kind == "latent":
                # The first latent is stream 0; labels are stream 1; each further input has its own.
                stream = 0 if port is first_latent else 2 + index
                inputs[port.name] = sample(port, n, stream, seed, start, truncation, rng)
            elif port.kind == "noise":
                inputs[port.name] = sample(port, n, 2 + index, seed, start, None, rng)
            elif port.kind == "label":
                names = self._signature.class_names
                inputs[port.name] = class_labels.resolve(
                    labels, n, port, names, seed, start, self._device
                )
            else:
                raise ArgumentError(
                    f"input {port.name!r}",
                    f"no value for this {port.kind}",
                    "g(images) for an image, or g.run({name: array}) for anything",
                )
        if labels is not None and self._signature.label is None:
            raise ArgumentError("labels", "a model without classes", "labels=None")
        return inputs

    def silence(self, n: int) -> dict[str, Tensor]:
        """Zeros for every noise input of n samples."""
        ports = [port for port in self._signature.inputs if port.kind == "noise"]
        return {p.name: torch.zeros(n, *self._sample_shape(p), device=self._device) for p in ports}

    def sample(
        self,
        port: Input,
        n: int,
        stream: int,
        seed: int | Sequence[int],
        start: int,
        truncation: float | None,
        rng: str,
    ) -> Tensor:
        """A latent or noise input: sample `start` on of one seed, or `start` of n seeds."""
        shape = self._sample_shape(port)
        sample = latent_space.sample
        distribution = port.distribution or "normal"
        if isinstance(seed, int):
            return sample(
                distribution,
                n,
                shape,
                seed=seed,
                start=start,
                truncation=truncation,
                rng=rng,
                device=self._device,
                stream=stream,
            )
        if len(seed) != n:
            raise ArgumentError("seed", f"{len(seed)} seeds", f"one for each of {n} images")
        return torch.cat(
            [
                sample(
                    distribution,
                    1,
                    shape,
                    seed=one,
                    start=start,
                    truncation=truncation,
                    rng=rng,
                    device=self._device,
                    stream=stream,
                )
                for one in seed
            ]
        )

    def _draw(
        self,
        port: Input,
        n: int,
        stream: int,
        seed: Any,
        start: int,
        truncation: float | None,
        rng: str,
    ) -> Draw:
        shape, distribution = self._sample_shape(port), port.distribution or "normal"

        def fill(first: int, out: Tensor) -> Tensor:
            return latent_space.sample(
                distribution,
                out.shape[0],
                shape,
                seed=seed,
                start=start + first,
                truncation=truncation,
                rng=rng,
                out=out,
                stream=stream,
            )

        samples = None
        if rng == "philox":
            samples = Samples(
                *latent_space.recipe(
                    distribution, n, seed=seed, start=start, stream=stream, truncation=truncation
                )
            )
        return Draw((n, *shape), fill, samples=samples)

    def _sample_shape(self, port: Input) -> tuple[int, ...]:
        """The shape of one sample; an open size is 1 (fully convolutional latents)."""
        return tuple(size if isinstance(size, int) else 1 for size in port.shape[1:])

    def check(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Arrays by name as tensors on the device.

        Raises:
            ArgumentError: an input is missing, unknown, or of a shape that the model can't take.
        """
        ports = {port.name: port for port in self._signature.inputs}
        for name in inputs:
            if name not in ports:
                raise ArgumentError("inputs", f"unknown name {name!r}", ", ".join(ports))
        tensors = {}
        for name, port in ports.items():
            if name not in inputs:
                raise ArgumentError("inputs", f"no {name!r}", f"an array of shape {port.shape}")
            value = inputs[name]
            tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
            dtype = getattr(torch, port.dtype, None)
            tensor = tensor.to(self._device, dtype)
            if port.channels_last and tensor.dim() == 4:
                tensor = tensor.permute(0, 3, 1, 2)
            # Rows there may be more or fewer of than the frozen batch: they are run in turns.
            first = 1 if port.shape[:1] == (self._signature.frozen_batch,) else 0
            fits = not port.shape or (
                tensor.dim() == len(port.shape)
                and all(
                    want == size
                    for want, size in zip(port.shape[first:], tensor.shape[first:], strict=True)
                    if isinstance(want, int)
                )
            )
            if not fits:
                raise ArgumentError(
                    f"input {name!r}", f"shape {tuple(tensor.shape)}", f"shape {port.shape}"
                )
            tensors[name] = tensor
        return tensors

    def rows(self, tensors: Mapping[str, Tensor]) -> int | None:
        """How many samples checked inputs hold, where the batch is frozen; else None.

        Raises:
            ArgumentError: one has more than another, or none.
        """
        frozen = self._signature.frozen_batch
        # Inputs whose first axes have one name have one batch.
        batch = frozen or next((i.shape[0] for i in self._signature.inputs if i.shape), None)
        batched = [i for i in self._signature.inputs if i.shape[:1] == (batch,) and batch != "?"]
        counts = {port.name: tensors[port.name].shape[0] for port in batched}
        if len(set(counts.values())) > 1 or 0 in counts.values():
            found = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
            raise ArgumentError("inputs", f"rows that differ: {found}", "as many of each")
        return None if frozen is None else next(iter(counts.values()))
