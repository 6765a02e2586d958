"""Products with weights as native operations: convolutions of every grouping, linear maps."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from fastgan.engine.native import packing, records, sampling
from fastgan.engine.native.lowering import (
    Lowering,
    grid,
    place,
    sizes_of,
    slices,
    unsupported,
)
from fastgan.engine.native.records import NOTHING, Kind, listed, record
from fastgan.engine.native.tensors import View, new, plain
from fastgan.plan import Epilogue, Plan, Step
from fastgan.plan.cost import is_depthwise
from fastgan.plan.weights import joined, meta_of

#: More groups than this are too little work each.
_MOST_GROUPS = 16

#: The largest tile of Winograd's, in pixels along an axis; which is taken,
#: csrc/packing/winograd.h says of the weights.
_MOST_MINIMAL = 4

#: An instruction of a pointwise program: its first tensor.
_LOAD = ("load", 0.0, 0, -1, -1)

_BORDERS = {None: "zeros", "reflect": "reflect", "edge": "edge"}


def product(low: Lowering, step: Step) -> None:
    """fastgan.Linear, Conv, ConvTranspose."""
    if step.inputs[1] not in low.plan.weights:
        raise unsupported(step, "a weight that depends on data")
    if step.epilogue.bias and step.inputs[2] not in low.plan.weights:
        raise unsupported(step, "a bias that depends on data")
    x = low.read(step.inputs[0])
    if _in_planes(low, step, x):
        _planes(low, step, x)
        return
    residual, scale_in, scale_out = (low.input(step, i) for i in (3, 4, 5))
    y = low.write_images(step.outputs[0])
    if step.op == "fastgan.Linear":
        if len(x.shape) != 2 or len(y.shape) > 5:
            raise unsupported(step, f"rows of {len(x.shape)} axes to {len(y.shape)}")
        dense(low, step, low.plan, low.images(x), slices(step, y), residual, None)
        return
    if len(x.shape) > 5:
        raise unsupported(step, f"images of {len(x.shape) - 2} axes")
    if len(x.shape) == 5:
        _volumes(low, step, low.images(x), y)
        return
    if scale_in is not None:
        scaled = new(low.images(x).meta.clone(memory_format=torch.preserve_format))
        low.pointwise([_LOAD, ("mul", 0.0, 1, -1, -1)], [x, scale_in], scaled)
        x = scaled
    x = low.images(x)
    group = step.attributes["group"]
    weight = meta_of(low.plan.weights, step.inputs[1])
    if group == 1:
        dense(low, step, low.plan, x, y, residual, scale_out)
    elif step.op == "fastgan.Conv" and _plain(step) and is_depthwise(step.op, weight.shape, group):
        if group <= low.native.FEW_CHANNELS and step.attributes["strides"][-1] > 1:
            dense(low, step, low.plan, x, y, residual, scale_out)
        else:
            _depthwise(low, step, x, y, residual, scale_out)
    elif group <= _MOST_GROUPS and "shuffle" not in step.attributes:
        _groups(low, step, x, y, residual, scale_out)
    else:
        raise unsupported(step, f"{group} groups")


def _plain(step: Step) -> bool:
    return not step.attributes.get("upsample") and not step.attributes.get("shuffle")


def _groups(
    low: Lowering, step: Step, x: View, y: View, residual: View | None, scale: View | None
) -> None:
    """Each group as a convolution of its own, from and to its channels."""
    group = step.attributes["group"]
    weight = low.plan.weights[step.inputs[1]]
    channels, outputs = x.shape[1] // group, y.shape[1] // group
    for g in range(group):
        own_weights = {step.inputs[1]: weight.chunk(group)[g]}
        if step.epilogue.bias:
            own_weights[step.inputs[2]] = low.plan.weights[step.inputs[2]].chunk(group)[g]
        slopes = step.epilogue.slopes
        own = slopes[g * outputs : (g + 1) * outputs] if len(slopes) > 1 else slopes
        alone = replace(
            step,
            attributes={**step.attributes, "group": 1},
            epilogue=replace(step.epilogue, slopes=own),
        )

        def of(view: View | None, size: int, g: int = g) -> View | None:
            return view if view is None or view.shape[1] == 1 else view.narrow(1, g * size, size)

        dense(
            low,
            alone,
            replace(low.plan, weights=joined(low.plan.weights, own_weights)),
            x.narrow(1, g * channels, channels),
            y.narrow(1, g * outputs, outputs),
            of(residual, outputs),
            of(None if scale is None else low.rows(scale), outputs),
        )


def _volumes(low: Lowering, step: Step, x: View, y: View) -> None:
    """Slices of volumes: those of the kernel one after another, each added to what there is."""
    a, fused = step.attributes, step.epilogue
    beyond = a.keys() - {"group", "strides", "pads", "dilations", "output_padding"}
    if a["group"] != 1 or fused.slopes or any(step.inputs[3:]) or beyond:
        raise unsupported(step, "volumes in groups, or with more than a bias")
    transposed = step.op == "fastgan.ConvTranspose"
    plane = {k: v if k == "group" else (*v[1:3], *v[4:6]) for k, v in a.items()}
    alone = replace(step, attributes=plane, epilogue=Epilogue(residual=True))
    bias = low.plan.weights[step.inputs[2]] if fused.bias else torch.zeros(1)
    low.pointwise([_LOAD], [low.constant(bias.reshape(1, -1, 1, 1, 1))], y)
    weight = low.plan.weights[step.inputs[1]].float()
    stride, pad, dilation = a["strides"][0], a["pads"][0], a["dilations"][0]
    few, many = (x, y) if transposed else (y, x)
    for k in range(weight.shape[2]):
        weights = joined(low.plan.weights, {step.inputs[1]: weight[:, :, k].contiguous()})
        plan = replace(low.plan, weights=weights)
        # Slice i of the few meets slice i * stride + first of the many.
        first = k * dilation - pad
        begin = max(0, -(first // stride))
        end = min(few.shape[2], (many.shape[2] - 1 - first) // stride + 1)
        if begin >= end:
            continue
        ranges = {False: slice(begin, end), True: slice(begin * stride + first, None, stride)}
        for n in range(x.shape[0]):
            source, target = (
                view.of(view.meta[n].movedim(1, 0)[ranges[view is many]][: end - begin])
                for view in (x, y)
            )
            dense(low, alone, plan, source, target, target, None)
    if fused.activation != "none":
        low.pointwise([_LOAD, (fused.activation, fused.slope, -1, -1, -1)], [y], y)


def dense(
    low: Lowering,
    step: Step,
    plan: Plan,
    x: View,
    y: View,
    residual: View | None,
    scale: View | None,
) -> None:
    """A product of one group: its rows, sequences or images from x to y.

    residual, scale: what its epilogue adds, and multiplies with.
    """
    border = _border(low, step)
    if step.attributes.get("pad_mode") == "reflect" and step.attributes.get("upsample"):
        # Reflected is what is enlarged, and that differs from enlarging what is reflected.
        x = sampling.doubled(low, x)
        step = replace(step, attributes={**step.attributes, "upsample": 0})
    made = packing.product(step, plan, x.shape, y.shape)
    if made.taps(low.native) > low.native.MOST_TAPS:
        raise unsupported(step, "too many taps")
    most = _MOST_MINIMAL
    fields = records.product(made, low.constants, most)
    fused, residual, scale = low.epilogue(step, y, residual, scale)

    def make() -> bytes:
        return record(
            Kind.DENSE_BF16 if low.bf16 else Kind.DENSE,
            fields,
            most,
            y.shape[0],
            grid(x),
            grid(y),
            border,
            fused,
            *(place(tensor) for tensor in (x, y, residual, scale)),
        )

    low.add(make, x, y, residual, scale)


def _border(low: Lowering, step: Step) -> int:
    mode = step.attributes.get("pad_mode")
    if mode not in _BORDERS:
        raise unsupported(step, f"pad mode {mode}")
    return low.border(_BORDERS[mode])


def _in_planes(low: Lowering, step: Step, x: View) -> bool:
    """Whether a depthwise layer's channels lie one behind another, and may do so behind it."""
    group = step.attributes.get("group", 1)
    if step.op != "fastgan.Conv" or len(x.shape) > 4 or any(step.inputs[3:]) or not _plain(step):
        return False
    weight = meta_of(low.plan.weights, step.inputs[1])
    taps = math.prod(weight.shape[2:])
    side_by_side = x.shape[-1] == 1 or x.meta.stride(-1) == 1
    return (
        is_depthwise(step.op, weight.shape, group)
        and taps <= low.native.MOST_TAPS
        and side_by_side
        and (x.shape[1] == 1 or x.meta.stride(1) != 1)
        and low.lies_freely(step.outputs[0])
    )


