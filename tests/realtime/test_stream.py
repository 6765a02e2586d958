"""Streams: every frame is delivered or counted, in its place, and nothing ever hangs."""

from __future__ import annotations

import random
import threading
import time
from itertools import islice

import pytest
import torch

import fastgan
from fastgan.errors import ArgumentError, BudgetError
from fastgan.model.signature import Signature
from fastgan.realtime import Drift, Rows, SeedPath
from fastgan.realtime.stream import budget
from fastgan.realtime.stream.buffers import Buffers, Frame
from fastgan.realtime.stream.controls import Controls, Settings
from fastgan.realtime.stream.stream import Stream
from tests.instructions import needs_bfloat16


class Fake:
    """Frames that take as long as told and hold their own number."""

    def __init__(self, seconds=0.0, fails_at=None) -> None:
        self.controls = Controls(Settings(None, None, 1), Signature((), ()))
        self.seconds, self.fails_at, self.rendered = seconds, fails_at, 0

    def example(self):
        return torch.zeros(1, 4, 4, 1, dtype=torch.uint8)

    def ready(self):
        return True

    def advance(self, index):
        self.index = index
        return float(index), True, 0

    def render(self, out):
        if self.rendered == self.fails_at:
            raise RuntimeError("the model broke")
        time.sleep(self.seconds(self.rendered) if callable(self.seconds) else self.seconds)
        out.fill_(self.index % 256)
        self.rendered += 1

    def mend(self):
        pass

    def close(self):
        pass


def stream(fake, *, fps=None, policy="every", buffers=3, frames=None):
    ring = [Frame(torch.empty(1, 4, 4, 1, dtype=torch.uint8)) for _ in range(buffers)]
    return Stream(fake, ring, fps=fps, policy=policy, first=0, last=frames, source=None)


def until(test) -> None:
    """Wait for what another thread does, however long others have its core."""
    limit = time.monotonic() + 300
    while not test():
        assert time.monotonic() < limit
        time.sleep(0.001)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("fastgan")]


def test_every_frame_comes_once_in_order_and_whole() -> None:
    with stream(Fake(), frames=300) as frames:
        seen = [(f.index, int(f.images.min()), int(f.images.max())) for f in frames]
    assert seen == [(i, i % 256, i % 256) for i in range(300)]
    assert frames.stats.produced == frames.stats.delivered == 300
    assert frames.stats.dropped == frames.stats.skipped == frames.stats.missed == 0
    assert not threads()


def test_frames_come_at_their_time_and_the_clock_does_not_drift() -> None:
    with stream(Fake(), fps=100, frames=50) as frames:
        seen = [(f.due_ns, f.delivered_ns) for f in frames]
    dues = [due for due, _ in seen]
    assert dues == [dues[0] + i * 10_000_000 for i in range(50)]
    assert all(delivered >= due for due, delivered in seen)


def test_a_late_frame_is_counted_and_the_schedule_stays() -> None:
    fake = Fake(lambda n: 0.2 if n == 5 else 0.0)
    with stream(fake, fps=50, frames=30) as frames:
        dues = [f.due_ns for f in frames]
    assert dues == [dues[0] + i * 20_000_000 for i in range(30)]
    # Two frames lay ready; the other 20 ms periods of 200 ms were missed, at least.
    assert frames.stats.missed >= 6
    assert frames.stats.produced == frames.stats.delivered == 30


def test_newest_wins_and_what_is_lost_is_counted() -> None:
    fake = Fake()
    with stream(fake, fps=200, policy="newest") as frames:
        seen = []
        for frame in islice(frames, 10):
            seen.append((frame.index, int(frame.images.max())))
            until(lambda enough=fake.rendered + 5: fake.rendered >= enough)
    stats = frames.stats
    assert all(index % 256 == value for index, value in seen)
    assert [i for i, _ in seen] == sorted({i for i, _ in seen})
    assert stats.dropped > 0
    assert stats.produced == stats.delivered + stats.dropped + stats.waiting


def test_newest_never_waits_for_who_takes() -> None:
    fake = Fake()
    with stream(fake, policy="newest") as frames:
        frames.take()
        before = fake.rendered
        until(lambda: fake.rendered > before + 10)
        assert frames.take().index > 10


