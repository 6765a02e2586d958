"""Opens a stream: checks what was asked for, prepares everything, and measures it once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan import images as image_formats
from fastgan.errors import ArgumentError
from fastgan.realtime import budget
from fastgan.realtime.buffers import Frame
from fastgan.realtime.controls import Controls, Settings
from fastgan.realtime.renderers import ImageRenderer, Renderer, Run, latent_renderer
from fastgan.realtime.stream import POLICIES, Stream

if TYPE_CHECKING:
    from fastgan.generator import Generator

#: Frames that are made before the first, and for how long at most.
_WARM_UP_FRAMES = 10
_WARM_UP_SECONDS = 2.0


def open_stream(
    generator: Generator,
    make: Callable[..., dict[str, Any]],
    run: Run,
    *,
    fps: float | None,
    batch: int,
    latents: Any,
    labels: Any,
    format: str,
    buffers: int,
    similarity: float | None,
    budget_ms: float | None,
    policy: str,
    truncation: float | None,
    seed: int,
    speed: float,
    start: int,
    frames: int | None,
    source: Iterable[Any] | None,
    size: tuple[int, ...] | None,
    arguments: dict[str, Any],
) -> Stream:
    """See `Generator.stream`.

    Args:
        make: makes every input of a batch, as `Inputs.make`.
        run: runs the model on a batch.
    """
    newest = policy == "newest"
    image_formats.check_format(format)
    if policy not in POLICIES:
        raise ArgumentError("policy", repr(policy), " or ".join(map(repr, POLICIES)))
    for name, value, most in (("fps", fps, 1e5), ("budget_ms", budget_ms, math.inf)):
        if value is not None and not (_is_number(value) and 0 < value <= most):
            raise ArgumentError(name, repr(value), "a number above 0")
    if similarity is not None and not (_is_number(similarity) and -1 <= similarity <= 1):
        raise ArgumentError("similarity", repr(similarity), "a cosine, such as 0.999")
    _whole("batch", batch, 1)
    # One is being written, one is the consumer's; the newest needs one of its own.
    _whole("buffers", buffers, 3 if newest else 2)
    _whole("start", start, 0)
    if frames is not None:
        _whole("frames", frames, 1)

    renderer: Renderer
    signature = generator.signature
    if signature.image is not None:
        if latents is not None:
            raise ArgumentError("latents", "a model that takes images", "none: feed it images")
        given = {"seed": seed, "labels": labels, "truncation": truncation, **arguments}
        renderer, source = _image_renderer(
            generator, given, batch, size, source, format, buffers, newest, similarity
        )
    else:
        if arguments:
            raise ArgumentError("stream", f"unknown argument {next(iter(arguments))!r}", "another")
        for name, found in (("source", source), ("size", size)):
            if found is not None:
                raise ArgumentError(name, "a model that takes no images", "none")
        if signature.latent is None:
            raise ArgumentError("stream", "a model without a latent", "one with a latent or image")
        renderer = latent_renderer(
            generator, make, run, latents=latents, batch=batch, labels=labels,
            truncation=truncation, seed=seed, speed=speed, start=start, format=format,
            similarity=similarity,
        )  # fmt: skip
    with torch.inference_mode():
        made = renderer.example()
    ring = [Frame(torch.empty_like(made)) for _ in range(buffers)]
    seconds = _prepare(renderer, ring)
    if budget_ms is not None:
        sides = None if size is None else (size[0], size[1])
        budget.check(generator, seconds * 1e3, budget_ms, batch, format, sides)
    return Stream(
        renderer,
        ring,
        fps=fps,
        policy=policy,
        first=start,
        last=None if frames is None else start + frames,
        source=source,
    )


def _prepare(renderer: Renderer, ring: list[Frame]) -> float:
    """Run into every buffer until all is warm; the median seconds of a frame."""
    taken: list[float] = []
    began = perf_counter()
    while len(taken) < max(len(ring), _WARM_UP_FRAMES):
        frame = ring[len(taken) % len(ring)]
        at = perf_counter()
        renderer.render(frame.images)
        if frame.images.is_cuda:
            torch.cuda.synchronize(frame.images.device)
        taken.append(perf_counter() - at)
        if len(taken) >= len(ring) and perf_counter() - began > _WARM_UP_SECONDS:
            break
    return sorted(taken)[len(taken) // 2]


def _image_renderer(
    generator: Generator,
    arguments: dict[str, Any],
    batch: int,
    size: tuple[int, ...] | None,
    source: Iterable[Any] | None,
    format: str,
    buffers: int,
    newest: bool,
    similarity: float | None,
) -> tuple[ImageRenderer, Iterable[Any] | None]:
    """The renderer of an image-to-image model, and its source."""
    port = generator.signature.image
    assert port is not None
    if batch != 1:
        raise ArgumentError("batch", f"{batch} for a model that takes images", "1")
    channels = port.shape[1] if len(port.shape) == 4 and isinstance(port.shape[1], int) else 3
    if source is not None:
        frames = iter(source)
        try:
            first = next(frames)
        except StopIteration:
            raise ArgumentError("source", "no frames", "at least one") from None
        first = first if isinstance(first, Tensor) else torch.as_tensor(first)
        if first.dtype != torch.uint8 or first.dim() != 3:
            raise ArgumentError("source", f"{first.dtype} {tuple(first.shape)}", "uint8 [H, W, C]")
        size, channels = (first.shape[0], first.shape[1]), first.shape[2]
        source = chain(_one(first), frames)
    if size is None:
        fixed = tuple(side for side in port.shape[2:] if isinstance(side, int))
        if len(fixed) != 2:
            raise ArgumentError("size", "none", "(height, width) of the frames that will come")
        size = (fixed[0], fixed[1])
    if len(size) not in (2, 3) or any(type(side) is not int or side < 1 for side in size):
        raise ArgumentError("size", repr(size), "(height, width) in pixels, or with the channels")
    height, width, channels = (*size, channels)[:3]

    def run(image: Tensor, given: Mapping[str, Any], out: Tensor | None) -> Tensor:
        return generator(image[None], format=format, out=out, **{**arguments, **given})

    controls = Controls(Settings(None, None, 1), generator.signature)
    return (
        ImageRenderer(run, controls, (height, width), channels, buffers, newest, similarity),
        source,
    )


def _one(first: Any) -> Iterator[Any]:
    yield first


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(name, repr(value), f"a whole number of at least {least}")
