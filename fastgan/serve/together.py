"""Requests that are run as one; each gets the bytes that it would get alone.

Whether a row of a batch has the bits of a run of its own depends on the kernels that a library has
for each size: often it has, often in all but the batch of one, which is a product by a vector.
`Together` asks, once, by running samples in every size; no size is used whose rows differ.

Pictures have sizes of their own, and each size its kernels: the first time that several of one size
come together, as many of noise are run together and alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import inf, prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan.engine.runs import filled_up
from fastgan.errors import ArgumentError, FastganError
from fastgan.images import pixels
from fastgan.images.pixels import Pixels, from_array
from fastgan.serve.requests import Array, Asked, Reader, encode, made

if TYPE_CHECKING:
    from fastgan.generator import Generator

log = logging.getLogger("fastgan")

#: The smallest batches that are tried, and the largest.
_LEAST, _MOST = (1, 2, 4), 64
#: Larger ones are not tried once one has taken so many seconds: they would gain nothing.
_LONG = 1.0
#: A request that takes no more seconds is brief: an event loop can wait for it.
_BRIEF = 0.002
#: Pictures of one size that are run together at most, pixels that such a one has at most, and sizes
#: that are remembered.
_PICTURES, _PIXELS, _KINDS = 8, 1 << 18, 256
#: How far a row may be from what the engine makes of it alone: other kernels round otherwise.
_TOLERANCE = 1e-3


class Together:
    """Runs requests of one model, as many at a time as may be.

    Args:
        name: of the model, for the log.

    Attributes:
        reader: reads them.
        least: the smallest batch that is run; a smaller one is filled up.
        largest: the largest that requests are put together to; 1 for none.
    """

    def __init__(self, name: str, generator: Generator, reader: Reader) -> None:
        self.reader, self._generator, self._name = reader, generator, name
        self.least, self.largest = self._sizes()
        self._seconds = inf  # of the least batch, the fastest so far
        signature = generator.signature
        self._merges_pictures = (
            [port.kind for port in signature.inputs] == ["image"]
            and signature.made.apart
            and signature.frozen_batch is None
        )
        self._exact: dict[tuple[Any, ...], int] = {}

    def ready(self, asked: Asked, alone: bool = False) -> Asked:
        """A request with its inputs drawn, or its pictures apart, where it may run beside others.

        Args:
            alone: it will not: `generate` draws its inputs on the way, which takes less.

        Raises:
            ArgumentError: an input can't be what it is.
        """
        if asked.images is not None and self._merges_pictures and not asked.arguments:
            return replace(asked, images=self._apart(asked.images))
        drawn = self.largest > 1 and not (alone and self.least == 1)
        return self.reader.drawn(asked) if drawn else asked

    def brief(self, asked: Asked) -> bool:
        """Whether a request by itself takes no more time than an event loop has to spare."""
        plain = asked.images is None and not any(name.endswith("_png") for name in asked.outputs)
        return plain and asked.n * self._seconds <= _BRIEF

    def fit(self, asked: Sequence[Asked], one: Asked) -> bool:
        """Whether one more request can be run with some."""
        if not asked:
            return True
        total = one.n + sum(other.n for other in asked)
        kind = self._kind(one)
        if kind is not None:
            largest = self._exact.get(kind, _PICTURES)
            return total <= largest and kind == self._kind(asked[0])
        return total <= self.largest and self._alike(asked[0], one)

    def _alike(self, one: Asked, other: Asked) -> bool:
        """Whether two can be rows of one run; what a row does not hold has to be the same."""
        if one.rows is None or other.rows is None or _floats(self._generator, one) != _floats(
            self._generator, other
        ):  # fmt: skip
            return False
        signature = self._generator.signature
        whole = [port.name for port in signature.inputs if not signature.has_rows(port)]
        shapes = {name: t.shape[1:] for name, t in one.rows.items()}
        return shapes == {name: t.shape[1:] for name, t in other.rows.items()} and all(
            torch.equal(one.rows[name], other.rows[name]) for name in whole
        )

    def run(self, asked: Sequence[Asked]) -> list[dict[str, Array] | BaseException]:
        """The outputs of each request by name, or what went wrong with it.

        Args:
            asked: requests that `fit`.
        """
        began = time.perf_counter()
        found = self._results(asked)
        if sum(one.n for one in asked) <= self.least < self.largest:
            self._seconds = min(self._seconds, time.perf_counter() - began)
        return found

    def _results(self, asked: Sequence[Asked]) -> list[dict[str, Array] | BaseException]:
        if len(asked) > 1:
            try:
                together = self._together(asked)
                return [self._outputs(one, images) for one, images in together]
            except Exception:  # which of them was it?
                log.debug("a batch of requests failed: they are run alone", exc_info=True)
        found: list[dict[str, Array] | BaseException] = []
        for one in asked:
            try:
                found.append(self._outputs(one, self._alone(one)))
            except Exception as error:
                found.append(error)
        return found

    def _alone(self, asked: Asked) -> Tensor | list[Tensor]:
        if self._are_apart(asked):
            return self._pictures(asked)
        if asked.rows is None:
            # A batch of another size than those that are exact could have other bytes.
            size = self.largest if self.largest > 1 else None
            return made(self._generator, asked, size)
        return self._rows(asked.rows, asked.n, _floats(self._generator, asked))

    def _together(self, asked: Sequence[Asked]) -> list[tuple[Asked, Tensor | list[Tensor]]]:
        if self._are_apart(asked[0]):
            every = replace(asked[0], images=[image for one in asked for image in one.images])
            left = iter(self._pictures(every))
            return [(one, list(islice(left, one.n))) for one in asked]
        held = self._held
        rows = {
            name: torch.cat([one.rows[name] for one in asked if one.rows is not None])
            if name in held
            else tensor
            for name, tensor in (asked[0].rows or {}).items()
        }
        counts = [one.n for one in asked]
        images = self._rows(rows, sum(counts), _floats(self._generator, asked[0]))
        return list(zip(asked, images.split(counts), strict=True))

    def _rows(self, rows: Mapping[str, Tensor], n: int, floats: bool) -> Tensor:
        """Images of inputs that are drawn already, at batch sizes that are known to be exact."""
        return self._run(rows, n, self.least, self.largest, floats)

    def _run(
        self, rows: Mapping[str, Tensor], n: int, least: int, largest: int, floats: bool
    ) -> Tensor:
        """The same at given sizes: batches of the largest, then of powers of two."""
        signature = self._generator.signature
        spare = -n % least
        given: dict[str, Any] = {}
        for port in signature.inputs:
            tensor = rows[port.name]
            if signature.has_rows(port):
                tensor = filled_up(tensor, n + spare)
            classes = port.kind == "label" and not tensor.is_floating_point()
            given[port.name] = tensor.flatten() if classes else tensor
        format = "float32" if floats else "uint8"
        made = self._generator.generate(n + spare, batch_size=largest, format=format, **given)
        return made[:n]

    def _outputs(self, asked: Asked, images: Tensor | list[Tensor]) -> dict[str, Array]:
        """What is asked for, of images in the form that `made` gives."""
        if isinstance(images, list):
            images = self._stacked(asked, images)
        name, found = self._generator.signature.made.name, {}
        for output in asked.outputs:
            if output == name:
                found[output] = images.float().cpu().numpy()
                continue
            bytes_ = images
            if images.dtype != torch.uint8:
                image = pixels.of(self._generator.signature.made, "uint8")
                shape = (len(images), *images.shape[2:], images.shape[1])
                bytes_ = torch.empty(shape, dtype=torch.uint8, device=images.device)
                pixels.store(images, image, bytes_)
            found[output] = encode(bytes_) if output.endswith("_png") else bytes_.cpu().numpy()
        return found

    def _stacked(self, asked: Asked, images: list[Tensor]) -> Tensor:
        sizes = {tuple(image.shape) for image in images}
        if len(sizes) > 1:
            found = f"results of {len(sizes)} sizes"
            raise ArgumentError("images", found, "pictures of one size in a request")
        return torch.stack(images)

    # Pictures ------------------------------------------------------------------------------------

    def _apart(self, images: Any) -> list[Pixels]:
        """Pictures one by one."""
        if not isinstance(images, Tensor):
            return list(images)
        port = self._generator.signature.image
        assert port is not None
        channels = port.shape[1] if len(port.shape) > 1 else None
        given = f"input {port.name!r}"
        every = from_array(given, images, channels if isinstance(channels, int) else None)
        alphas = [None] * len(every) if every.alpha is None else every.alpha.split(1)
        return [
            Pixels(values, every.peak, alpha)
            for values, alpha in zip(every.values.split(1), alphas, strict=True)
        ]

    def _are_apart(self, asked: Asked) -> bool:
        return isinstance(asked.images, list) and self._merges_pictures and not asked.arguments

    def _kind(self, asked: Asked) -> tuple[Any, ...] | None:
        """What pictures that are run together share; None for what is no such request."""
        if not self._are_apart(asked):
            return None
        kinds = {image.kind for image in asked.images}
        large = prod(asked.images[0].size) > _PIXELS
        return None if large or len(kinds) > 1 else (*kinds.pop(), _floats(self._generator, asked))

    def _pictures(self, asked: Asked) -> list[Tensor]:
        """The result of each, with the bytes that it has alone."""
        images, format = asked.images, "float32" if _floats(self._generator, asked) else "uint8"
        kind = self._kind(asked)
        if len(images) > 1 and kind is not None:
            if kind not in self._exact:
                if len(self._exact) == _KINDS:
                    self._exact.clear()
                self._exact[kind] = self._exact_pictures(images[0], format)
            if (largest := self._exact[kind]) > 1:
                together: list[Tensor] = self._generator(images, format=format, batch_size=largest)
                return together
        return [self._generator([image], format=format)[0] for image in images]

    def _exact_pictures(self, like: Pixels, format: str) -> int:
        """How many pictures of a size can be run together with the bytes that each has alone."""
        random = torch.Generator().manual_seed(0)

        def noise(part: Tensor) -> Tensor:
            if part.is_floating_point():
                return torch.rand(part.shape, generator=random)
            return torch.randint(0, (like.peak or 1) + 1, part.shape, generator=random).to(part)

        images = [
            Pixels(noise(like.values), like.peak, None if like.alpha is None else noise(like.alpha))
            for _ in range(_PICTURES)
        ]
        size = 1
        alone = [self._generator([image], format=format)[0] for image in images[:2]]
        while size < _PICTURES:
            began, count = time.perf_counter(), 2 * size
            alone += [self._generator([i], format=format)[0] for i in images[len(alone) : count]]
            for order in (1, -1):
                found = self._generator(images[:count][::order], format=format, batch_size=count)
                if not all(map(torch.equal, found, alone[:count][::order])):
                    return size
            size = count
            if time.perf_counter() - began > _LONG:
                break
        return size

    # What is exact -------------------------------------------------------------------------------

    def _sizes(self) -> tuple[int, int]:
        """The smallest and the largest batch whose rows all have the same bits; (1, 1) for none."""
        signature = self._generator.signature
        alone = signature.image is not None or signature.needed or not signature.made.apart
        if alone or signature.frozen_batch is not None:
            return 1, 1
        try:
            probe = Asked(_MOST, {"seed": 1000, "start": 7}, None, (signature.made.name,))
            rows = self.reader.drawn(probe).rows or {}
            expected = self._generator.generate(4, seed=1000, start=7, batch_size=1)
            for least in _LEAST:
                largest = self._exact_up_to(rows, least)
                part = self._run(self._first(rows, 4), 4, least, least, True)
                near = (part - expected).abs().max() <= _TOLERANCE * expected.abs().max()
                if largest > least and near and (least > 1 or torch.equal(part, expected)):
                    log.info("%s: batches of %d to %d are exact", self._name, least, largest)
                    return least, largest
        except FastganError as error:
            log.info("%s: requests are run one at a time, because %s", self._name, error)
            return 1, 1
        log.warning("%s: no batches are exact, so requests are run one at a time", self._name)
        return 1, 1

    def _exact_up_to(self, rows: Mapping[str, Tensor], least: int) -> int:
        """The largest batch whose rows, wherever they stand, are those of the least one."""
        size = least
        while size < _MOST:
            part = self._first(rows, 2 * size)
            began = time.perf_counter()
            expected = self._run(part, 2 * size, least, least, True)
            whole = self._run(part, 2 * size, least, 2 * size, True)
            turned = self._run(self._turned(part), 2 * size, least, 2 * size, True).flip(0)
            if not torch.equal(whole, expected) or not torch.equal(turned, expected):
                break
            size *= 2
            if time.perf_counter() - began > _LONG:
                break
        return size

    def _first(self, rows: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
        held = self._held
        return {name: t[:n] if name in held else t for name, t in rows.items()}

    def _turned(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        held = self._held
        return {name: t.flip(0) if name in held else t for name, t in rows.items()}

    @property
    def _held(self) -> set[str]:
        """The inputs that have a row for each image."""
        signature = self._generator.signature
        return {port.name for port in signature.inputs if signature.has_rows(port)}


def _floats(generator: Generator, asked: Asked) -> bool:
    return generator.signature.made.name in asked.outputs
