"""The range of each image of a model that does not state it, and on what evidence.

In order: what the graph does to an image first and last (means taken away, bytes made fractions,
a last activation), a residual that ties the result to the image, and what is usual for the kind
of network. An input and an output are each judged by themselves.
Trying the candidates on smooth pictures tells little: our own upscalers agree with their input as
well in [0, 1] as in the [-1, 1] that they were trained in (both to 4e-4 of the range).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fastgan.model.guess import arithmetic
from fastgan.model.guess.kinds import Traits, growth
from fastgan.model.guess.quantised import without_quantisers
from fastgan.model.signature import (
    Basis,
    Confidence,
    Input,
    Output,
    Range,
    Signature,
    normalised_range,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir

    from fastgan.model.guess.arithmetic import Affine, End

UNIT, SYMMETRIC, BYTES = (0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)
CENTRED = (-0.5, 0.5)
#: Of ImageNet's pictures in [0, 1], red, green and blue, as torchvision's models want them.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Means of colours lie well within a range; MNIST's pictures are mostly black.
_MEANS = ((0.2, 0.8, UNIT), (0.1305, 0.131, UNIT), (20.0, 200.0, BYTES))

_NAMES = ((r"(^|[^0-9])(0[_-]?)?255$|(^|_)(u8|uint8)$", BYTES), (r"(^|[^0-9])0[_-]1$", UNIT))

_Port = TypeVar("_Port", Input, Output)


@dataclass(frozen=True, slots=True)
class Found:
    """A range and why; `mean` and `std` where it is one of each channel's own."""

    range: Range
    confidence: Confidence
    why: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def put(self, port: _Port) -> _Port:
        """The port with this range."""
        basis = Basis(self.confidence, self.why)
        port = replace(port, range=self.range, mean=self.mean, std=self.std, basis=basis)
        if isinstance(port, Output):
            return replace(port, guessed=self.confidence != "certain")
        return port

    def but(self, confidence: Confidence, why: str) -> Found:
        """The same range for another reason."""
        return replace(self, confidence=confidence, why=why)


def complete(graph: ir.Graph, signature: Signature) -> Signature:
    """The signature with the ranges that nothing states guessed, from those that are stated too."""
    open_ = [port for port in signature.inputs if _is_open(port)]
    if not open_ and not any(map(_is_open, signature.outputs)):
        return signature
    return _Guess(without_quantisers(graph), signature).completed()


def _is_open(port: Input | Output) -> bool:
    """Whether the range is to be guessed: none is stated, or the one there is was a guess."""
    if isinstance(port, Input) and port.kind not in ("image", "mask"):
        return False
    return port.range is None or port.basis is not None


