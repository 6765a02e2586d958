"""A walk through latent space on a page of this machine: shown, and steered from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgan.realtime.live.page import LivePage, Serving
from fastgan.realtime.stream.buffers import Frame
from fastgan.realtime.stream.stream import Stream
from fastgan.realtime.walks.combined import Nudge
from fastgan.realtime.walks.walks import Drift, Orbit, Walk

if TYPE_CHECKING:
    from fastgan.realtime.source import Source

#: What a page may ask for, beside a recording.
_ASKED = {"walk", "drag", "seed", "speed", "position", "truncation", "labels", "pause", "step"}


#: The longest drag, in radians; 2 pi is back where it began.
_LONGEST_DRAG = 1e3


def _radians(value: Any) -> float:
    """A drag along one axis.

    Raises:
        ValueError: it is no number, or a longer drag than any mouse makes.
    """
    if not isinstance(value, (int, float)) or not abs(value) <= _LONGEST_DRAG:
        raise ValueError(f"drag: two numbers within {_LONGEST_DRAG:g} are needed")
    return float(value)


class Live(LivePage):
    """Serves one stream to any number of pages.

    Args:
        generator: of a model with a latent.
        name: of the model, for the title.
        stream: with the policy "newest", or frames would pile up behind a slow browser.
        serving: how.
        seed: what the page shows at first.
    """

    def __init__(
        self,
        generator: Source,
        name: str,
        stream: Stream,
        serving: Serving | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(generator, name, serving or Serving(), stream.fps)
        self._stream, self._seed = stream, seed
        walk = stream.controls.settings.walk
        assert walk is not None
        self._given: Walk = walk
        self._nudge = Nudge(walk)

    def _take(self) -> Frame | None:
        return self._stream.take(timeout=1.0)

    def _end(self) -> None:
        self._stream.close()

    def look(self) -> None:
        """Render only while somebody looks."""
        idle = not (self._server.watched or self._recorder or self._serving.sinks)
        (self._stream.pause if idle or self._paused else self._stream.resume)()

    def _act(self, asked: dict[str, Any]) -> None:
        if not asked.keys() <= _ASKED:
            raise ValueError("an object with keys of " + ", ".join(sorted(_ASKED)))
        stream = self._stream
        with self._lock:
            if "walk" in asked:
                walks = {"drift": Drift(self._seed), "loop": Orbit(self._seed)}
                self._nudge = Nudge(walks.get(asked["walk"], self._given))
                stream.set(walk=self._nudge)
            if "drag" in asked:
                x, y = (_radians(value) for value in asked["drag"])
                self._nudge = Nudge(self._nudge.walk, self._nudge.x + x, self._nudge.y + y)
                stream.set(walk=self._nudge)
            if "seed" in asked:
                self._nudge = Nudge(self._nudge.walk.reseeded(asked["seed"]))
                self._seed = asked["seed"]
                stream.set(walk=self._nudge)
        settings: dict[str, Any] = {
            key: asked[key] for key in ("speed", "position", "truncation") if key in asked
        }
        if "labels" in asked:
            labels = asked["labels"]
            by_index = isinstance(labels, dict)
            settings["labels"] = {int(k): v for k, v in labels.items()} if by_index else labels
        if settings:
            stream.set(**settings)
        if "pause" in asked:
            self._paused = bool(asked["pause"])
            self.look()
        if "step" in asked:
            stream.step(asked["step"])

    def hello(self) -> dict[str, Any]:
        """See `LivePage.hello`."""
        signature = self._generator.signature
        label, latent = signature.label, signature.latent
        return {
            **super().hello(),
            "mixes": label is not None and label.dtype.startswith("float"),
            "truncates": latent is not None and (latent.distribution or "normal") == "normal",
        }

    def _state(self) -> dict[str, Any]:
        settings = self._stream.controls.settings
        return {
            **super()._state(),
            "speed": settings.speed,
            "truncation": settings.space.truncation if settings.space else None,
            "seed": self._seed,
        }

    def report(self) -> dict[str, Any]:
        """Counts and times so far."""
        return self._stream.stats.as_json()
