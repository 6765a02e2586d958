"""What only moves pixels before or behind a convolution -> the convolution's own addressing.

A fastgan.Conv reads its input through, in this order, `upsample` (1: nearest, by two) and `pads`
of `pad_mode` ("zeros", "reflect" or "edge"), and writes it through `shuffle` (the block size of a
DepthToSpace) and `shuffle_mode` ("CRD" or "DCR"). Each attribute is there only where it differs
from a plain convolution. A residual and an activation follow the shuffle.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from fastgan.plan.rewrite.rules import helpers as nodes
from fastgan.plan.rewrite.rules.rule import Rule

#: ONNX's names of the ways to pad that a convolution knows.
PAD_MODES = {"constant": "zeros", "reflect": "reflect", "edge": "edge"}

#: How Resize may round so that nearest, by two, repeats every pixel.
_REPEATS = {
    ("asymmetric", "floor"),
    ("asymmetric", "round_prefer_floor"),
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
    ("half_pixel_symmetric", "round_prefer_floor"),
    ("half_pixel_symmetric", "round_prefer_ceil"),
    ("pytorch_half_pixel", "round_prefer_floor"),
    ("tf_half_pixel_for_nn", "floor"),
}


def _conv_of(op: Any, x: Any) -> Any:
    return op.Conv(x, **nodes.FUSED, _outputs=["out"])


class FusePad(Rule):
    """Conv(Pad(x)) -> Conv with more pads, or with pads of another mode."""

    def pattern(self, op: Any, x: Any) -> Any:
        padded = op.Pad(x, **nodes.ANY, _outputs=["padded"])
        return _conv_of(op, padded)

    def refuses(self, x: ir.Value, padded: ir.Value, out: ir.Value) -> str | None:
        given = nodes.attributes(nodes.producer(out))
        mode, pads = padding(nodes.producer(padded), len(nodes.shape(x)))
        if pads is None or mode not in PAD_MODES:
            return "the padding depends on data, or is neither zeros, reflect nor edge"
        if any(begin or end for begin, end in pads[:2]) or any(p < 0 for b in pads for p in b):
            return "it pads samples or channels, or crops"
        if "pad_mode" in given or "upsample" in given:
            return "the convolution already pads in another way"
        if mode != "constant" and any(given["pads"]):
            return "zeros come on top of another padding"
        if mode == "reflect" and any(
            p >= size for size, b in zip(nodes.shape(x)[2:], pads[2:], strict=True) for p in b
        ):
            return "it reflects more than once"
        return None

    def rewrite(self, op: Any, x: ir.Value, padded: ir.Value, out: ir.Value) -> Any:
        node, pad = nodes.producer(out), nodes.producer(padded)
        mode, pads = padding(pad, len(nodes.shape(x)))
        assert pads is not None
        flat = [begin for begin, _ in pads[2:]] + [end for _, end in pads[2:]]
        total = [a + b for a, b in zip(nodes.attributes(node)["pads"], flat, strict=True)]
        changes: dict[str, Any] = {"pads": total, "origin": nodes.origin(pad, node)}
        if mode != "constant":
            changes["pad_mode"] = PAD_MODES[mode]
        return nodes.rebuild(op, node, [x, *node.inputs[1:]], **changes)


def padding(pad: ir.Node, rank: int) -> tuple[str, list[tuple[int, int]] | None]:
    """The mode of a Pad and (begin, end) of each axis; None where data decide, or not zeros."""
    given = nodes.attributes(pad)
    mode = given.get("mode", "constant")
    pads_input, value, axes = [*pad.inputs[1:], None, None, None][:3]
    constants = [nodes.constant(v) for v in (pads_input, value, axes)]
    if any(c is None and v is not None for c, v in zip(constants, pad.inputs[1:], strict=False)):
        return mode, None
    number = given.get("value", 0.0) if constants[1] is None else constants[1].reshape(-1)[0]
    flat = given.get("pads") if constants[0] is None else constants[0].tolist()
    if flat is None or (mode == "constant" and number != 0):
        return mode, None
    chosen = range(rank) if constants[2] is None else [int(a) % rank for a in constants[2]]
    pairs = [(0, 0)] * rank
    for axis, begin, end in zip(chosen, flat, flat[len(flat) // 2 :], strict=False):
        pairs[axis] = (int(begin), int(end))
    return mode, pairs


class FuseUpsample(Rule):
    """Conv(Resize(x)), nearest and by two, of images -> Conv with `upsample`."""

    def pattern(self, op: Any, x: Any) -> Any:
        larger = getattr(op, self.of)(x, **nodes.ANY, _outputs=["larger"])
        return _conv_of(op, larger)

    def refuses(self, x: ir.Value, larger: ir.Value, out: ir.Value) -> str | None:
        given, before = nodes.attributes(nodes.producer(larger)), nodes.shape(x)
        if given.get("mode", "nearest") != "nearest" or len(before) != 4:
            return "not the nearest pixels of an image"
        if nodes.shape(larger) != (*before[:2], *(2 * size for size in before[2:])):
            return "not by two"
        # Upsample, and Resize before opset 11, know one way alone, and do not name it.
        coordinates = given.get("coordinate_transformation_mode")
        rounding = given.get("nearest_mode", "round_prefer_floor")
        named = coordinates is not None or "nearest_mode" in given
        if named and (coordinates or "half_pixel", rounding) not in _REPEATS:
            return "it does not repeat every pixel"
        if "upsample" in nodes.producer(out).attributes:
            return "the convolution already upsamples"
        return None

    def rewrite(self, op: Any, x: ir.Value, larger: ir.Value, out: ir.Value) -> Any:
        node = nodes.producer(out)
        origin = nodes.origin(nodes.producer(larger), node)
        return nodes.rebuild(op, node, [x, *node.inputs[1:]], upsample=1, origin=origin)


class FuseShuffle(Rule):
    """DepthToSpace(Conv(x)) -> Conv with `shuffle`."""

    def pattern(self, op: Any) -> Any:
        product = nodes.any_product(op, "Conv", "product")
        return op.DepthToSpace(product, _allow_other_attributes=True, _outputs=["out"])

    def refuses(self, product: ir.Value, out: ir.Value) -> str | None:
        node = nodes.producer(product)
        if "shuffle" in node.attributes or nodes.fused_inputs(node)[3] is not None:
            return "the convolution already shuffles, or has a residual"
        if "slopes" in node.attributes:
            return "it has a slope for each channel before the shuffle"
        if len(nodes.shape(out)) != 4:
            return "not images"
        return None

    def rewrite(self, op: Any, product: ir.Value, out: ir.Value) -> Any:
        node, shuffle = nodes.producer(product), nodes.producer(out)
        given = nodes.attributes(shuffle)
        return nodes.rebuild(
            op,
            node,
            list(node.inputs),
            shuffle=given["blocksize"],
            shuffle_mode=given.get("mode", "DCR"),
            origin=nodes.origin(node, shuffle),
        )


READ_RULES = (FusePad.rule(), FuseUpsample.rule("Resize"), FuseUpsample.rule("Upsample"))
WRITE_RULES = (FuseShuffle.rule(),)
