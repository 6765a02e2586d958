"""How much a model file may ask for before it is refused."""

from __future__ import annotations

from dataclasses import dataclass, fields

from fastgan.host.arguments import number

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model may cost, checked before any runtime sees it. Every published generator that we
    know of passes the defaults; lower them for files from strangers, raise one where an error names
    it.

    Args:
        file_bytes: size of the ONNX file itself. Protobuf cannot hold more than 2 GiB; larger
            models keep their weights in external data, which `tensor_bytes` covers.
        nodes: nodes in the graph and all its subgraphs, after local functions are inlined.
        tensor_bytes: all weights together, those in external files included.
        constant_bytes: all tensors that the graph computes from constants alone, which a runtime
            folds while it loads. Sixteen times the weights are allowed on top: weight norm and
            spectral norm are computed so.
        activation_bytes: all tensors whose shapes the file declares, and all that one run of a
            plan holds at once, at the batch size that it is planned for.
        depth: subgraphs (If, Loop, Scan) nested in one another.
        seconds: time for reading and checking one file.
        memory_bytes: memory of the child process that reads with `isolate=True`, on top of what
            its interpreter and libraries take.
    """

    file_bytes: int = 2 * GIB - 1
    nodes: int = 100_000
    tensor_bytes: int = 16 * GIB
    constant_bytes: int = 256 * MIB
    activation_bytes: int = 64 * GIB
    depth: int = 16
    seconds: float = 30.0
    memory_bytes: int = 8 * GIB

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = f"Limits.{field.name}", getattr(self, field.name)
            limit = number(name, value, above=0, finite=False, needed="a number above 0")
            whole = field.name != "seconds" and limit.is_integer()
            object.__setattr__(self, field.name, int(value) if whole else limit)


def size_text(count: int) -> str:
    """`count` bytes for a person to read: "14.2 MiB"."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} bytes"
