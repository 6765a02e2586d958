"""Recurrent layers: ONNX RNN, GRU and LSTM as loops over time.

Weights are [directions, gates * hidden, ...], and the gates in ONNX's order; B holds the biases of
the input, then those of the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastgan.ops.infer import meta
from fastgan.ops.registry import register

#: The attributes of every layer.
_ATTRIBUTES = (
    *("hidden_size", "direction", "layout", "clip"),
    *("activations", "activation_alpha", "activation_beta"),
)


@dataclass(frozen=True, slots=True)
class _Curve:
    """What a gate may do to its sum, of (x, alpha, beta); those it takes, and what they are where
    the layer does not say: as in ONNX's operators, of which Affine and ScaledTanh are no more."""

    function: Callable[[Tensor, float, float], Tensor]
    alpha: float | None = None
    beta: float | None = None


_CURVES = {
    "tanh": _Curve(lambda x, a, b: torch.tanh(x)),
    "sigmoid": _Curve(lambda x, a, b: torch.sigmoid(x)),
    "relu": _Curve(lambda x, a, b: torch.relu(x)),
    "affine": _Curve(lambda x, a, b: a * x + b, 1.0, 0.0),
    "leakyrelu": _Curve(lambda x, a, b: functional.leaky_relu(x, a), 0.01),
    "thresholdedrelu": _Curve(lambda x, a, b: torch.where(x <= a, 0.0, x), 1.0),
    "scaledtanh": _Curve(lambda x, a, b: a * torch.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": _Curve(lambda x, a, b: (a * x + b).clamp(0, 1), 0.2, 0.5),
    "elu": _Curve(lambda x, a, b: functional.elu(x, a), 1.0),
    "softsign": _Curve(lambda x, a, b: functional.softsign(x)),
    "softplus": _Curve(lambda x, a, b: functional.softplus(x)),
}

#: The functions f, g and h where a layer names none.
_USUAL = {
    "RNN": ("tanh",),
    "GRU": ("sigmoid", "tanh"),
    "LSTM": ("sigmoid", "tanh", "tanh"),
}


@dataclass(frozen=True, slots=True)
class Function:
    """What a gate does to its sum.

    Attributes:
        name: of ONNX's functions for that, in small letters.
        alpha, beta: its numbers; 0 where it has none.
        clip: bounds the sum that it takes.
    """

    name: str
    alpha: float = 0.0
    beta: float = 0.0
    clip: float | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.clip is not None:
            x = x.clamp(-self.clip, self.clip)
        return _CURVES[self.name].function(x, self.alpha, self.beta)


def functions(
    op: str,
    directions: int,
    *,
    activations: Sequence[str] = (),
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    clip: float | None = None,
    **_: Any,
) -> list[tuple[Function, ...]]:
    """The functions f, g and h of each direction, of an operator's attributes.

    Numbers are taken in the order of the functions, by those that have such. What is clipped is
    the gates' sums, not the memory that h takes, as in ONNX Runtime.

    Raises:
        ValueError: they are too few, or none of ONNX's.
    """
    usual = _USUAL[op]
    names = [name.lower() for name in activations] or [*usual * directions]
    if len(names) != len(usual) * directions or not _CURVES.keys() >= set(names):
        raise ValueError(f"activations {[*activations]} of {directions} directions of an {op}")
    alphas, betas = iter(activation_alpha), iter(activation_beta)

    def taken(numbers: Iterator[float], usual: float | None) -> float:
        return 0.0 if usual is None else next(numbers, usual)

    if clip is not None and not clip > 0:
        raise ValueError(f"clip {clip}")
    made = [
        Function(
            name,
            taken(alphas, _CURVES[name].alpha),
            taken(betas, _CURVES[name].beta),
            None if i % len(usual) == 2 else clip,
        )
        for i, name in enumerate(names)
    ]
    return [tuple(made[d * len(usual) :][: len(usual)]) for d in range(directions)]


#: Sums of a step for each hidden value.
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}

#: The operators' further inputs: the last two are an LSTM's.
_OPTIONAL = ("B", "sequence_lens", "initial_h", "initial_c", "P")

#: One step: (input products with their biases, states, direction's R, its biases, its peepholes,
#: its functions, how else it differs) -> new states, h first.
_Step = Callable[..., list[Tensor]]