def test_a_model_too_slow_skips_frames_and_keeps_to_the_clock() -> None:
    with stream(Fake(0.025), fps=100, policy="newest", frames=40) as frames:
        seen = [f.index for f in frames]
    stats = frames.stats
    assert len(seen) < 30
    assert stats.produced + stats.skipped == 40
    assert stats.missed >= stats.skipped > 0


def test_an_error_surfaces_in_the_consumer_after_the_frames_before_it() -> None:
    with stream(Fake(fails_at=3)) as frames:
        assert [next(frames).index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(RuntimeError, match="the model broke"):
            next(frames)
    assert not threads()


@pytest.mark.parametrize("policy", ["newest", "every"])
@pytest.mark.parametrize("taken", [0, 1, 5])
def test_close_always_joins(policy, taken) -> None:
    frames = stream(Fake(), fps=500, policy=policy)
    for _ in range(taken):
        frames.take()
    frames.close()
    frames.close()
    assert not threads()
    with pytest.raises(StopIteration):
        frames.take()


def test_close_from_another_thread_wakes_who_takes() -> None:
    fake = Fake()
    frames = stream(fake)
    fake.ready = lambda: False
    threading.Timer(0.1, frames.close).start()
    with pytest.raises(StopIteration):
        frames.take()
    frames.close()
    assert not threads()


def test_a_forgotten_stream_ends_its_thread() -> None:
    frames = stream(Fake())
    frames.take()
    del frames
    assert not threads()


def test_take_waits_no_longer_than_told() -> None:
    fake = Fake()
    fake.ready = lambda: False
    with stream(fake) as frames:
        assert frames.take(0.02) is None


def test_a_full_ring_makes_every_wait() -> None:
    buffers = Buffers([Frame(torch.empty(1)) for _ in range(2)], newest=False)
    for index in range(2):
        frame = buffers.reserve()
        frame.index = index
        buffers.publish(frame)
    waiting = threading.Thread(target=buffers.reserve)
    waiting.start()
    time.sleep(0.05)
    assert waiting.is_alive()
    assert buffers.take(1).index == 0
    assert waiting.is_alive()  # the consumer holds that one
    assert buffers.take(1).index == 1
    waiting.join(60)
    assert not waiting.is_alive()


# With a model -------------------------------------------------------------------------------------


def test_frames_are_what_generate_makes(digits) -> None:
    with digits.stream(latents=SeedPath((3, 4), frames=10), policy="every", frames=21) as frames:
        made = [f.copy() for f in frames]
    for frame, seed in ((0, 3), (10, 4), (20, 3)):
        assert torch.equal(made[frame].images, digits.generate(1, seed=seed, format="uint8"))
    assert not torch.equal(made[5].images, made[0].images)


def test_a_batch_is_samples_of_the_seed(digits) -> None:
    with digits.stream(latents=[7], batch=3, format="float32", frames=1) as frames:
        images = next(frames).images
    assert torch.equal(images, digits.generate(3, seed=7, batch_size=3))


def test_no_buffer_is_made_after_the_first_frame(digits) -> None:
    with digits.stream(policy="every", frames=50) as frames:
        places = {f.images.data_ptr() for f in frames}
    assert len(places) == 3


def test_a_stream_resumes_at_any_frame(digits) -> None:
    def record(**options):
        with digits.stream(latents=Drift(5), policy="every", **options) as frames:
            return {f.index: f.images.clone() for f in frames}

    first, again = record(frames=40), record(frames=40)
    later = record(start=25, frames=15)
    assert all(torch.equal(first[i], again[i]) for i in range(40))
    assert all(torch.equal(first[i], later[i]) for i in range(25, 40))


def test_what_hardly_moves_is_not_rendered(digits) -> None:
    rows = torch.randn(4, 100).repeat_interleave(5, 0)
    with digits.stream(latents=rows, policy="every", frames=20, similarity=0.9999) as frames:
        assert [f.index for f in frames] == [0, 5, 10, 15]
    assert frames.stats.similar == 16


def test_controls_act_while_it_runs(digits) -> None:
    def shows(walk, position):
        """Take frames until this one comes, and compare it."""
        z = walk.at(position, 1, frames.controls.settings.space)[0]
        for _ in range(6):  # what was rendered before the change comes first
            frame = frames.take()
            if frame.position == position and torch.equal(frame.images, _image(digits, z)):
                return True
        return False

    with digits.stream(latents=Drift(1), policy="every") as frames:
        frames.take()
        frames.pause()
        here = frames.controls.settings.base[1]
        assert shows(Drift(1), here)
        frames.step(4)
        assert shows(Drift(1), here + 4)
        frames.step(-1)
        assert shows(Drift(1), here + 3)
        frames.set(position=100.0)
        assert shows(Drift(1), 100.0)
        frames.set(seed=9)
        assert shows(Drift(9), 100.0)
        frames.set(truncation=0.5)
        assert shows(Drift(9), 100.0)
        frames.set(speed=0.5)
        frames.resume()
        positions = [frames.take().position for _ in range(9)]
        assert positions[-1] - positions[-3] == 1.0
    for bad in ({"speed": float("nan")}, {"seed": -1}, {"truncation": -1.0}, {"labels": 3}):
        with pytest.raises(ArgumentError):
            frames.set(**bad)


@pytest.mark.parametrize("policy", ["newest", "every"])
def test_many_hands_at_once_lose_nothing(digits, policy) -> None:
    """Four threads turn every knob while frames are taken: none is uncounted, none is torn."""
    stop, errors = threading.Event(), []

    def turn(seed) -> None:
        rng = random.Random(seed)
        try:
            while not stop.is_set():
                rng.choice(
                    [
                        lambda: frames.set(seed=rng.randrange(99), speed=rng.uniform(-2, 2)),
                        lambda: frames.set(truncation=rng.choice([None, 0.5, 2.0])),
                        lambda: frames.set(walk=rng.choice([Drift(1), SeedPath((1, 2))])),
                        frames.pause,
                        frames.resume,
                        frames.step,
                        lambda: frames.stats,
                    ]
                )()
        except BaseException as error:
            errors.append(error)

    with digits.stream(fps=400, policy=policy) as frames:
        hands = [threading.Thread(target=turn, args=(seed,)) for seed in range(4)]
        for hand in hands:
            hand.start()
        seen = [frame.index for frame in (frames.take(timeout=0.2) for _ in range(100)) if frame]
        stop.set()
        for hand in hands:
            hand.join()
        stats = frames.stats
    assert not errors
    assert seen == sorted(set(seen))
    assert stats.produced == stats.delivered + stats.dropped + stats.waiting
    assert stats.delivered == len(seen)
    assert policy == "newest" or seen == list(range(len(seen)))


def test_every_backend_streams() -> None:
    ort = fastgan.load("dcgan-digits", device="cpu", backend="ort")
    with ort.stream(latents=[5], frames=2, policy="every") as frames:
        images = [frame.images.clone() for frame in frames]
    assert torch.equal(images[0], ort.generate(1, seed=5, format="uint8"))


def _image(generator, z):
    images = generator.run({generator.signature.latent.name: z})
    (output,) = images.values()
    return ((output + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)


@pytest.mark.cpu
def test_a_budget_that_cannot_be_met_says_so_at_the_start(digits) -> None:
    says = r"for batch 8 in fp32 on cpu; .*nothing that was tried fits: batch [124] in (fp32|bf16)"
    with pytest.raises(BudgetError, match=says):
        digits.stream(batch=8, budget_ms=1e-4)
    digits.stream(budget_ms=600_000).close()


@pytest.mark.cpu
@needs_bfloat16
def test_a_budget_says_what_would_fit(digits) -> None:
    says = "what would fit: batch 1 in fp32 takes .*; batch 2 in bf16 takes .*; batch 1 in bf16"
    with pytest.raises(BudgetError, match=says):
        budget.check(digits, 1e6, 600_000, 2, "uint8", None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fps": 0}, "fps"),
        ({"policy": "last"}, "'newest' or 'every'"),
        ({"buffers": 2}, "buffers"),
        ({"batch": 0}, "batch"),
        ({"format": "png"}, "format"),
        ({"similarity": 2}, "similarity"),
        ({"latents": Rows(torch.zeros(3, 7))}, "rows"),
        ({"latents": "drift"}, "latents"),
        ({"labels": 1}, "labels"),
        ({"truncation": 0}, "truncation"),
        ({"size": (8, 8)}, "size"),
        ({"colour": 1}, "colour"),
    ],
)
def test_bad_arguments_are_one_clear_error(digits, options, says) -> None:
    with pytest.raises(ArgumentError, match=says):
        digits.stream(**options)
