"""The one table of activations: what each is called, what it computes, and which engines have it.

An activation is what may stand in the epilogue of a product. Every curve that `fastgan.ops` has,
of floats and perhaps with numbers as attributes, is one; here are those that are more than torch's
function of them. To add one: register its operator in `ops/activation.py`; if kernels are to have
it, write it in `kernels/epilogue.py` and give it a row here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops.registry import Op, all_ops


@dataclass(frozen=True, slots=True)
class Activation:
    """One row.

    Attributes:
        name: in an epilogue.
        onnx: ONNX's operator; "" where it is none by itself.
        torch: the curve on a tensor and the values of `parameters`.
        parameters: the operator's attributes that are numbers of the curve.
        given: what the other attributes must be.
        instruction: whether `fastgan.kernels.pointwise` has it.
        kernel: whether the epilogue of every Triton kernel has it.
    """

    name: str
    onnx: str
    torch: Callable[..., Tensor]
    parameters: tuple[str, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    instruction: bool = False
    kernel: bool = False


def _kernel(
    name: str, onnx: str, function: Callable[..., Tensor], *parameters: str, **engines: Any
) -> Activation:
    """A row that all of Triton's kernels have."""
    return Activation(
        name, onnx, function, parameters, kernel=True, **{"instruction": True, **engines}
    )


_TANH = {"approximate": "tanh"}

_LATEST = {op.name: op for op in all_ops() if not op.domain}

_ROWS = (
    _kernel("none", "", lambda x: x, instruction=False),
    _kernel("relu", "Relu", torch.relu),
    _kernel("leaky_relu", "LeakyRelu", F.leaky_relu, "alpha"),
    # Its slopes, one for each channel, are in `Epilogue.slopes`.
    _kernel("prelu", "", F.prelu, instruction=False),
    _kernel("tanh", "Tanh", torch.tanh),
    _kernel("sigmoid", "Sigmoid", torch.sigmoid),
    _kernel("elu", "Elu", F.elu, "alpha"),
    _kernel("silu", "Swish", F.silu, given={"alpha": 1.0}),
    _kernel("gelu", "Gelu", F.gelu, given={"approximate": "none"}),
    _kernel("gelu_tanh", "Gelu", partial(F.gelu, approximate="tanh"), given=_TANH),
    _kernel("mish", "Mish", F.mish),
    _kernel("hard_swish", "HardSwish", F.hardswish),
    _kernel("softplus", "Softplus", F.softplus),
    *(
        Activation(name.lower(), name, _LATEST[name].function, instruction=True)
        for name in ("Exp", "Log", "Sqrt", "Reciprocal", "Neg", "Abs", "Erf", "Sin", "Cos")
    ),
)


def _defaults(op: Op) -> dict[str, Any]:
    """The attributes of an operator and what each is where it is left out."""
    parameters = inspect.signature(op.function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _by_keyword(function: Callable[..., Tensor], names: Sequence[str]) -> Callable[..., Tensor]:
    return lambda x, *values: function(x, **dict(zip(names, values, strict=True)))


def _curves() -> list[Activation]:
    """A row for each other operator that is a curve: only the library has it."""
    own = {row.onnx for row in _ROWS}
    rows = []
    for op in _LATEST.values():
        numbers = _defaults(op)
        plain = op.elementwise and op.fresh and op.arity == 1 and op.name not in own
        if plain and all(isinstance(number, float) for number in numbers.values()):
            name = re.sub("(?<=[a-z])(?=[A-Z])", "_", op.name).lower()
            function = _by_keyword(op.function, tuple(numbers)) if numbers else op.function
            rows.append(Activation(name, op.name, function, tuple(numbers)))
    return rows


#: Every activation by its name.
TABLE: Mapping[str, Activation] = {row.name: row for row in (*_ROWS, *_curves())}

#: The operators that are one, if their attributes say so.
OPERATORS = tuple(dict.fromkeys(row.onnx for row in TABLE.values() if row.onnx))

_BY_OPERATOR = {
    operator: [row for row in TABLE.values() if row.onnx == operator] for operator in OPERATORS
}


def of(operator: str, attributes: Mapping[str, Any]) -> tuple[Activation, tuple[float, ...]] | None:
    """The activation that an operator of ONNX's is, and its parameters; None if it is none."""
    for row in _BY_OPERATOR.get(operator, ()):
        full = {**_defaults(_LATEST[operator]), **attributes}
        if all(full[name] == value for name, value in row.given.items()):
            return row, tuple(float(full[name]) for name in row.parameters)
    return None
