"""Every instruction set gives the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection

import pytest

from fastgan.host import processor

pytestmark = pytest.mark.cpu

#: But for AMX, whose sums go in another order (tests/bundle/test_cmake.py).
ALIKE_ON = set(processor.LEVELS) - {"amx"}


def said_of(code: str, levels: Collection[str]) -> set[str]:
    """What a program prints in a process of its own as on each of these processors."""
    found = set()
    for level in levels:
        given = {**os.environ, processor.VARIABLE: level}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=given, check=True, capture_output=True, text=True)
        found.add(done.stdout)
    return found


ALIKE = """
import hashlib, torch
from tests.unit.engine.native_networks import Epilogue, Network, native_of
from tests.unit.engine.test_native_products import FORMS, drawn, made_by

def say(*what):
    print(*[hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()
            if isinstance(x, torch.Tensor) else x for x in what])

for channels, outputs, size in ((21, 3, 9), (128, 64, 16), (64, 3, 32)):
    net = Network(x=(1, channels, size, size))
    given = {"strides": [2, 2], "pads": [1] * 4, "dilations": [1, 1], "group": 1}
    given |= {"output_padding": [0, 0], "epilogue": Epilogue("relu")}
    shape = (1, outputs, 2 * size, 2 * size)
    weight = net.weight(channels, outputs, 4, 4)
    net.weights[weight] = drawn(channels, outputs, 4, 4)
    y = net.add("fastgan.ConvTranspose", ["x", weight], shape, **given)
    native = native_of(net.plan(y), bf16=True)
    say(native.plan.steps[0].kernel, native({"x": drawn(1, channels, size, size)})[y])
for *layer, rounded in FORMS:
    form, made = made_by(*layer)
    say(form, *([] if form == "none" else [made]))
"""


@pytest.mark.slow
def test_every_processor_rounds_alike() -> None:
    """The same layers, in the same way, whether it has instructions for bf16 or not."""
    assert len(said_of(ALIKE, ALIKE_ON)) == 1


WHOLE = """
import hashlib, fastgan
from tests.unit.engine.test_native_products import drawn
for name in ("aae-digits", "colour-tissue", "vae-digits-encoder"):
    for precision in ("fp32", "bf16"):
        model = fastgan.load(name, device="cpu", precision=precision)
        plan = model.plan(2)
        made = model.run({name: drawn(*plan.buffers[name].shape) for name in plan.inputs})
        numbers = b"".join(x.contiguous().numpy().tobytes() for x in made.values())
        print(name, precision, hashlib.sha256(numbers).hexdigest())
"""


@pytest.mark.slow
def test_whole_models_are_the_same_with_vectors_of_any_length() -> None:
    found = said_of(WHOLE, ALIKE_ON - {"portable"})  # which rounds a product on its own
    assert [text.count("\n") for text in found] == [6]


RESIZED = """
import hashlib, torch
from tests.unit.engine.native_networks import Network, native_of
torch.manual_seed(0)
found = hashlib.sha256()
for mode, size, to in (
    ("linear", (6, 7), (12, 14)), ("linear", (5, 40), (10, 41)), ("cubic", (24, 28), (9, 11)),
    ("cubic", (12, 14), (48, 53)),
):
    for channels in (1, 3, 5, 8, 24, 33):
        net = Network(x=(1, channels, *size))
        names = ["x", "", "", net.host([1, channels, *to])]
        y = net.add("Resize", names, (1, channels, *to), mode=mode)
        made = native_of(net.plan(y))({"x": torch.randn(1, channels, *size)})[y]
        found.update(made.contiguous().numpy().tobytes())
print(found.hexdigest())
"""


@pytest.mark.slow
def test_vectors_of_any_length_resize_in_the_same_order() -> None:
    # Portable code may round a product on its own.
    assert len(said_of(RESIZED, ALIKE_ON - {"portable"})) == 1
