"""load: a file, bytes or the name of a shipped model in, a Generator out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fastgan import models
from fastgan.apply import legal
from fastgan.bundle import is_bundle
from fastgan.bundle.session import open_session
from fastgan.engine import TABLE, Session, Target, choose, get
from fastgan.engine.base import BF16_DEVICE, FP8_DEVICE, PRECISIONS, without_bf16, without_fp8
from fastgan.errors import (
    ArgumentError,
    BackendError,
    ModelFileError,
    Refusal,
)
from fastgan.generator import Generator
from fastgan.host import arguments, debug, files, forks, gpu, processor
from fastgan.host import threads as cpu_threads
from fastgan.host.garbage import collected_at_the_end
from fastgan.limits import Limits
from fastgan.model import remote, side_file
from fastgan.model.channels_last import channels_first, mark
from fastgan.model.file import read
from fastgan.model.opened import Model
from fastgan.model.origin import Origin, State, digest
from fastgan.plan.batch import settle

log = logging.getLogger("fastgan")


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    device: str | torch.device = "auto",
    precision: str = "auto",
    backend: str = "auto",
    strict: bool = False,
    limits: Limits = Limits(),
    signature: Mapping[str, Any] | None = None,
    isolate: bool = False,
    threads: int | None = None,
    providers: Sequence[str | tuple[str, Mapping[str, Any]]] = (),
) -> Generator:
    """Load a generator.

    Args:
        source: a path to an ONNX file or a bundle (docs/bundle.md), an ONNX file's bytes, the name
            of a shipped model such as "dcgan-digits", or where one is kept:
            "hf://owner/name/file.onnx", "https://example.org/model.onnx" (docs/bring-a-model.md).
            A file above a megabyte stays open: weights that are needed again, for images of
            another size, say, are read again. It may be replaced, deleted or touched; once its
            bytes are others, such a call is a ModelFileError.
        device: "auto" (an NVIDIA GPU if there is one), "cpu", "cuda" or "cuda:1".
        precision: "auto" (fp32 on a CPU, fp16 on a GPU), "fp32", "tf32", "fp16", "bf16",
            or "fp8": fp16 with the large layers' products in 8 bits, for which an NVIDIA GPU of
            compute capability 8.9 or later is needed (docs/kernels.md).
        backend: "auto" (the first of the table that takes the model), "triton", "torch" or "ort".
        strict: raise where a backend made for the device refuses the model, or where one of its
            kernels fails or is wrong on this GPU, then or in any call after; instead of logging
            why and taking the next.
        limits: what the file may cost; see `Limits`.
        signature: what the inputs and outputs are, where the file does not say it and the guess
            that `fastgan inspect` shows is wrong. The document of the file's metadata (see
            `signature_metadata`), of which only what differs is needed:
            `{"inputs": [{"name": "z", "kind": "latent", "distribution": "hypersphere"}]}`. An
            entry without a name is of every port of its kind: `{"inputs": [{"kind": "image",
            "range": [0, 1]}]}`. It beats a file `model.fastgan.json` beside `model.onnx`, which
            holds the same and beats the metadata.
        isolate: read and check the file in a child process first, so that even a crash of a
            library below becomes an error; costs about a second.
        threads: how many CPU threads this model computes with, in every call, whatever other
            models do; None for as many as PyTorch has (`torch.get_num_threads`).
        providers: with backend="ort", ONNX Runtime's execution providers in place of the device's
            own, by name or as (name, options), first choice first: ["OpenVINOExecutionProvider"],
            [("TensorrtExecutionProvider", {"trt_fp16_enable": True})]. One that is not there, or
            does not come up, is an error.

    Raises:
        ModelFileError: the file is missing, damaged, or not ONNX.
        UnsupportedError: something in it is covered by no backend.
        BackendError: no backend takes it, or `strict` and the first choice does not.
        ArgumentError: an argument is not one of those above.
    """
    # What is wrong with these is said before anything is read.
    target = _target(device, precision, backend, threads, providers)
    resolved = _resolve(source, limits)
    if is_bundle(resolved):
        return _bundled(source, resolved, target, device, precision, backend, limits)
    model = _opened(source, resolved, limits, signature, isolate)
    return _started(model, target, backend, strict, unasked=device == "auto")


def _bundled(
    source: Any,
    resolved: Any,
    target: Target,
    device: str | torch.device,
    precision: str,
    backend: str,
    limits: Limits,
) -> Generator:
    """A generator on a bundle, which is the CPU's."""
    if backend not in ("auto", "bundle"):
        raise ArgumentError("backend", repr(backend), "'auto': a bundle is run by its own")
    if target.providers:
        raise ArgumentError("providers", repr(target.providers), "none: a bundle is run by its own")
    if device == "auto":
        target = replace(target, device=torch.device("cpu"))
    origin = Origin.of(source, resolved, {"limits": limits, "threads": target.threads}, reopen)
    return Generator(open_session(Path(resolved), target, limits, precision), (), origin)


