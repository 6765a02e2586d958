"""Class labels: what a caller may say, turned into what the model takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan import latents
from fastgan.errors import ArgumentError
from fastgan.signature import Input


def resolve(
    labels: int | str | Sequence[int | str] | Tensor | None,
    n: int,
    port: Input,
    names: Sequence[str],
    seed: int | Sequence[int],
    start: int,
    device: torch.device,
) -> Tensor:
    """The label input for n samples: int64 [n], or one-hot float32 [n, classes].

    Args:
        labels: one class for all or one per sample, by index or name; None or "random" draws them
            uniformly from the seed.
        names: the class names that the model's metadata gives.

    Raises:
        ArgumentError: a label that the model does not have, or not n of them.
    """
    classes = port.classes
    if labels is None or labels == "random":
        indices = _random(n, classes, seed, start)
    else:
        given = labels.tolist() if isinstance(labels, Tensor) else labels
        listed = (
            list(given)
            if isinstance(given, Iterable) and not isinstance(given, str)
            else [given] * n
        )
        if len(listed) != n:
            raise ArgumentError("labels", f"{len(listed)} labels", f"one, or one for each of {n}")
        indices = torch.tensor([_index(label, classes, names) for label in listed])
    if port.dtype.startswith("float"):
        return torch.nn.functional.one_hot(indices, _known(classes)).float().to(device)
    return indices.to(device)


def _random(n: int, classes: int | None, seed: int | Sequence[int], start: int) -> Tensor:
    count = _known(classes)
    if isinstance(seed, int):
        return latents.labels(n, count, seed=seed, start=start)
    return torch.cat([latents.labels(1, count, seed=one, start=start) for one in seed])


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
            raise ArgumentError("labels", repr(label), known)
        return list(names).index(label)
    if isinstance(label, bool) or not isinstance(label, int):
        raise ArgumentError("labels", repr(label), "a whole number or a class name")
    if label < 0 or (classes is not None and label >= classes):
        needed = f"0 to {classes - 1}" if classes is not None else "0 or more"
        raise ArgumentError("labels", str(label), needed)
    return label