def _layer(
    op: str,
    step: _Step,
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None,
    lengths: Tensor | None,
    states: list[Tensor | None],
    peepholes: Tensor | None,
    *,
    direction: str = "forward",
    layout: int = 0,
    linear_before_reset: int = 0,
    input_forget: int = 0,
    **how: Any,
) -> tuple[Tensor, ...]:
    """All steps of every direction: Y [T, D, N, H], then the last states, each [D, N, H]."""
    if layout:
        x = x.transpose(0, 1)
        states = [None if s is None else s.transpose(0, 1) for s in states]
    time, batch = x.shape[:2]
    hidden = recurrence.shape[-1]
    outputs, lasts = [], []
    curves = functions(op, weight.shape[0], **how)
    for d in range(weight.shape[0]):
        backwards = direction == "reverse" or d == 1
        both = x.new_zeros(2 * weight.shape[1]) if bias is None else bias[d]
        of_input, of_state = both.chunk(2)
        products = x @ weight[d].t() + of_input
        now = [x.new_zeros(batch, hidden) if s is None else s[d] for s in states]
        own = (None if peepholes is None else peepholes[d], curves[d])
        rows: list[Tensor] = [now[0]] * time
        for t in reversed(range(time)) if backwards else range(time):
            new = step(
                products[t], now, recurrence[d], of_state, *own, linear_before_reset, input_forget
            )
            if lengths is not None:  # a sequence that has ended keeps its state and gives zeros
                going = (t < lengths).unsqueeze(1)
                rows[t] = torch.where(going, new[0], torch.zeros_like(new[0]))
                now = [torch.where(going, a, b) for a, b in zip(new, now, strict=True)]
            else:
                now, rows[t] = new, new[0]
        outputs.append(torch.stack(rows) if rows else x.new_zeros(0, batch, hidden))
        lasts.append(now)
    y = torch.stack(outputs, 1)
    last = [torch.stack([now[i] for now in lasts]) for i in range(len(states))]
    if layout:
        return y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in last)
    return y, *last


def _outputs(
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    *others: Any,
    op: str,
    direction: str = "forward",
    layout: int = 0,
    **how: Any,
) -> tuple[Tensor, ...]:
    """Shapes of Y and the last states."""
    directions, hidden = weight.shape[0], recurrence.shape[-1]
    if directions != (2 if direction == "bidirectional" else 1):
        raise ValueError(f"weights of {directions} directions, {direction}")
    functions(op, directions, **how)
    rows = _GATES[op] * hidden
    batch, time = x.shape[:2] if layout else (x.shape[1], x.shape[0])
    states = (batch, directions, hidden) if layout else (directions, batch, hidden)
    whole: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "W": (weight, (directions, rows, x.shape[-1])),
        "R": (recurrence, (directions, rows, hidden)),
    }
    sizes: tuple[tuple[int, ...], ...]
    sizes = ((directions, 2 * rows), (batch,), states, states, (directions, 3 * hidden))
    whole |= dict(zip(_OPTIONAL, zip(others, sizes, strict=False), strict=False))
    for name, (given, needed) in whole.items():
        if given is not None and tuple(given.shape) != needed:
            raise ValueError(f"{name} of shape {tuple(given.shape)}, where {needed} is needed")
    y = (batch, time, directions, hidden) if layout else (time, directions, batch, hidden)
    return meta(y, x.dtype), *(meta(states, x.dtype) for _ in range(_states(op)))


def _states(op: str) -> int:
    return 2 if op == "LSTM" else 1


def _register(name: str, *also: str) -> Callable[[_Step], _Step]:
    """Register the layer that makes the decorated step over and over."""

    def add(step: _Step) -> _Step:
        def layer(
            x: Tensor,
            weight: Tensor,
            recurrence: Tensor,
            bias: Tensor | None = None,
            lengths: Tensor | None = None,
            *others: Tensor | None,
            **how: Any,
        ) -> tuple[Tensor, ...]:
            first, states = [*others, None, None, None], _states(name)
            given = (first[:states], first[states])
            return _layer(name, step, x, weight, recurrence, bias, lengths, *given, **how)

        infer = partial(_outputs, op=name)
        register(name, since=7, infer=infer, also=(*_ATTRIBUTES, *also))(layer)
        return step

    return add


@_register("RNN")
def _rnn(
    wx: Tensor, states: list[Tensor], r: Tensor, rb: Tensor, _: Any, curves: Any, *__: int
) -> list[Tensor]:
    """h' = f(W x + Wb + R h + Rb)."""
    return [curves[0](wx + states[0] @ r.t() + rb)]


@_register("GRU", "linear_before_reset")
def _gru(
    wx: Tensor,
    states: list[Tensor],
    r: Tensor,
    rb: Tensor,
    _: Any,
    curves: Any,
    linear_before_reset: int,
    __: int,
) -> list[Tensor]:
    """Gates in the order update, reset, new."""
    (h,), (f, g) = states, curves
    wz, wr, wn = wx.chunk(3, -1)
    (rz, rr, rn), (bz, br, bn) = r.chunk(3), rb.chunk(3)
    update = f(wz + h @ rz.t() + bz)
    reset = f(wr + h @ rr.t() + br)
    if linear_before_reset:
        new = g(wn + reset * (h @ rn.t() + bn))
    else:
        new = g(wn + (reset * h) @ rn.t() + bn)
    return [(1 - update) * new + update * h]


@_register("LSTM", "input_forget")
def _lstm(
    wx: Tensor,
    states: list[Tensor],
    r: Tensor,
    rb: Tensor,
    peepholes: Tensor | None,
    curves: Any,
    _: int,
    input_forget: int,
) -> list[Tensor]:
    """Gates in the order input, output, forget, new; peepholes [3 * H] for the first three."""
    (h, c), (f, g, last) = states, curves
    i, o, forget, new = (wx + h @ r.t() + rb).chunk(4, -1)
    pi, po, pf = (c.new_zeros(3) if peepholes is None else peepholes).chunk(3)
    taken = f(i + pi * c)
    kept = 1 - taken if input_forget else f(forget + pf * c)
    c = kept * c + taken * g(new)
    return [f(o + po * c) * last(c), c]
