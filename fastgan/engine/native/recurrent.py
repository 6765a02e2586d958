"""Recurrent layers as native operations: one product of all inputs, then a stage for each step."""

from __future__ import annotations

import math
from dataclasses import replace

from fastgan.engine.native import layers, matrices
from fastgan.engine.native.lowering import Lowering, place
from fastgan.engine.native.records import NOTHING, Kind, record
from fastgan.engine.native.tensors import View, new, plain
from fastgan.ops.recurrent import Function, functions
from fastgan.plan import Epilogue, Step
from fastgan.plan.weights import joined

#: The cells, in the order of csrc/runtime/kernels/kernels.h: a GRU's reset follows the product.
_CELLS = ("RNN", "GRU", "LSTM", "GRU, reset first")

#: The functions of gates, in that order.
_CURVES = (
    *("tanh", "sigmoid", "relu", "affine", "leakyrelu", "thresholdedrelu", "scaledtanh"),
    *("hardsigmoid", "elu", "softsign", "softplus"),
)

_ADD = (("load", 0.0, 0, -1, -1), ("add", 0.0, 1, -1, -1))


def layer(low: Lowering, step: Step) -> None:
    """ONNX's RNN, GRU and LSTM."""
    names = (*step.inputs, *[""] * 8)[:8]
    x, weight, recurrence, bias, lengths, *_, peepholes = names
    by_sample = bool(step.attributes.get("layout"))
    plan, known = low.plan, low.plan.weights

    def swapped(view: View | None) -> View | None:
        """As it lies with layout 0, whatever the step's."""
        return view.of(view.meta.transpose(0, 1)) if view is not None and by_sample else view

    def part(name: str, d: int) -> View | None:
        """What is a direction's own, row by row."""
        if not name:
            return None
        if name in known:
            return low.constant(known[name][d])
        view = low.read(name)
        return low.rows(view.of(view.meta[d]))

    source = low.rows(low.read(x))
    ended = low.rows(low.read(lengths, whole=True)) if lengths else None
    made = [low.write_rows(name) if name else None for name in (*step.outputs, "", "")[:3]]
    out = made[0] and made[0].of(made[0].meta.permute(1, 2, 0, 3) if by_sample else made[0].meta)
    last = [swapped(view) for view in made[1:]]
    first = [swapped(low.input(step, position)) for position in (5, 6)]
    flat = source.of(source.meta.view(-1, source.shape[-1]))
    given = known[weight] if weight in known else low.read(weight).meta
    directions, rows = given.shape[:2]
    curves = functions(step.op, directions, **step.attributes)
    fixed = weight in known and (not bias or bias in known)
    for d in range(directions):
        both = part(bias, d)
        halves = [None if both is None else both.narrow(0, i * rows, rows) for i in (0, 1)]
        gates = new(plain((flat.shape[0], rows)))
        if fixed:
            own = {weight: known[weight][d].t()}
            if bias:
                own[bias] = known[bias][d].float()[:rows]
            alone = replace(
                step,
                op="fastgan.Linear",
                inputs=(x, weight, bias),
                attributes={},
                epilogue=Epilogue(bias=bool(bias)),
            )
            own_plan = replace(plan, weights=joined(known, own))
            layers.dense(low, alone, own_plan, flat, gates, None, None)
        else:
            matrix = part(weight, d)
            assert matrix is not None
            matrices.multiply(low, flat, matrix.of(matrix.meta.t()), gates, ())
            if halves[0] is not None:
                low.pointwise([*_ADD], [gates, halves[0]], gates)
        steps = gates.of(gates.meta.view(*source.shape[:2], -1))
        _direction(
            low,
            step,
            steps.of(steps.meta.transpose(0, 1)) if by_sample else steps,
            [part(recurrence, d), halves[1], part(peepholes, d)],
            [None if view is None else view.of(view.meta[:, d]) for view in [out]]
            + [None if view is None else low.rows(view.of(view.meta[d])) for view in first]
            + [None if view is None else view.of(view.meta[d]) for view in last],
            ended,
            curves[d],
            step.attributes.get("direction") == "reverse" or d == 1,
        )


def _direction(
    low: Lowering,
    step: Step,
    gates: View,
    weights: list[View | None],
    states: list[View | None],
    lengths: View | None,
    curves: tuple[Function, ...],
    backwards: bool,
) -> None:
    """The steps of one direction.

    Args:
        gates: the input's products, [T, N, gates * hidden].
        weights: recurrence, its bias, peepholes.
        states: outputs of all steps, first state and memory, last state and memory.
        lengths: of the sequences, if not all are as long.
        curves: f, g and h.
    """
    time, images = gates.shape[:2]
    outputs, *others = states
    assert weights[0] is not None
    hidden = weights[0].shape[-1]
    reset_first = step.op == "GRU" and not step.attributes.get("linear_before_reset")
    cell = _CELLS.index("GRU, reset first" if reset_first else step.op)
    couples = step.op == "LSTM" and bool(step.attributes.get("input_forget"))
    usual = curves == functions(step.op, 1)[0]
    made = any(view is not None and not view.root.constant for view in weights)
    plainly = usual and lengths is None and not (reset_first or couples or made)
    every = [Function("tanh")] * 3
    every[: len(curves)] = curves

    def make() -> bytes:
        fields = (
            cell,
            time,
            images,
            hidden,
            backwards,
            gates.strides[:2],
            (0, 0) if outputs is None else outputs.strides[:2],
            [0 if view is None else view.strides[0] for view in others],
            [place(view) for view in (*weights, gates, *states)],
        )
        if plainly:
            return record(Kind.RECURRENT, *fields)
        return record(
            Kind.ANY_RECURRENT,
            *fields,
            NOTHING if lengths is None else lengths.place,
            [(_CURVES.index(f.name), float(f.alpha), float(f.beta)) for f in every],
            float(math.inf if curves[0].clip is None else curves[0].clip),
            couples,
        )

    low.add(make, gates, *weights, *states, lengths)
