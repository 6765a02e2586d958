"""A forked child of a process that has run a model runs it too, or says at once why not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import fastgan
from fastgan.errors import BackendError
from fastgan.host import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

#: What waits for threads that a child does not have waits for ever: this ends the test then.
SECONDS = 900

# The parent's own threads are used before and after. The child ends as multiprocessing's do.
FORK = """
import os, sys
import torch, fastgan
backend, threads, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
torch.set_num_threads(threads)
pictures = torch.randint(0, 256, (2, 24, 40, 3), dtype=torch.uint8)
def run(g):
    return g(pictures) if g.signature.image is not None else g.generate(3, seed=1)
loaded = [fastgan.load(name, device="cpu", backend=backend) for name in names]
expected = [run(g) for g in loaded]
child = os.fork()
for g, images in zip(loaded, expected):
    assert torch.equal(run(g), images), g
fresh = fastgan.load(names[0], device="cpu", backend=backend)
assert torch.equal(run(fresh), expected[0])
assert torch.get_num_threads() == threads
if child == 0:
    del g, fresh, loaded  # which waits for no thread
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""

NAMES = ("dcgan-digits", "cgan-digits", "texture-grass", "vae-digits", "superres-x2")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_a_forked_child_runs_what_its_parent_ran(backend: str, threads: int) -> None:
    if backend == "ort":
        pytest.importorskip("onnxruntime")
    command = [sys.executable, "-c", FORK, backend, str(threads), *NAMES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr


# What Python and C hold is written, what is registered runs, and the status is the child's.
ORDINARY = """
import atexit, ctypes, os, sys
import fastgan
generator = fastgan.load("dcgan-digits", device="cpu", backend=sys.argv[1])
import onnxruntime
generator.generate(2)
child = os.fork()
if child == 0:
    generator.generate(2)
    atexit.register(print, "registered")
    print("held by Python")
    ctypes.CDLL(None).printf(b"held by C\\n")
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ends in another way elsewhere")
@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_a_child_ends_in_the_ordinary_way(backend: str) -> None:
    pytest.importorskip("onnxruntime")
    command = [sys.executable, "-c", ORDINARY, backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["held by C", "held by Python", "registered"]


# Forked while the stream's thread waits: what one that computes holds in C no child can free.
STREAM = """
import os, sys, time
import fastgan
from fastgan.errors import ArgumentError
generator = fastgan.load("dcgan-digits", device="cpu", backend="torch")
waits = generator.stream()
with generator.stream(policy="every") as stream:
    for _ in range(4):
        stream.take()
        while stream.stats.waiting < 2:
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            try:
                stream.take()
            except ArgumentError as error:
                assert "a stream that this process has opened" in str(error), error
            else:
                sys.exit("the stream of another process gave a frame")
            stream.close()
            with waits:  # its thread has not begun
                waits.take()
            generator.generate(2)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert stream.take() is not None
"""


def test_a_stream_is_of_the_process_that_began_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STREAM], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_lock_that_a_thread_of_the_parent_holds_is_free_in_the_child() -> None:
    generator = fastgan.load("dcgan-digits", device="cpu")
    generator.plan(2)
    with generator._session._lock:
        child = os.fork()
        if child == 0:
            free = generator._session._lock.acquire(blocking=False)
            os._exit(7 if free else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_gpu_that_the_parent_has_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    generator = fastgan.load("dcgan-digits", device="cpu")
    says = r"cuda:0 in a forked child.*'spawn' or 'forkserver'"
    with pytest.raises(BackendError, match=says):
        fastgan.load("dcgan-digits", device="cuda:0")
    monkeypatch.setattr(generator._inputs, "_device", torch.device("cuda:0"))
    with pytest.raises(BackendError, match=says):
        generator.generate(1)
    with pytest.raises(BackendError, match=says):
        forks.check(torch.device("cuda:0"))
    forks.check(torch.device("cpu"))
