"""FIR filters around upsampling (StyleGAN's upfirdn2d), in as few steps as pay.

Zeros between the pixels are a transposed convolution with a 1x1 kernel. A filter behind a
transposed convolution without pads is a transposed convolution with a larger kernel: with the
weight w[v] and the filter f[u] of F taps, g[v] = sum over u of f[u] * w[v + u - (F - 1)].
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.addressing import padding
from fastgan.plan.rewrite.rules.rule import Rule

#: Multiplications per output element that one pass over memory is worth, as on a CPU: 8 bytes of
#: fp32 at some 10 GB/s and core, beside some 60 G multiplications. A 3x3 kernel of C channels
#: becomes 6x6 with a filter of 4x4, which costs 6.75 * C more and saves 16 and the pass: it pays up
#: to C = 9. On a GPU it may pay up to about 64; that has not been measured.
PASS_WORTH = 48

#: Up to this many channels a filter of each by itself runs as one of all, most of it zeros.
FEW_CHANNELS = 4


class StuffZeros(Rule):
    """Reshape(Pad(Reshape(images))), zeros behind every pixel -> ConvTranspose of 1x1."""

    def pattern(self, op: Any, x: Any) -> Any:
        apart = op.Reshape(x, **nodes.ANY)
        stuffed = op.Pad(apart, **nodes.ANY, _outputs=["stuffed"])
        return op.Reshape(stuffed, **nodes.ANY, _outputs=["out"])

    def refuses(self, x: ir.Value, stuffed: ir.Value, out: ir.Value) -> str | None:
        if not nodes.is_float(out):
            return "of integers"
        if self._strides(x, stuffed, out) is None:
            return "not zeros behind every pixel of images"
        return None

    def rewrite(self, op: Any, x: ir.Value, stuffed: ir.Value, out: ir.Value) -> Any:
        found = self._strides(x, stuffed, out)
        assert found is not None
        images, strides = found
        source = nodes.reshaped(op, x, images)
        assert x.dtype is not None
        ones = ir.tensor(np.ones((images[1], 1, 1, 1), x.dtype.numpy()), name=f"{out.name}.ones")
        y = op.ConvTranspose(
            source,
            op.initializer(ones),
            group=images[1],
            strides=strides,
            output_padding=[s - 1 for s in strides],
        )
        sizes = [*images[:2], *(a * s for a, s in zip(images[2:], strides, strict=True))]
        return nodes.reshaped(op, nodes.shaped(y, sizes, x.type), nodes.shape(out))

    @staticmethod
    def _strides(
        x: ir.Value, stuffed: ir.Value, out: ir.Value
    ) -> tuple[list[int], list[int]] | None:
        """[N, C, H, W] of the images, and how many zeros and pixels follow each other."""
        pad = nodes.producer(stuffed)
        apart = pad.inputs[0]
        assert apart is not None
        sizes = nodes.shape(apart)
        mode, pads = padding(pad, len(sizes))
        if mode != "constant" or pads is None:
            return None
        padded = [axis for axis, pair in enumerate(pads) if pair != (0, 0)]
        if len(padded) != 2 or padded[1] != padded[0] + 2 or padded[0] == 0:
            return None
        rows, columns = (axis - 1 for axis in padded)
        if any(sizes[axis] != 1 or pads[axis][0] for axis in padded):
            return None
        if prod(sizes[padded[1] + 1 :]) != 1:
            return None
        strides = [1 + pads[axis][1] for axis in padded]
        lead, size = prod(sizes[:rows]), [sizes[rows], sizes[columns]]
        whole = [a * s for a, s in zip(size, strides, strict=True)]
        if not _ends_in(nodes.shape(out), lead, whole):
            return None
        shape = nodes.shape(x)
        plain = len(shape) == 4 and prod(shape[:2]) == lead and list(shape[2:]) == size
        return (list(shape) if plain else [lead, 1, *size]), strides


def _ends_in(shape: tuple[int, ...], lead: int, size: list[int]) -> bool:
    """Whether a shape is axes that come to `lead`, then these, save for axes of length 1."""
    tail = [s for s in shape if s != 1]
    before = 1
    while before < lead and tail:
        before *= tail.pop(0)
    return before == lead and tail == [s for s in size if s != 1]


class FilterIntoTranspose(Rule):
    """Depthwise Conv(ConvTranspose(x)) -> ConvTranspose(x) with a larger kernel, where it pays."""

    def pattern(self, op: Any) -> Any:
        larger = nodes.any_product(op, "ConvTranspose", "larger")
        return op.Conv(larger, **nodes.FUSED, _outputs=["out"])

    def refuses(self, larger: ir.Value, out: ir.Value) -> str | None:
        node, filtering = nodes.producer(larger), nodes.producer(out)
        given, after = nodes.attributes(node), nodes.attributes(filtering)
        weight, taps = (nodes.constant(n.inputs[1]) for n in (node, filtering))
        assert weight is not None
        assert taps is not None
        channels = nodes.shape(larger)[1]
        behind = [*nodes.all_inputs(node)[2:4], *nodes.all_inputs(filtering)[2:]]
        if any(behind) or {"activation"} & {*given, *after}:
            return "something comes between, or behind the filter"
        if taps.shape[:2] != (channels, 1) or after["group"] != channels or taps.ndim != 4:
            return "not a filter of each channel"
        if any(s != 1 for key in ("strides", "dilations") for s in after[key]):
            return "the filter has strides or dilations"
        if {"pad_mode", "upsample", "shuffle"} & after.keys():
            return "the filter pads with other than zeros"
        if any(d != 1 for d in given["dilations"]) or any(given["pads"]):
            return "the transposed convolution is dilated, or crops what it would read"
        if any(p >= t for p, t in zip(after["pads"], taps.shape[2:] * 2, strict=True)):
            return "the filter pads by more than itself"
        extra = _crop(given, after, taps.shape[2:])[1]
        if any(e >= s for e, s in zip(extra, given["strides"], strict=True)):
            return "more output padding than a stride"
        kernel, strides = weight.shape[2:], prod(given["strides"])
        inputs = weight.shape[0] // given["group"]
        bigger = prod(k + t - 1 for k, t in zip(kernel, taps.shape[2:], strict=True))
        before = inputs * prod(kernel) / strides + prod(taps.shape[2:]) + PASS_WORTH
        if inputs * bigger / strides > before:
            return "the larger kernel costs more than the filter"
        return None

    def rewrite(self, op: Any, larger: ir.Value, out: ir.Value) -> Any:
        node, filtering = nodes.producer(larger), nodes.producer(out)
        given, after = nodes.attributes(node), nodes.attributes(filtering)
        weight, taps = (nodes.constant(n.inputs[1]) for n in (node, filtering))
        assert weight is not None
        assert taps is not None
        group, channels = given["group"], nodes.shape(larger)[1]
        if group > 1 and channels <= FEW_CHANNELS:
            weight, group = _dense(weight, group), 1
        # [C, O / group, *taps]: the filter of the output channel that each weight belongs to
        of_output = taps.reshape(group, channels // group, *taps.shape[2:])
        of_weight = np.repeat(of_output, weight.shape[0] // group, axis=0)
        rows, columns = weight.shape[2:]
        high, wide = taps.shape[2:]
        kernel = np.zeros((*weight.shape[:2], rows + high - 1, columns + wide - 1))
        for y in range(high):
            for x in range(wide):
                part = kernel[:, :, high - 1 - y :, wide - 1 - x :][:, :, :rows, :columns]
                part += weight * of_weight[:, :, y, x, None, None]
        pads, extra = _crop(given, after, taps.shape[2:])
        array = ir.tensor(kernel.astype(weight.dtype), name=f"{out.name}.weight")
        return nodes.rebuild(
            op,
            node,
            [node.inputs[0], op.initializer(array), *node.inputs[2:]],
            pads=pads,
            output_padding=extra,
            group=group,
            origin=nodes.origin(node, filtering),
        )


def _crop(
    given: dict[str, Any], after: dict[str, Any], taps: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    """The pads and the output padding of a transposed convolution that filters as well."""
    begins = [t - 1 - p for t, p in zip(taps, after["pads"], strict=False)]
    ends = [
        t - 1 - p - e
        for t, p, e in zip(taps, after["pads"][len(taps) :], given["output_padding"], strict=True)
    ]
    return begins + [max(0, e) for e in ends], [max(0, -e) for e in ends]


def _dense(weight: np.ndarray[Any, Any], group: int) -> np.ndarray[Any, Any]:
    """[C, O / group, *kernel] -> [C, O, *kernel], zeros between the groups."""
    before, after = weight.shape[0] // group, weight.shape[1]
    full = np.zeros((weight.shape[0], after * group, *weight.shape[2:]), weight.dtype)
    for g in range(group):
        rows = slice(g * before, (g + 1) * before)
        full[rows, g * after : (g + 1) * after] = weight[rows]
    return full


STUFF_RULES = (StuffZeros.rule(),)
RULES = (FilterIntoTranspose.rule(),)
