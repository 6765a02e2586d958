"""What programs that use fastgan rely on: names and parameters stay; new ones have defaults."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import fastgan
from fastgan.host import files
from fastgan.model.signature import Input

#: Public names by module; others may come.
NAMES = {
    "fastgan": """
        ArgumentError BackendError BudgetError FastganError Generator Input LimitError Limits
        ModelFileError Refusal RingError UnsupportedError export load
    """,
    "fastgan.realtime": """
        Asked CudaRingReader CudaRingWriter Drift Each Envelope Frame GLTexture Mix Nudge Orbit
        Percentiles Retime RingFrame RingReader RingShape RingWriter Rows SeedPath Sink Space Stats
        Stream Walk include_dir
    """,
}

#: Parameters by callable, as version 0.1.0 has them; "property" is one.
PARAMETERS = """
fastgan.load: source, *, device='auto', precision='auto', backend='auto', strict=False,
    limits=Limits(), signature=None, isolate=False
fastgan.export: module, path, *, latent=None, labels=None, image=None, mask=None, inputs=None,
    distribution='normal', range=None, class_names=(), opset=18, exporter='dynamo', optimize=True,
    verify=True
Generator.device: property
Generator.backend: property
Generator.precision: property
Generator.signature: property
Generator.path: property
Generator.refusals: property
Generator.scale: property
Generator.plan: batch=1
Generator.generate: n, *, seed=0, start=0, labels=None, truncation=None, size=None,
    batch_size=None, rng='philox', format='float32', out=None, noise=True, progress=False,
    **inputs
Generator.warm_up: sizes=(), *, formats=('float32',), tune=False, seconds=inf
Generator.latents: n, *, seed=0, start=0, truncation=None, rng='philox'
Generator.run: inputs
Generator.__call__: images, *, mask=None, style=None, format='float32', tile=None, tile_pad=None,
    alpha='keep', fill=None, batch_size=None, seed=0, start=0, labels=None, truncation=None,
    rng='philox', out=None, progress=False, **inputs
Generator.stream: *, fps=None, batch=1, latents=None, labels=None, format='uint8', buffers=3,
    similarity=None, budget_ms=None, policy='newest', truncation=None, seed=0, speed=1.0, start=0,
    frames=None, source=None, size=None, **inputs
onnx_backend.prepare: model, device='CPU', **kwargs
onnx_backend.run_model: model, inputs, device='CPU', **kwargs
onnx_backend.run_node: node, inputs, device='CPU', outputs_info=None, **kwargs
onnx_backend.supports_device: device
latents.sample: distribution, n, shape, *, seed=0, start=0, stream=0, truncation=None,
    rng='philox', device=None, out=None, threads=None
latents.normal: n, size, **options
latents.uniform: n, size, **options
latents.hypersphere: n, size, **options
latents.labels: n, classes, *, seed=0, start=0, stream=1, device=None, out=None
signature.Input: name, kind, shape, dtype='float32', distribution=None, classes=None, range=None,
    guessed=False, fill=None, channels_last=False, mean=(), std=(), basis=None, default=None,
    example=(64, 64)
realtime.CudaRingReader: name, **options
realtime.CudaRingWriter: *arguments, device='cuda:0', **options
realtime.Drift: seed=0, frames=60.0
realtime.Each: walks
realtime.Envelope: values
realtime.GLTexture: context, height, width, channels, buffers=2
realtime.Mix: first, second, amount=0.5
realtime.Nudge: walk, x=0.0, y=0.0, seed=0
realtime.Orbit: seed=0, frames=240.0, harmonics=2
realtime.Retime: walk, speed=1.0, start=0.0
realtime.RingReader: name, *, shape=None, control=False, timeout=0.0
realtime.RingShape: height, width, channels, format='uint8', range=(0.0, 255.0), device='cpu'
realtime.RingWriter: name, height, width, channels, *, format='uint8', range=(0.0, 255.0),
    slots=4, fps=None, seed=0, speed=1.0, truncation=None, label=None
realtime.Rows: rows, loop=True
realtime.SeedPath: seeds, frames=60.0, interpolation='spherical', loop=True, rng='philox'
realtime.Space: shape, distribution='normal', batch=1, truncation=None
realtime.include_dir:
"""
ENTRIES = dict(line.split(":", 1) for line in re.sub(r"\n +", " ", PARAMETERS).strip().splitlines())


@pytest.mark.parametrize("module", NAMES)
def test_public_names_are_there(module: str) -> None:
    found = importlib.import_module(module)
    for name in NAMES[module].split():
        assert name in found.__all__
        assert getattr(found, name) is not None


def _found(path: str) -> object:
    """What an entry is about: "Generator.run" is fastgan's, "latents.sample" a module's."""
    first, name = path.split(".")
    if first in ("fastgan", "Generator"):
        return getattr(fastgan if first == "fastgan" else fastgan.Generator, name)
    return getattr(importlib.import_module(f"fastgan.{first}"), name)


def _spelled(function: object) -> tuple[list[str], dict[str, str]]:
    """Parameters in their order, "name=default", and those that are given by name alone."""
    assert callable(function)
    positional, named = [], {}
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default
        text = re.sub(r"^Limits\(.*\)$", "Limits()", repr(default))
        spelled = parameter.name + ("" if default is parameter.empty else f"={text}")
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = spelled
        elif parameter.kind is parameter.VAR_POSITIONAL:
            positional.append(f"*{spelled}")
        elif parameter.kind is parameter.VAR_KEYWORD:
            named["**"] = f"**{spelled}"
        elif parameter.name != "self":
            positional.append(spelled)
    return positional, named


@pytest.mark.parametrize("path", ENTRIES)
def test_parameters_stay(path: str) -> None:
    wanted, found = ENTRIES[path].strip(), _found(path)
    if wanted == "property":
        assert isinstance(found, property)
        return
    positional, named = _spelled(found)
    # Split at commas that stand in no brackets.
    parts = [part for part in re.split(r", (?![^(]*\))", wanted) if part]
    first = parts.index("*") if "*" in parts else len(parts)
    by_place = [part for part in parts[:first] if not part.startswith("**")]
    after = {part for part in parts[first:] if part != "*"} | {*parts[:first]} - {*by_place}
    if any(part.startswith("*") for part in by_place):  # what follows it is named
        at = next(i for i, part in enumerate(by_place) if part.startswith("*"))
        after, by_place = after | {*by_place[at + 1 :]}, by_place[: at + 1]
    assert positional[: len(by_place)] == by_place
    assert all("=" in new or new.startswith("*") for new in positional[len(by_place) :])
    assert after <= {*named.values()}
    assert all("=" in new or new.startswith("**") for new in {*named.values()} - after)


def test_names_that_other_programs_know_are_kept() -> None:
    from fastgan import latents, signature
    from fastgan.realtime import ring_reader

    assert signature.Input is fastgan.Input is Input
    assert callable(latents.sample)
    assert ring_reader.RingReader is fastgan.realtime.RingReader


def test_the_cache_lies_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    assert files.cache("tuning").is_relative_to(tmp_path)


def test_the_metadata_of_files_is_version_1() -> None:
    from fastgan.model import stated

    assert (stated.KEY, stated.VERSION) == ("fastgan.signature", 1)