class _Guess:
    """One model's ranges."""

    def __init__(self, graph: ir.Graph, signature: Signature) -> None:
        self._graph, self._signature = graph, signature
        self._inputs = {str(value.name): value for value in graph.inputs}
        values = {str(value.name): value for value in graph.outputs}
        self._ends = {o.name: arithmetic.ending(values[o.name]) for o in signature.outputs}
        self._images = [port for port in signature.inputs if port.kind == "image"]
        self._values = values
        self._traits = Traits.of(graph)
        #: What is stated or told by the port's own arithmetic, by the port's place and name.
        self._told: dict[str, Found] = {}
        self._made: dict[str, Found] = {}
        for port in signature.inputs:
            found = self._own_input(port)
            if found is not None:
                self._told[port.name] = found
        for output in signature.outputs:
            found = self._own_output(output)
            if found is not None:
                self._made[output.name] = found

    def completed(self) -> Signature:
        inputs = tuple(self._input(p).put(p) if _is_open(p) else p for p in self._signature.inputs)
        outputs = tuple(
            self._output(o).put(o) if _is_open(o) else o for o in self._signature.outputs
        )
        return replace(self._signature, inputs=inputs, outputs=outputs)

    # By its own arithmetic -----------------------------------------------------------------------

    def _own_input(self, port: Input) -> Found | None:
        if port.kind not in ("image", "mask"):
            return None
        if not _is_open(port):
            return _stated(port)
        value = self._inputs.get(port.name)
        found = None if value is None else _first(port, value)
        if found is not None:
            return found
        if port.dtype == "uint8" and port.kind == "image":
            return Found(BYTES, "certain", "its type is uint8")
        return _named(port, self._signature)

    def _own_output(self, output: Output) -> Found | None:
        if not _is_open(output):
            return _stated(output)
        if output.dtype == "uint8":
            return Found(BYTES, "certain", "its type is uint8")
        return _last(self._ends[output.name], output.kind == "image")

    # Inputs --------------------------------------------------------------------------------------

    def _input(self, port: Input) -> Found:
        told = self._told.get(port.name)
        if told is not None:
            return told
        if port.kind == "mask":
            return Found(UNIT, "likely", "masks are mostly 0 and 1")
        tied = self._tied_input(port)
        if tied is not None:
            return tied
        for other in self._images:
            if other.name in self._told:
                return self._told[other.name].but("likely", f"as {other.name!r}")
        outputs = [o for o in self._signature.outputs if o.kind == "image"]
        image = next((o for o in outputs if o.name in self._made), None)
        if image is None:
            return self._usual(port)
        return self._beside(port, image, self._made[image.name])

    def _tied_input(self, port: Input) -> Found | None:
        """By an output that is this input plus something, where the output tells its own range."""
        for output in self._signature.outputs:
            source, made = self._ends[output.name].source, self._made.get(output.name)
            if made is None or made.mean or source is None or source[0] != port.name:
                continue
            span = _usual_near(source[1].back(made.range))
            if span is not None:
                why = f"the result is this image plus what the network adds: {made.why}"
                return Found(span, "likely", why)
        return None

    def _beside(self, port: Input, output: Output, made: Found) -> Found:
        """By what the result's last layers are, and what such networks take."""
        end, traits = self._ends[output.name], self._traits
        inner = "Sigmoid" in (end.activation or "")
        masked = self._signature.first("mask") is not None
        if made.mean:
            return made.but("likely", f"as the result: {made.why}")
        if inner and end.channels == 1 and _channels(port) in (3, None):
            return self._matted()
        if made.range == BYTES and not _is_stated(output):
            scaled = float(np.mean(np.abs(end.affine.scale))) >= 100
            if inner or (scaled and not end.activation):
                why = "the network's own result is [0, 1], times 255 at last"
                return Found(UNIT, "likely", why)
            if scaled and np.allclose(end.affine.scale, 127.5):
                return Found(SYMMETRIC, "thin", "the network's own result is [-1, 1]")
            if masked:
                return Found(UNIT, "thin", "usual beside a mask, where nothing divides by 255")
        if end.activation == "Tanh" and made.range == SYMMETRIC and self._grows(port, output):
            why = "usual for upscalers that end in Tanh (SRGAN); others take [-1, 1]"
            return Found(UNIT, "thin", why)
        if _is_stated(output):
            return made.but("likely", "as the result's")
        why = f"as the result: {made.why}"
        # Half and a half of [-1, 1] at last: that may be the image's own range, too.
        halved = np.allclose(end.affine.scale, 0.5) and np.allclose(end.affine.shift, 0.5)
        if made.range == UNIT and halved and end.source is None:
            return Found(SYMMETRIC if traits.generative else UNIT, "thin", why)
        return made.but("likely", why)

    def _matted(self) -> Found:
        """Cut-outs: a picture in, one channel of Sigmoid out."""
        outputs = [end for end in self._ends.values() if "Sigmoid" in (end.activation or "")]
        if len(outputs) >= 5:
            return _imagenet("thin", "a cut-out at several scales (U2-Net) takes ImageNet's mean")
        firm: Confidence = "likely" if self._traits.instance_norm else "thin"
        return Found(SYMMETRIC, firm, "usual for cut-outs (MODNet): one channel of Sigmoid")

    def _grows(self, port: Input, output: Output) -> bool:
        times = growth(self._inputs[port.name], self._values[output.name])
        return times is not None and times > 1

    # Outputs -------------------------------------------------------------------------------------

    def _output(self, output: Output) -> Found:
        made = self._made.get(output.name)
        if made is not None:
            return made
        if output.kind != "image":
            return Found(SYMMETRIC, "thin", "nothing tells")
        end = self._ends[output.name]
        if end.source is not None and end.source[0] in self._told:
            told = self._told[end.source[0]]
            span = _usual_near(end.source[1].of(told.range))
            if span is not None and not told.mean:
                why = f"it is {end.source[0]!r} plus what the network adds: {told.why}"
                return Found(span, "likely", why)
        for port in self._images:
            if port.name in self._told:
                told = self._told[port.name]
                if told.mean:  # constants of each channel belong to what looks at pictures
                    break
                return told.but("thin", f"as {port.name!r}: nothing tells of the result itself")
        if not self._images:
            why = "usual where no last activation tells"
            return Found(SYMMETRIC, "thin", why)
        return self._usual(self._images[0])

    def _usual(self, port: Input) -> Found:
        """What networks from image to image take and make where no activation is last."""
        outputs = [o for o in self._signature.outputs if o.kind == "image"]
        if not outputs:
            return Found(SYMMETRIC, "thin", "usual for encoders and discriminators of GANs")
        if any(self._ends[output.name].source is not None for output in outputs):
            why = "usual for restoration: the image plus what the network adds, no last activation"
            return Found(UNIT, "likely", why)
        if self._traits.generative:
            why = f"usual for a network with {self._traits.generative} and no last activation"
            return Found(SYMMETRIC, "thin", why)
        if any(self._grows(port, output) for output in outputs):
            return Found(UNIT, "likely", "usual for upscalers without a last activation")
        if len(self._images) == 1 and (self._traits.instance_norm or self._traits.wide_reflection):
            has = "instance norms" if self._traits.instance_norm else "a wide reflected border"
            why = f"usual for style transfer: {has} and no last activation"
            return Found(BYTES, "thin", why)
        return Found(UNIT, "thin", "usual for networks of images without a last activation")


