"""Products as native operations: convolutions of every grouping, linear maps, matrices."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from fastgan.engine.native import packing, sampling, winograd
from fastgan.engine.native.lowering import Lowering, grid, place, unsupported
from fastgan.engine.native.packing import Path
from fastgan.engine.native.tensors import View, new, plain
from fastgan.plan import Plan, Step
from fastgan.plan.cost import is_depthwise

#: More groups than this are too little work each.
_MOST_GROUPS = 16

#: As kernels_dense.h has it.
_MOST_TAPS = 512

#: The largest tile of Winograd's: see winograd.py.
_MOST_MINIMAL = 4

_BORDERS = {None: "zeros", "reflect": "reflect", "edge": "edge"}


def product(low: Lowering, step: Step) -> None:
    """fastgan.Linear, Conv, ConvTranspose."""
    if step.inputs[1] not in low.plan.weights:
        raise unsupported(step, "a weight that depends on data")
    if step.epilogue.bias and step.inputs[2] not in low.plan.weights:
        raise unsupported(step, "a bias that depends on data")
    x = low.read(step.inputs[0])
    residual, scale_in, scale_out = (low.input(step, i) for i in (3, 4, 5))
    y = low.write_images(step.outputs[0])
    if step.op == "fastgan.Linear":
        if len(x.shape) != 2 or len(y.shape) > 4:
            raise unsupported(step, f"rows of {len(x.shape)} axes to {len(y.shape)}")
        _dense(low, step, low.plan, low.images(x), y, residual, None)
        return
    if len(x.shape) > 4:
        raise unsupported(step, f"images of {len(x.shape) - 2} axes")
    if scale_in is not None:
        scaled = new(low.images(x).meta.clone(memory_format=torch.preserve_format))
        low.pointwise([("load", 0.0, 0, -1, -1), ("mul", 0.0, 1, -1, -1)], [x, scale_in], scaled)
        x = scaled
    x = low.images(x)
    group = step.attributes["group"]
    weight = low.plan.weights[step.inputs[1]]
    if group == 1:
        _dense(low, step, low.plan, x, y, residual, scale_out)
    elif step.op == "fastgan.Conv" and _plain(step) and is_depthwise(step.op, weight.shape, group):
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
    weight, weights = low.plan.weights[step.inputs[1]], dict(low.plan.weights)
    channels, outputs = x.shape[1] // group, y.shape[1] // group
    for g in range(group):
        part = weight.chunk(group)[g]
        weights[step.inputs[1]] = part
        if step.epilogue.bias:
            weights[step.inputs[2]] = low.plan.weights[step.inputs[2]].chunk(group)[g]
        slopes = step.epilogue.slopes
        own = slopes[g * outputs : (g + 1) * outputs] if len(slopes) > 1 else slopes
        alone = replace(
            step,
            attributes={**step.attributes, "group": 1},
            epilogue=replace(step.epilogue, slopes=own),
        )

        def of(view: View | None, size: int, g: int = g) -> View | None:
            return view if view is None or view.shape[1] == 1 else view.narrow(1, g * size, size)

        _dense(
            low,
            alone,
            replace(low.plan, weights=weights),
            x.narrow(1, g * channels, channels),
            y.narrow(1, g * outputs, outputs),
            of(residual, outputs),
            of(None if scale is None else low.rows(scale), outputs),
        )


def _dense(
    low: Lowering,
    step: Step,
    plan: Plan,
    x: View,
    y: View,
    residual: View | None,
    scale: View | None,
) -> None:
    n = low.native
    path = Path("", low.width, 1)
    mode = step.attributes.get("pad_mode")
    if mode not in _BORDERS:
        raise unsupported(step, f"pad mode {mode}")
    if mode == "reflect" and step.attributes.get("upsample"):
        # Reflected is what is enlarged, and that differs from enlarging what is reflected.
        x = sampling.doubled(low, x)
        step = replace(step, attributes={**step.attributes, "upsample": 0})
    made = packing.layout(step, plan, path, x.shape, y.shape)
    made = winograd.minimal(made, low.width, _MOST_MINIMAL)
    if max(len(phase.taps) for phase in made.phases) > _MOST_TAPS:
        raise unsupported(step, "too many taps")
    low.kept += made.tensors
    epilogue, residual, scale = low.epilogue(step, y, residual, scale)

    def make() -> Any:
        return n.Dense(
            images=y.shape[0],
            input=grid(x),
            output=grid(y),
            border=getattr(n.Border, _BORDERS[mode]),
            vectors=made.vectors,
            in_step=made.in_step,
            out_step=made.out_step,
            patch=made.patch,
            bias=0 if made.bias is None else made.bias.data_ptr(),
            epilogue=epilogue,
            phases=[
                n.DensePhase(
                    weights=phase.weights.data_ptr(),
                    pixels=phase.pixels,
                    first_out=phase.first_out,
                    taps=phase.taps,
                    minimal=phase.minimal,
                )
                for phase in made.phases
            ],
            x=x.place,
            y=y.place,
            residual=place(residual),
            scale=place(scale),
            weights=(-2, 0),
            weights_image=0,
        )

    low.add(make, x, y, residual, scale)


def _depthwise(
    low: Lowering, step: Step, x: View, y: View, residual: View | None, scale: View | None
) -> None:
    n, a = low.native, step.attributes
    weight = low.plan.weights[step.inputs[1]].float()
    rank = len(x.shape) - 2
    kernel, strides, dilations, pads = (
        [*[one] * (2 - rank), *numbers]
        for one, numbers in (
            (1, weight.shape[2:]),
            (1, a["strides"]),
            (1, a["dilations"]),
            (0, a["pads"][:rank]),
        )
    )
    taps = [
        (ky * dilations[0] - pads[0], kx * dilations[1] - pads[1])
        for ky in range(kernel[0])
        for kx in range(kernel[1])
    ]
    if len(taps) > _MOST_TAPS:
        raise unsupported(step, "too many taps")
    low.kept.append(weight.reshape(weight.shape[0], -1).t().contiguous())
    packed, bias = low.kept[-1], 0
    if step.epilogue.bias:
        low.kept.append(low.plan.weights[step.inputs[2]].float().contiguous())
        bias = low.kept[-1].data_ptr()
    epilogue, residual, scale = low.epilogue(step, y, residual, scale)

    def make() -> Any:
        return n.Depthwise(
            images=y.shape[0],
            input=grid(x),
            output=grid(y),
            border=getattr(n.Border, _BORDERS[a.get("pad_mode")]),
            step=strides,
            taps=taps,
            weights=packed.data_ptr(),
            bias=bias,
            epilogue=epilogue,
            x=x.place,
            y=y.place,
            residual=place(residual),
            scale=place(scale),
        )

    low.add(make, x, y, residual, scale)


def matrices(low: Lowering, step: Step) -> None:
    """MatMul of two tensors that depend on data, or of one."""
    a, b = low.read(step.inputs[0]), low.read(step.inputs[1])
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise unsupported(step, "a product with a vector")
    y = low.write(step.outputs[0])
    batch = y.shape[:-2]
    if not y.meta.is_contiguous():
        made = new(plain(y.shape))
        _matrices(low, a, b, made, batch)
        low.copy(made, y)
    else:
        _matrices(low, a, b, y, batch)


def _matrices(low: Lowering, a: View, b: View, y: View, batch: tuple[int, ...]) -> None:
    n = low.native
    count = math.prod(batch)
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    a, b = (
        _batched(low, view, batch, inner_is_last) for view, inner_is_last in ((a, True), (b, False))
    )
    vectors = 2 if columns > low.width else 1
    lanes = vectors * low.width
    blocks = -(-columns // lanes)
    own = b.shape[0] > 1
    packed = new(plain((b.shape[0], blocks, inner, lanes)))

    def pack() -> Any:
        return n.PackWeights(
            count=b.shape[0],
            rows=inner,
            columns=columns,
            strides=list(b.meta.stride()),
            lanes=lanes,
            x=b.place,
            y=packed.place,
        )

    low.add(pack, b, packed)
    image, row, _ = a.strides
    # Rows of all matrices are pixels of images [1, rows, inner].
    phase_pixels = [1, rows]

    def make() -> Any:
        plain_epilogue = n.Epilogue(
            curve=n.Curve.none, parameter=0.0, slopes=0, scale_image=0, residual=[0, 0, 0, 1]
        )
        return n.Dense(
            images=count,
            input=[1, rows, inner, image, 0, row],
            output=[1, rows, columns, rows * columns, 0, columns],
            border=n.Border.zeros,
            vectors=vectors,
            in_step=[1, 1],
            out_step=[1, 1],
            patch=[1, 1],
            bias=0,
            epilogue=plain_epilogue,
            phases=[n.DensePhase(weights=0, pixels=phase_pixels, first_out=[0, 0], taps=[(0, 0)])],
            x=a.place,
            y=y.place,
            residual=(-2, 0),
            scale=(-2, 0),
            weights=packed.place,
            weights_image=blocks * inner * lanes if own else 0,
        )

    low.add(make, a, y, packed)


def _batched(low: Lowering, view: View, batch: tuple[int, ...], rows_only: bool) -> View:
    """[matrices, rows, columns]; one matrix for all where that is so."""
    shape = view.shape[-2:]
    if math.prod(view.shape[:-2]) == 1:
        view = view.of(view.meta.reshape(1, *shape))
        if rows_only:
            view = view.of(view.meta.expand(math.prod(batch), *shape))
    else:
        wide = view.of(view.meta.expand(*batch, *shape))
        try:
            view = wide.of(wide.meta.view(-1, *shape))
        except RuntimeError:
            made = new(plain(wide.shape))
            low.copy(wide, made)
            view = made.of(made.meta.view(-1, *shape))
    if rows_only and view.shape[2] > 1 and view.meta.stride(2) != 1:
        view = low.rows(view)
    return view
