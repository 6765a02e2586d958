"""A model's inputs: those given, checked; and the rest made from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.host import arguments, forks
from fastgan.host.tensors import kind_of
from fastgan.inputs import given
from fastgan.inputs import labels as class_labels
from fastgan.inputs.draws import Draw, Samples
from fastgan.latents.sampling import SEED_0, Sampling
from fastgan.model.signature import FLOATS, Input, Signature

#: Shapes of inputs that are remembered as having passed: a folder of photos may come in any.
_MOST_KINDS = 64

#: Rows of a kind that has not passed, or is forgotten by another thread: no number of them.
_UNKNOWN = -1


class Inputs:
    """Makes and checks the inputs of one model on one device."""

    def __init__(self, signature: Signature, device: torch.device) -> None:
        self._signature, self._device = signature, device
        self._ports = {port.name: port for port in signature.inputs}
        self._passed: dict[tuple[Any, ...], int | None] = {}

    def make(
        self,
        n: int,
        sampling: Sampling = SEED_0,
        labels: Any = None,
        known: Mapping[str, Tensor] | None = None,
        lazily: bool = False,
    ) -> dict[str, Any]:
        """Every input of the model for n samples: those known, and the rest from the seed.

        With `lazily` samples that follow each other are a `Draw`.

        Raises:
            ArgumentError: an argument is out of range, or no seed makes an input that is left.
        """
        forks.check(self._device)
        inputs: dict[str, Any] = dict(known or {})
        sampling.check(n)
        sample = self._draw if lazily and sampling.in_a_row else self.sample
        first_latent = self._signature.latent
        for index, port in enumerate(self._signature.inputs):
            if port.name in inputs:
                continue
            if port.kind == "latent":
                # The first latent is stream 0; labels are stream 1; each further input has its own.
                stream = 0 if port is first_latent else 2 + index
                inputs[port.name] = sample(port, n, stream, sampling)
            elif port.kind == "noise":
                inputs[port.name] = sample(port, n, 2 + index, sampling.whole)
            elif port.kind == "label":
                names = self._signature.class_names
                inputs[port.name] = class_labels.resolve(
                    labels, n, port, names, sampling, self._device
                )
            else:
                inputs[port.name] = self._settled(port, n)
        if labels is not None and self._signature.label is None:
            raise ArgumentError("labels", "a model without classes", "labels=None")
        return inputs

    def _settled(self, port: Input, n: int) -> Tensor:
        """An input that no seed makes, where there is one thing alone that it can be."""
        if port.default is not None:
            has_rows = self._signature.has_rows(port)
            return given.for_samples(port, port.default, n, has_rows, self._device)
        if port.is_empty:
            first = port.shape[0]
            rows = first if isinstance(first, int) and not self._signature.has_rows(port) else n
            shape = (rows, *port.sample_shape)
            return torch.zeros(shape, dtype=given.element_type(port), device=self._device)
        name = port.name
        if port.kind in ("image", "mask"):
            needed = "g(images) for an image, or g.run({name: array}) for anything"
        else:
            number = "0.7" if port.kind == "scalar" else "array"
            call = "g(images" if self._signature.image is not None else "generate(n"
            needed = f"{call}, {name}={number}), or --input {name}=... on the command line"
        raise ArgumentError(f"input {name!r}", f"no value for this {port.kind}", needed)

    def named(
        self, values: Mapping[str, Any], n: int, sampling: Sampling, labels: Any = None
    ) -> tuple[dict[str, Tensor], Sampling]:
        """Inputs of n samples that a caller gives by name, and the sampling that is left.

        A truncation goes where the model has an input for it (psi); its latents are whole then.

        Args:
            values: by input name; None counts as not given.

        Raises:
            ArgumentError: a name that no input has, or a value that it can't take.
        """
        ports = {port.name: port for port in self._signature.inputs}
        found = {}
        for name, value in values.items():
            if value is None:
                continue
            if name not in ports:
                known = ", ".join(ports) or "none"
                needed = f"an input of this model: {known}"
                raise ArgumentError(name, "no such input", needed, arguments.meant(name, ports))
            found[name] = self._named(ports[name], value, n, labels)
        psi, truncation = self._signature.truncation, sampling.truncation
        if psi is None or truncation is None:
            return found, sampling
        if psi.name in found:
            raise ArgumentError("truncation", f"{psi.name} beside it", "one of the two")
        number = arguments.number("truncation", truncation)
        rows = self._signature.has_rows(psi)
        found[psi.name] = given.for_samples(psi, number, n, rows, self._device)
        return found, sampling.whole

    def _named(self, port: Input, value: Any, n: int, labels: Any) -> Tensor:
        if port.kind in ("image", "mask"):
            needed = "g(images) for an image, or g.run({name: array}) for anything"
            raise ArgumentError(f"input {port.name!r}", f"a value for this {port.kind}", needed)
        if port.kind == "label" and labels is not None:
            raise ArgumentError("labels", f"{port.name} beside it", "one of the two")
        rows = self._signature.has_rows(port)
        if port.kind == "label" and not _is_one_hot(port, value):
            names = self._signature.class_names
            return class_labels.resolve(value, n, port, names, Sampling(), self._device)
        return given.for_samples(port, value, n, rows, self._device)

    def silence(self, n: int) -> dict[str, Tensor]:
        """Zeros for every noise input of n samples."""
        ports = [port for port in self._signature.inputs if port.kind == "noise"]
        return {p.name: torch.zeros(n, *p.sample_shape, device=self._device) for p in ports}

    def sample(self, port: Input, n: int, stream: int, sampling: Sampling) -> Tensor:
        """A latent or noise input of n samples."""
        kind = port.distribution or "normal"
        return sampling.draw(kind, n, port.sample_shape, stream=stream, device=self._device)

    def _draw(self, port: Input, n: int, stream: int, sampling: Sampling) -> Draw:
        shape, kind = port.sample_shape, port.distribution or "normal"

        def fill(first: int, out: Tensor) -> Tensor:
            rows = out.shape[0]
            return sampling.rows(first, rows).draw(kind, rows, shape, stream=stream, out=out)

        samples = None
        if sampling.rng == "philox":
            samples = Samples(*sampling.recipe(kind, n, stream))
        return Draw((n, *shape), fill, samples=samples)

    def given(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Tensor], int | None]:
        """`check` and `rows`; at once where tensors of the same shapes have passed as they were.

        Raises:
            ArgumentError: see there.
        """
        kind = self.kind(inputs)
        rows = None if kind is None else self._passed.get(kind, _UNKNOWN)
        if kind is not None and rows != _UNKNOWN:
            return {name: inputs[name] for name in self._ports}, rows
        checked = self.check(inputs)
        rows = self.rows(checked)
        if kind is not None and all(_same(checked[name], inputs[name]) for name in checked):
            if len(self._passed) >= _MOST_KINDS:
                self._passed.clear()
            self._passed[kind] = rows
        return checked, rows

    def passes(self, kind: tuple[Any, ...] | None) -> bool:
        """Whether inputs of this kind are what the model reads, as they are."""
        return kind in self._passed

    def kind(self, inputs: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """All of plain tensors, one for each input, that `check` and `rows` look at; else None."""
        if type(inputs) is not dict or len(inputs) != len(self._ports):
            return None
        found = []
        for name in self._ports:
            kind = kind_of(inputs.get(name))
            if kind is None:
                return None
            found.append(kind)
        return tuple(found)

    def check(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Arrays by name as tensors on the device.

        Raises:
            ArgumentError: an input is missing, unknown, or of a shape that the model can't take.
        """
        if not isinstance(inputs, Mapping):
            raise ArgumentError("inputs", arguments.text(inputs), "arrays by name: {name: array}")
        ports = self._ports
        for name in inputs:
            if name not in ports:
                near = arguments.meant(str(name), ports)
                raise ArgumentError("inputs", f"unknown name {name!r}", ", ".join(ports), near)
        tensors = {}
        for name, port in ports.items():
            if name not in inputs:
                raise ArgumentError("inputs", f"no {name!r}", f"an array of shape {port.shape}")
            tensor = given.typed(port, inputs[name]).to(self._device)
            if port.kind == "scalar" and tensor.numel() == 1:
                tensor = tensor.reshape((1,) * len(port.shape))
            if port.channels_last and tensor.dim() == 4:
                tensor = tensor.permute(0, 3, 1, 2)
            # Rows there may be more or fewer of than the frozen batch: they are run in turns.
            rows = self._signature.has_rows(port)
            first = 1 if rows and port.shape[:1] == (self._signature.frozen_batch,) else 0
            unknown = not port.shape and port.kind != "scalar"
            fits = unknown or (
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
        ports = [i for i in self._signature.inputs if i.shape and self._signature.has_rows(i)]
        batch = frozen or next((i.shape[0] for i in ports), None)
        batched = [i for i in ports if i.shape[0] == batch and batch != "?"]
        counts = {port.name: tensors[port.name].shape[0] for port in batched}
        empty = next((name for name, count in counts.items() if count == 0), None)
        if empty is not None:
            raise ArgumentError(f"input {empty!r}", "no rows", "at least one")
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
            raise ArgumentError("inputs", f"rows that differ: {found}", "as many of each")
        return None if frozen is None else next(iter(counts.values()))


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same elements, read alike."""
    return a.dtype == b.dtype and a.shape == b.shape and a.is_set_to(b)


def _is_one_hot(port: Input, value: Any) -> bool:
    """Whether a label is given as the model takes it, one-hot, rather than as a class."""
    axes = getattr(value, "ndim", 0)
    floats = "float" in str(getattr(value, "dtype", ""))
    return port.dtype in FLOATS and (axes == 2 or (axes == 1 and floats))