# Evidence ----------------------------------------------------------------------------------------


def _stated(port: Input | Output) -> Found | None:
    if port.range is None:
        return None
    text = f"it is stated as [{port.range[0]:g}, {port.range[1]:g}]"
    return Found(port.range, "certain", text, port.mean, port.std)


def _is_stated(port: Output) -> bool:
    return not _is_open(port)


def _first(port: Input, value: ir.Value) -> Found | None:
    """By what the first layers do to it."""
    for done, node, index in arithmetic.beginnings(value):
        if not done.plain:
            found = _taken(done)
            if found is not None:
                return found
            continue
        bounds = arithmetic.clip(node) if index == 0 else None
        for span in (UNIT, SYMMETRIC, BYTES):
            if bounds == span:
                return Found(span, "certain", "the first layers clip it to that")
        if port.kind == "mask" and node.op_type in ("Greater", "GreaterOrEqual", "Less"):
            bound = arithmetic.number(node.inputs[1]) if len(node.inputs) > 1 else None
            if bound is not None and bound > 1:
                return Found(BYTES, "likely", f"the first layers compare it with {bound:g}")
    return None


def _named(port: Input, signature: Signature) -> Found | None:
    """By names that say it, or that a published network is known by."""
    for pattern, span in _NAMES:
        if re.search(pattern, port.name.lower()):
            return Found(span, "likely", "its name says so")
    if port.name == "src" and "pha" in (output.name for output in signature.outputs):
        return Found(UNIT, "likely", "the names are those of Robust Video Matting")
    return None


