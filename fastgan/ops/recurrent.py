"""Recurrent layers: ONNX RNN, GRU and LSTM as loops over time, with their default activations.

Weights are [directions, gates * hidden, ...], and the gates in ONNX's order; B holds the biases of
the input, then those of the state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.infer import meta
from fastgan.ops.registry import register

#: The attributes of every layer; `_outputs` refuses most values of most of them.
_ATTRIBUTES = (
    *("hidden_size", "direction", "layout", "clip"),
    *("activations", "activation_alpha", "activation_beta"),
)

#: One step: (input products with their biases, states, direction's R, its biases, its peepholes,
#: linear_before_reset) -> new states, h first.
_Step = Callable[[Tensor, list[Tensor], Tensor, Tensor, "Tensor | None", int], list[Tensor]]


def _layer(
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
    **_: Any,
) -> tuple[Tensor, ...]:
    """All steps of every direction: Y [T, D, N, H], then the last states, each [D, N, H]."""
    if layout:
        x = x.transpose(0, 1)
        states = [None if s is None else s.transpose(0, 1) for s in states]
    time, batch = x.shape[:2]
    hidden = recurrence.shape[-1]
    outputs, lasts = [], []
    for d in range(weight.shape[0]):
        backwards = direction == "reverse" or d == 1
        both = x.new_zeros(2 * weight.shape[1]) if bias is None else bias[d]
        of_input, of_state = both.chunk(2)
        products = x @ weight[d].t() + of_input
        now = [x.new_zeros(batch, hidden) if s is None else s[d] for s in states]
        own = (None if peepholes is None else peepholes[d], linear_before_reset)
        rows: list[Tensor] = [now[0]] * time
        for t in reversed(range(time)) if backwards else range(time):
            new = step(products[t], now, recurrence[d], of_state, *own)
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
    expected: tuple[str, ...],
    states: int = 1,
    direction: str = "forward",
    layout: int = 0,
    activations: Sequence[str] = (),
    clip: float | None = None,
    input_forget: int = 0,
    **_: Any,
) -> tuple[Tensor, ...]:
    """Shapes of Y and the last states.

    Raises:
        NotImplementedError: for activations other than the defaults, and variants of the cell.
    """
    names = tuple(name.capitalize() for name in activations)
    if names not in ((), expected, expected * 2) or clip is not None or input_forget:
        raise NotImplementedError(f"activations {names}, clip {clip}, input_forget {input_forget}")
    directions, hidden = weight.shape[0], recurrence.shape[-1]
    if directions != (2 if direction == "bidirectional" else 1):
        raise ValueError(f"weights of {directions} directions, {direction}")
    if layout:
        batch, time = x.shape[:2]
        y, last = (batch, time, directions, hidden), (batch, directions, hidden)
    else:
        time, batch = x.shape[:2]
        y, last = (time, directions, batch, hidden), (directions, batch, hidden)
    return meta(y, x.dtype), *(meta(last, x.dtype) for _ in range(states))


def _register(
    name: str, expected: tuple[str, ...], *, states: int = 1, also: tuple[str, ...] = ()
) -> Callable[[_Step], _Step]:
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
            first = [*others, None, None, None]
            given = (first[:states], first[states])
            return _layer(step, x, weight, recurrence, bias, lengths, *given, **how)

        infer = partial(_outputs, expected=expected, states=states)
        register(name, since=7, infer=infer, also=(*_ATTRIBUTES, *also))(layer)
        return step

    return add


@_register("RNN", ("Tanh",))
def _rnn(wx: Tensor, states: list[Tensor], r: Tensor, rb: Tensor, *_: Any) -> list[Tensor]:
    """h' = tanh(W x + Wb + R h + Rb)."""
    return [torch.tanh(wx + states[0] @ r.t() + rb)]


@_register("GRU", ("Sigmoid", "Tanh"), also=("linear_before_reset",))
def _gru(
    wx: Tensor, states: list[Tensor], r: Tensor, rb: Tensor, _: Any, linear_before_reset: int
) -> list[Tensor]:
    """Gates in the order update, reset, new."""
    (h,) = states
    wz, wr, wn = wx.chunk(3, -1)
    (rz, rr, rn), (bz, br, bn) = r.chunk(3), rb.chunk(3)
    update = torch.sigmoid(wz + h @ rz.t() + bz)
    reset = torch.sigmoid(wr + h @ rr.t() + br)
    if linear_before_reset:
        new = torch.tanh(wn + reset * (h @ rn.t() + bn))
    else:
        new = torch.tanh(wn + (reset * h) @ rn.t() + bn)
    return [(1 - update) * new + update * h]


@_register("LSTM", ("Sigmoid", "Tanh", "Tanh"), states=2, also=("input_forget",))
def _lstm(
    wx: Tensor, states: list[Tensor], r: Tensor, rb: Tensor, peepholes: Tensor | None, _: int
) -> list[Tensor]:
    """Gates in the order input, output, forget, new; peepholes [3 * H] for the first three."""
    h, c = states
    i, o, f, new = (wx + h @ r.t() + rb).chunk(4, -1)
    pi, po, pf = (c.new_zeros(3) if peepholes is None else peepholes).chunk(3)
    c = torch.sigmoid(f + pf * c) * c + torch.sigmoid(i + pi * c) * torch.tanh(new)
    return [torch.sigmoid(o + po * c) * torch.tanh(c), c]