def _planes(low: Lowering, step: Step, x: View) -> None:
    border = _border(low, step)
    y = low.write(step.outputs[0], like=plain(low.plan.buffers[step.outputs[0]].shape))
    weights, bias, axes = _of_channels(low, step)
    fused, _, _ = low.epilogue(step, y, None)

    def planes(view: View) -> list[int]:
        _, _, height, width = sizes_of(view)
        image, channel, *row = view.strides[:-1]
        return [height, width, image, channel, *(row or [0])]

    def make() -> bytes:
        return record(
            Kind.DEPTHWISE_PLANES,
            y.shape[:2],
            planes(x),
            planes(y),
            border,
            axes,
            weights,
            bias,
            fused,
            x.place,
            y.place,
        )

    low.add(make, x, y)


def _of_channels(
    low: Lowering, step: Step
) -> tuple[tuple[int, int], tuple[int, int], list[tuple[int, int, int, int]]]:
    """Where a depthwise layer's weights and bias are; of rows and columns stride, kernel, dilation
    and pad.
    """
    a = step.attributes
    weight = low.plan.weights[step.inputs[1]].float()
    rank = weight.dim() - 2
    axes = [(1, 1, 1, 0)] * (2 - rank)
    numbers = (a["strides"], weight.shape[2:], a["dilations"], a["pads"][:rank])
    axes += zip(*numbers, strict=True)
    bias = NOTHING
    if step.epilogue.bias:
        bias = low.constants.place(low.plan.weights[step.inputs[2]].float().contiguous())
    return low.constants.place(weight.contiguous()), bias, axes


def _depthwise(
    low: Lowering, step: Step, x: View, y: View, residual: View | None, scale: View | None
) -> None:
    border = _border(low, step)
    weights, bias, (rows, columns) = _of_channels(low, step)
    taps = [
        (ky * rows[2] - rows[3], kx * columns[2] - columns[3])
        for ky in range(rows[1])
        for kx in range(columns[1])
    ]
    if len(taps) > low.native.MOST_TAPS:
        raise unsupported(step, "too many taps")
    fused, residual, scale = low.epilogue(step, y, residual, scale)

    def make() -> bytes:
        return record(
            Kind.DEPTHWISE,
            y.shape[0],
            grid(x),
            grid(y),
            border,
            (rows[0], columns[0]),
            listed(number for tap in taps for number in tap),
            weights,
            bias,
            fused,
            *(place(tensor) for tensor in (x, y, residual, scale)),
        )

    low.add(make, x, y, residual, scale)