def open_model(
    source: str | os.PathLike[str] | bytes,
    *,
    limits: Limits = Limits(),
    signature: Mapping[str, Any] | None = None,
    isolate: bool = False,
) -> Model:
    """Read a file and find out what it is: what `load` runs, before any backend has it.

    Args:
        source, limits, signature, isolate: as in `load`.

    Raises:
        ModelFileError, UnsupportedError, ArgumentError: as `load`.
    """
    resolved = _resolve(source, limits)
    if is_bundle(resolved):
        instead = "fastgan.load, generate, apply, stream, video and live run a bundle"
        raise ModelFileError(str(source), "a bundle", "the ONNX file that it was made of", instead)
    return _opened(source, resolved, limits, signature, isolate)


def _opened(
    source: Any,
    resolved: Any,
    limits: Limits,
    signature: Mapping[str, Any] | None,
    isolate: bool,
) -> Model:
    """The model of a source that has been found: by path, or as bytes."""
    options = {"limits": limits, "signature": signature, "isolate": isolate}
    origin = Origin.of(source, resolved, options, reopen)
    with collected_at_the_end():
        file, turned = channels_first(read(resolved, limits, isolate=isolate))
        declared = legal.planned(file.model, mark(side_file.describe(file, signature), turned))
        settled = settle(file.model, declared)
        if not settled.made.apart or settled.frozen_batch == 1:
            # Nothing was bound at this size of images yet: the graph may not take it.
            sized = legal.legal(file.model, declared)
            if sized is not declared:
                declared, settled = sized, settle(file.model, sized)
    return Model(file, settled, declared, origin.beside(file))


def start(
    model: Model,
    *,
    device: str | torch.device = "auto",
    precision: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
) -> Generator:
    """A generator of a model that was opened: what `load` does with it.

    Args:
        model: as `open_model` gives it; it may be started more than once.
        device, precision, backend, threads: as in `load`.

    Raises:
        UnsupportedError, BackendError, ArgumentError: as `load`.
    """
    target = _target(device, precision, backend, threads)
    return _started(model, target, backend, strict=False, unasked=device == "auto")


def _started(model: Model, target: Target, wanted: str, strict: bool, unasked: bool) -> Generator:
    """A model on the backend that is wanted; `unasked`: nobody has named a device."""
    with cpu_threads.limited(target.threads):
        session, refusals = choose(model, target, wanted)
    _note_batch(session)
    if session.owns_noise:
        log.warning("%s: %s draws its noise, which no seed gives again", model.name, session)
    fallbacks = [*session.fallbacks]
    if unasked:
        fallbacks += _unused_gpu(target)
    reasons = "; ".join(str(reason) for reason in fallbacks)
    if fallbacks and strict:
        raise BackendError(
            f"{model.name} on {target}",
            f"a fallback to {session.backend.name} ({reasons})",
            "the first choice, since strict=True",
        )
    if strict:
        session.insist()
    message = "%s: %s on %s"
    if fallbacks:
        log.warning(message + ", because %s", model.name, session.backend.name, target, reasons)
    else:
        log.info(message, model.name, session.backend.name, target)
    assert model.origin is not None
    how = {"strict": strict, "threads": target.threads, "providers": target.providers}
    options = {**model.origin.options, **how}
    return Generator(session, refusals, replace(model.origin, options=options))


def reopen(state: State) -> Generator:
    """The generator of a pickle, from the files that it was made from.

    Raises:
        ModelFileError: one of them is missing, or another one by now.
        BackendError: this machine lacks its device or its backend.
    """
    source = state.origin.source
    for path, known in state.digests:
        if isinstance(source, str) and path == state.digests[0][0] != source:
            path = str(_resolve(source, state.origin.options["limits"]))  # where it lies here
        if digest(path) != known:
            found = "another file than the one that was pickled, by its SHA-256"
            raise ModelFileError(path, found, "the same bytes", "load it anew")
    loaded = load(
        source,
        device=state.device,
        precision=state.precision,
        backend=state.backend,
        **state.origin.options,
    )
    return loaded.restored(state.signature, state.refusals)


def _note_batch(session: Session) -> None:
    """Say what became of a batch that the exporter fixed."""
    name, declared = session.model.name, session.model.declared.frozen_batch
    batch = session.signature.frozen_batch
    if batch is not None:
        log.warning(
            "%s: its exporter fixed the batch at %d: it runs so many at a time", name, batch
        )
    elif declared is not None:
        text = "%s: exported for a batch of %d, but its samples do not meet: it runs at any"
        log.info(text, name, declared)


