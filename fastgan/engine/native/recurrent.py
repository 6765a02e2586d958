"""Recurrent layers as native operations: one product of all inputs, then a stage for each step."""

from __future__ import annotations

from dataclasses import replace

from fastgan.engine.native import layers
from fastgan.engine.native.lowering import Lowering, place, unsupported
from fastgan.engine.native.records import Kind, record
from fastgan.engine.native.tensors import View, new, plain
from fastgan.plan import Epilogue, Step
from fastgan.plan.weights import joined

#: The cells, in the order of csrc/runtime/kernels/kernels.h.
_CELLS = ("RNN", "GRU", "LSTM")


def layer(low: Lowering, step: Step) -> None:
    """ONNX's RNN, GRU and LSTM."""
    a, weights = step.attributes, low.plan.weights
    names = (*step.inputs, *[""] * 8)[:8]
    x, weight, recurrence, bias, lengths, *_, peepholes = names
    if weight not in weights or any(n and n not in weights for n in (recurrence, bias, peepholes)):
        raise unsupported(step, "weights that depend on data")
    if lengths:
        raise unsupported(step, "sequences of lengths of their own")
    if step.op == "GRU" and not a.get("linear_before_reset"):
        raise unsupported(step, "a reset before the product")
    hidden, by_sample = weights[recurrence].shape[-1], bool(a.get("layout"))

    def swapped(view: View | None) -> View | None:
        """As it lies with layout 0, whatever the step's."""
        return view.of(view.meta.transpose(0, 1)) if view is not None and by_sample else view

    source = low.rows(low.read(x))
    made = [low.write_rows(name) if name else None for name in (*step.outputs, "", "")[:3]]
    out = made[0] and made[0].of(made[0].meta.permute(1, 2, 0, 3) if by_sample else made[0].meta)
    last = [swapped(view) for view in made[1:]]
    first = [swapped(low.input(step, position)) for position in (5, 6)]
    flat = source.of(source.meta.view(-1, source.shape[-1]))
    matrices = weights[weight]
    for d in range(matrices.shape[0]):
        both = None if not bias else weights[bias][d].float().chunk(2)
        gates = new(plain((flat.shape[0], matrices.shape[1])))
        own = {weight: matrices[d].t()}
        if both is not None:
            own[bias] = both[0]
        alone = replace(
            step,
            op="fastgan.Linear",
            inputs=(x, weight, bias),
            attributes={},
            epilogue=Epilogue(bias=both is not None),
        )
        plan = replace(low.plan, weights=joined(weights, own))
        layers.dense(low, alone, plan, flat, gates, None, None)
        constants = (
            weights[recurrence][d],
            None if both is None else both[1],
            weights[peepholes][d] if peepholes else None,
        )
        _direction(
            low,
            step,
            gates.of(gates.meta.view(*source.shape[:2], -1)),
            [None if tensor is None else low.constant(tensor) for tensor in constants],
            [None if view is None else view.of(view.meta[:, d]) for view in [out]]
            + [None if view is None else low.rows(view.of(view.meta[d])) for view in first]
            + [None if view is None else view.of(view.meta[d]) for view in last],
            hidden,
            a.get("direction") == "reverse" or d == 1,
        )


def _direction(
    low: Lowering,
    step: Step,
    gates: View,
    constants: list[View | None],
    states: list[View | None],
    hidden: int,
    backwards: bool,
) -> None:
    """The steps of one direction.

    Args:
        gates: the input's products, [T, N, gates * hidden]; [N, T, ...] with `layout`.
        constants: recurrence, its bias, peepholes.
        states: outputs of all steps, first state and memory, last state and memory.
    """
    if step.attributes.get("layout"):
        gates = gates.of(gates.meta.transpose(0, 1))
    time, images = gates.shape[:2]
    outputs, *others = states

    def make() -> bytes:
        return record(
            Kind.RECURRENT,
            _CELLS.index(step.op),
            time,
            images,
            hidden,
            backwards,
            gates.strides[:2],
            (0, 0) if outputs is None else outputs.strides[:2],
            [0 if view is None else view.strides[0] for view in others],
            [place(view) for view in (*constants, gates, *states)],
        )

    low.add(make, gates, *constants, *states)