def _taken(done: Affine) -> Found | None:
    """By the arithmetic with which a network begins: whose black, grey and white it takes."""
    why = f"the first layers compute {done}"
    if np.allclose(done.shift, 0):
        scale = float(np.mean(np.abs(done.scale)))
        if np.allclose(np.abs(done.scale), 127.5):
            return Found(SYMMETRIC, "likely", why)
        if scale >= 100:
            return Found(UNIT, "likely", why)
        return Found(BYTES, "likely", why) if 1 / 300 <= scale <= 1 / 100 else None
    zero = done.zero
    for low, high, span in _MEANS:
        if low <= zero <= high:
            return Found(span, "likely", why)
    if abs(zero + 1) < 0.02:
        return Found(SYMMETRIC, "likely", why)
    if abs(zero + 0.5) < 0.01:
        return Found(CENTRED, "likely", why)
    # What makes [0, 1] of it again, with a mean and a deviation for each channel.
    if _is_mean(done.shift) and _is_deviation(done.scale) and zero < -1.02:
        return _normalised(done.shift, done.scale, "likely", why)
    if -0.3 < zero < -0.02 and done.shift.size > 1:  # half of it and a half, less ImageNet's mean
        return Found(SYMMETRIC, "likely", why)
    return None


def _last(end: End, image: bool) -> Found | None:
    """By what the last layers do."""
    done = end.affine
    if end.bounds is not None:
        low, high = end.bounds
        then = "" if done.plain else f", then {done}"
        if end.activation:
            why = f"its last activation is {end.activation}{then}"
        else:
            why = f"its last layers keep it within [{end.bounds[0]:g}, {end.bounds[1]:g}]"
        if image and abs(low + high - 255) < 2 and 250 < high - low < 400:
            return Found(BYTES, "certain", why)  # Johnson's: Tanh * 150 + 127.5, clipped later
        if image and end.activation == "Sigmoid" and np.allclose(end.bounds, (-3, 3)):
            return _imagenet("likely", f"{why}: ImageNet's deviations (fast.ai, DeOldify)")
        return Found(end.bounds, "certain", why)
    if not image or done.plain:
        return None
    why = f"the last layers compute {done}"
    if np.allclose(done.shift, 0):
        scale = float(np.mean(np.abs(done.scale)))
        if 1 / 300 <= scale <= 1 / 100:
            return Found(UNIT, "likely", why)
        return Found(BYTES, "likely", why) if 100 <= scale <= 300 else None
    shift = float(np.mean(done.shift))
    for low, high, span in _MEANS:
        if low <= shift <= high:
            return Found(span, "likely", why)
    if abs(shift + 1) < 0.02:
        return Found(SYMMETRIC, "likely", why)
    mean, deviation = -done.shift / done.scale, 1 / done.scale
    if _is_mean(mean) and _is_deviation(deviation):
        return _normalised(mean, deviation, "likely", why)
    return None


def _is_mean(values: arithmetic.Numbers) -> bool:
    return values.size == 3 and bool(((values > 0.2) & (values < 0.8)).all())


def _is_deviation(values: arithmetic.Numbers) -> bool:
    return bool(((values > 0.1) & (values < 0.4)).all())


def _normalised(
    mean: Iterable[float], std: Iterable[float], confidence: Confidence, why: str
) -> Found:
    means = tuple(round(float(number), 6) for number in mean)
    deviations = tuple(round(float(number), 6) for number in std)
    deviations *= len(means) // len(deviations)
    return Found(normalised_range(means, deviations), confidence, why, means, deviations)


def _imagenet(confidence: Confidence, why: str) -> Found:
    return _normalised(*IMAGENET, confidence, why)


def _usual_near(span: Range) -> Range | None:
    """The range among the usual ones that this one is, but for rounding."""
    usual = (UNIT, SYMMETRIC, BYTES, CENTRED)
    return next((each for each in usual if np.allclose(span, each, atol=0.02)), None)


def _channels(port: Input) -> int | None:
    size = port.shape[1] if len(port.shape) == 4 else None
    return size if isinstance(size, int) else None
