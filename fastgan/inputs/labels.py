"""Class labels: what a caller may say, turned into what the model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.host import arguments
from fastgan.latents.sampling import Sampling
from fastgan.model.signature import Input


def resolve(
    labels: Any,
    n: int,
    port: Input,
    names: Sequence[str],
    sampling: Sampling,
    device: torch.device,
) -> Tensor:
    """The label input for n samples, in its type: indices [n] or [n, 1], or one-hot [n, classes].

    Args:
        labels: one class for all or one per sample, by index or name; None or "random" draws them
            uniformly.
        names: the class names that the model's metadata gives.
        sampling: what they are drawn from.

    Raises:
        ArgumentError: a label that the model does not have, or not n of them.
    """
    classes = port.classes
    if labels is None or (isinstance(labels, str) and labels == "random"):
        indices = sampling.labels(n, _known(classes))
    else:
        listed = [labels] * n
        if arguments.is_several(labels):
            listed = arguments.several("labels", labels, "one class, or one for each image")
        if len(listed) != n:
            raise ArgumentError("labels", f"{len(listed)} labels", f"one, or one for each of {n}")
        indices = torch.tensor([_index(label, classes, names) for label in listed])
    dtype: torch.dtype = getattr(torch, port.dtype)
    if dtype.is_floating_point:
        return torch.nn.functional.one_hot(indices, _known(classes)).to(device, dtype)
    return indices.reshape(n, *(1 for _ in port.shape[1:])).to(device, dtype)


def _known(classes: int | None) -> int:
    if classes is None:
        raise ArgumentError(
            "labels", "a model that does not say how many classes it has", "labels as indices"
        )
    return classes


def _index(label: Any, classes: int | None, names: Sequence[str]) -> int:
    if isinstance(label, str):
        if label not in names:
            known = ", ".join(names) if names else "an index: this model names no classes"
            raise ArgumentError("labels", repr(label), known, arguments.meant(label, names))
        return list(names).index(label)
    most = 2**31 - 1 if classes is None else classes - 1
    needed = f"0 to {most}, or a class name" if classes is not None else "0 or more"
    return arguments.whole("labels", label, 0, most, needed)