def _resolve(
    source: str | os.PathLike[str] | bytes, limits: Limits
) -> str | os.PathLike[str] | bytes:
    """The path of what `source` names that is no file here: an address, or a shipped model."""
    if not isinstance(source, (str, bytes, bytearray, memoryview, os.PathLike)):
        module = isinstance(source, torch.nn.Module)
        how = "fastgan.export(module, 'model.onnx', ...) makes a file of it" if module else ""
        raise ArgumentError("source", type(source).__name__, "a path or bytes", how)
    if isinstance(source, str) and files.is_remote(source):
        return remote.fetch(source, limits)
    if isinstance(source, str) and source in models.names() and not Path(source).exists():
        return models.path(source)
    return source


def _target(
    device: str | torch.device,
    precision: str,
    backend: str,
    threads: int | None = None,
    providers: Sequence[str | tuple[str, Mapping[str, Any]]] = (),
) -> Target:
    """Where and how a model is to run, if this machine can run any so."""
    processor.cap()  # a name that is none shall not go unseen, nor a word
    debug.check()
    target = _place(device, precision)
    if threads is not None:
        target = replace(target, threads=arguments.whole("threads", threads, most=1024))
    if providers:
        target = replace(target, providers=_providers(providers, backend))
    if target.precision == "fp8":
        _check_fp8(target, backend)
    emulated = without_bf16(target.device) if target.precision == "bf16" else None
    if emulated is not None:
        raise BackendError("precision", emulated, BF16_DEVICE, "or take fp16, or fp32")
    return target


def _place(device: str | torch.device, precision: str) -> Target:
    if precision != "auto" and precision not in PRECISIONS:
        raise ArgumentError("precision", repr(precision), f"'auto', {', '.join(PRECISIONS)}")
    if device == "auto":
        place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    else:
        try:
            place = torch.device(device)
        except RuntimeError:
            raise ArgumentError("device", repr(device), "'auto', 'cpu' or 'cuda'") from None
    if place.type not in ("cpu", "cuda"):
        raise ArgumentError("device", repr(str(place)), "'auto', 'cpu' or 'cuda'")
    forks.check(place)
    if place.type == "cuda":
        if not torch.cuda.is_available():
            found, needed = gpu.unusable() or ("no GPU", "an NVIDIA GPU and a CUDA build of torch")
            raise BackendError(
                "device",
                f"'{place}', but torch sees no GPU ({found})",
                needed,
                "or take device='cpu'",
            )
        if (place.index or 0) >= torch.cuda.device_count():
            raise ArgumentError(
                "device", repr(str(place)), f"an index below {torch.cuda.device_count()}"
            )
        if place.index is None:  # the current one may be another one later
            place = torch.device("cuda", torch.cuda.current_device())
    if precision == "auto":
        precision = "fp16" if place.type == "cuda" else "fp32"
    return Target(place, precision)


def _providers(
    given: Sequence[str | tuple[str, Mapping[str, Any]]], backend: str
) -> tuple[Any, ...]:
    """ONNX Runtime's providers as it takes them: names, and (name, options)."""
    if backend != "ort":
        raise ArgumentError("providers", f"backend={backend!r}", "backend='ort', whose they are")
    needed = "names, or (name, options), such as ['OpenVINOExecutionProvider']"
    listed = [given] if isinstance(given, str) else given
    for one in listed:
        named = isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], Mapping)
        if not isinstance(one[0] if named else one, str):
            raise ArgumentError("providers", repr(one), needed)
    return tuple(one if isinstance(one, str) else (one[0], dict(one[1])) for one in listed)


def _check_fp8(target: Target, backend: str) -> None:
    """One plain error where fp8 can't run, before any backend refuses it in its own words."""
    instead = "or take another precision: fp16 or bf16 on a GPU, bf16 or fp32 on a CPU"
    if backend != "auto":
        if target.precision not in get(backend).precisions:
            able = (repr(name) for name in TABLE if target.precision in get(name).precisions)
            found = f"fp8 with backend={backend!r}"
            raise BackendError("precision", found, ", ".join(able), instead)
        if get(backend).lacks(target) is None:
            return
    lacking = without_fp8(target.device)
    if lacking is not None:
        raise BackendError("precision", lacking, FP8_DEVICE, instead)


def _unused_gpu(target: Target) -> list[Refusal]:
    """A refusal where the machine has an NVIDIA driver, but the model runs on the CPU."""
    found = None if target.device.type == "cuda" else gpu.unusable()
    return [] if found is None else [Refusal("triton", "this machine's NVIDIA GPU", *found)]
