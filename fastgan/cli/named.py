"""What people type for a model's further inputs: `--input w=0.7`, `w=[1,2]`, `w=w.npy`."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastgan.errors import ArgumentError

if TYPE_CHECKING:
    from fastgan.generator import Generator

_NEEDED = "NAME=VALUE, the value a number, a list such as [1,2], true, false, or a .npy file"


def is_named(text: str) -> bool:
    """Whether it is NAME=VALUE, rather than the path of something that exists."""
    return re.match(r"[^=/\\]+=", text) is not None and not os.path.exists(text)


def values(texts: Sequence[str] | None) -> dict[str, Any]:
    """The values by name.

    Raises:
        ArgumentError: a text is not NAME=VALUE, or a name stands twice.
    """
    found: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ArgumentError("--input", repr(text), _NEEDED)
        if name in found:
            raise ArgumentError("--input", f"{name!r} twice", "each input once")
        found[name] = _value(name, value.strip())
    return found


def _value(name: str, text: str) -> Any:
    if text.lower().endswith(".npy"):
        import numpy as np

        try:
            return np.load(text, allow_pickle=False)
        except FileNotFoundError:
            raise ArgumentError(f"--input {name}", f"no file {text}", "a .npy file") from None
        except (OSError, ValueError, EOFError) as error:
            found = " ".join(str(error).split())[:200]
            raise ArgumentError(f"--input {name}", f"{text}: {found}", "a .npy file") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, (int, float, list)):
        raise ArgumentError(f"--input {name}", repr(text[:100]), _NEEDED)
    return value


def check(generator: Generator, values: dict[str, Any], labels: Any = None) -> None:
    """Refuse at once what would be refused for every picture.

    Args:
        labels: what `--class` says.

    Raises:
        ArgumentError: a value that the model can't take, or an input without one.
    """
    from fastgan.inputs.make import Inputs

    calls = (generator.generate, generator.__call__, generator.stream)
    taken = {name for call in calls for name in inspect.signature(call).parameters}
    for name in values:
        if name in taken:
            raise ArgumentError(f"--input {name}", "an option's own name", "Generator.run instead")
    signature = generator.signature
    inputs = Inputs(signature, generator.device)
    named, _ = inputs.named(values, 1, None, labels)
    for port in signature.needed:
        if port.kind not in ("image", "mask") and port.name not in named:
            needed = f"--input {port.name}=..."
            raise ArgumentError(f"input {port.name!r}", f"no value for this {port.kind}", needed)
