"""Published networks: `python -m tests.trial.published --out trial.jsonl`.

Networks of others' packages, small and with random weights, written by both of PyTorch's exporters
from a trace of two samples, with the batch open where the exporter can. Each file is loaded as a
user would and held to eager PyTorch at batches of 1, 2 and 3, planned without ONNX Runtime
(backend="torch", strict=True) and as `load` chooses. An output may be as far from eager PyTorch as
2e-5 of half its range, or twice as far as eager PyTorch in float32 is from itself in float64.

A file is its exporter's fault where ONNX Runtime without optimisation can't run it or makes the
same wrong values of it as we do.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.metadata
import importlib.util
import io
import json
import logging
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

import fastgan
from fastgan.errors import FastganError
from tests.trial.network import Network
from tests.trial.records import Records, said, tried

TRACED, BATCHES = 2, (1, 2, 3)
TOLERANCE = 2e-5
#: Packages that a function of ours makes networks of.
BEHIND = ("transformers", "lightweight-gan", "stylegan2-pytorch")
Tensors = tuple[Tensor, ...]


def torchscript(module: nn.Module, inputs: Tensors, names: list[str], opened: bool) -> bytes:
    """By the exporter that traces."""
    file = io.BytesIO()
    axes = {name: {0: "n"} for name in names} if opened else None
    torch.onnx.export(
        module, inputs, file, dynamo=False, opset_version=18, input_names=names, dynamic_axes=axes
    )
    return file.getvalue()


def dynamo(module: nn.Module, inputs: Tensors, names: list[str], opened: bool) -> bytes:
    """By the exporter of `torch.export`."""
    shapes = ({0: torch.export.Dim("n", min=1)},) * len(inputs)
    program = torch.onnx.export(
        module,
        inputs,
        dynamo=True,
        input_names=names,
        verbose=False,
        dynamic_shapes=(shapes,) if opened else None,
    )
    return program.model_proto.SerializeToString()


EXPORTERS = {"torchscript": torchscript, "dynamo": dynamo}


def export(way: str, module: nn.Module, network: Network, names: list[str]) -> bytes:
    """A file with an open batch where the exporter can, else with the batch of the trace."""
    inputs = network.draw(TRACED, seed=TRACED)
    with torch.no_grad():
        opened, failure = tried(lambda: EXPORTERS[way](module, inputs, names, True))
        if opened is not None:
            return opened
        try:
            return EXPORTERS[way](module, inputs, names, False)
        except Exception as error:
            raise RuntimeError(failure) from error


class Truth:
    """What eager PyTorch makes of a network at each batch."""

    def __init__(self, network: Network, module: nn.Module) -> None:
        self.inputs = {n: network.draw(n, seed=n) for n in BATCHES}
        self.outputs: dict[int, list[np.ndarray]] = {
            n: self._run(module, x) for n, x in self.inputs.items()
        }
        again = self._run(module, self.inputs[TRACED])
        self.draws_noise = any(
            (a != b).any() for a, b in zip(again, self.outputs[TRACED], strict=True)
        )
        self.tolerance = TOLERANCE
        double, _ = tried(lambda: copy.deepcopy(module).double())
        wide = tuple(x.double() if x.is_floating_point() else x for x in self.inputs[TRACED])
        exact, _ = tried(lambda: self._run(double, wide)) if double is not None else (None, "")
        if exact is not None:
            self.tolerance = max(TOLERANCE, 2 * distance(exact, self.outputs[TRACED]))

    @staticmethod
    def _run(module: nn.Module, inputs: Tensors) -> list[np.ndarray]:
        with torch.inference_mode():
            return [x.numpy() for x in module(*inputs)]


def distance(expected: list[np.ndarray], found: list[np.ndarray]) -> float:
    """The largest difference as a share of half an output's range; infinite at other shapes.

    What hardly differs within an output, such as one number for each sample, has no range: there
    it is a share of the magnitude.
    """
    if [x.shape for x in expected] != [x.shape for x in found]:
        return float("inf")
    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        if not a.size:
            continue
        magnitude = float(np.abs(a).max()) or 1.0
        half = float(a.max() - a.min()) / 2
        scale = half if half > magnitude / 100 else magnitude
        off = float(np.abs(a.astype(float) - b).max()) / scale
        worst = max(worst, off if off == off else float("inf"))
    return worst


def runtime(data: bytes, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """By ONNX Runtime without optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [np.asarray(x) for x in session.run(None, inputs)]


def judge(data: bytes, truth: Truth, names: list[str]) -> dict[str, Any]:
    """The outcome of one file, and where it is not "agrees" what happened at which batch."""
    result: dict[str, Any] = {}
    for way, options in {"plan": {"backend": "torch", "strict": True}, "auto": {}}.items():
        try:
            g = fastgan.load(data, device="cpu", **options)
        except FastganError as error:
            result[way] = f"refused: {' '.join(str(error).split())[:400]}"
            continue
        except Exception as error:
            result[way] = f"foreign: {said(error)}"
            continue
        if way == "auto" and g.backend == "torch" and "plan" in result:
            result[way] = result["plan"]
            break
        result[way] = max((at(data, g, truth, names, n) for n in BATCHES), key=severity)
    outcomes = [result[way].split(":")[0].split()[0] for way in ("plan", "auto")]
    for outcome in ("foreign", "wrong"):
        if outcome in outcomes:
            return {"outcome": outcome, **result}
    if outcomes == ["refused", "agrees"]:
        return {"outcome": "agrees on ort", **result}
    return {"outcome": outcomes[1], **result}


ORDER = ("agrees", "exporter's", "refused", "wrong", "foreign")


def severity(said_of: str) -> int:
    """How bad the result of a batch is."""
    return ORDER.index(said_of.split(":")[0].split()[0])


def at(data: bytes, g: fastgan.Generator, truth: Truth, names: list[str], n: int) -> str:
    """The result of one batch, in a line."""
    inputs = {name: x.numpy() for name, x in zip(names, truth.inputs[n], strict=True)}
    made: list[np.ndarray] | None = None
    try:
        found = g.run(
            {k: x for k, x in inputs.items() if k in {i.name for i in g.signature.inputs}}
        )
        made = [found[output.name].numpy() for output in g.signature.outputs]
        trouble = ""
    except FastganError as error:
        trouble = f"refused at a batch of {n}: {' '.join(str(error).split())[:400]}"
    except Exception as error:
        return f"foreign at a batch of {n}: {said(error)}"
    worst = float("inf") if made is None else distance(truth.outputs[n], made)
    if worst <= truth.tolerance:
        return "agrees"
    kept = {port.name for port in g.signature.inputs}
    theirs, failure = tried(lambda: runtime(data, {k: x for k, x in inputs.items() if k in kept}))
    if theirs is None and made is None:
        return f"exporter's: {failure}"
    off = float("inf") if theirs is None else distance(truth.outputs[n], theirs)
    alike = made is None or (theirs is not None and distance(theirs, made) <= off / 10)
    if theirs is not None and off > truth.tolerance and alike:
        return f"exporter's: ONNX Runtime is off by {off:.2g} at a batch of {n} too"
    return trouble or f"wrong by {worst:.2g} at a batch of {n}, ONNX Runtime by {off:.2g} {failure}"


def networks() -> dict[str, Network]:
    """All by name, those of absent packages left out, aloud."""
    _without_torchvisions_own()
    from tests.trial import generative_networks, spandrel_networks

    found = {**spandrel_networks.NETWORKS, **generative_networks.NETWORKS}
    packages = {network.where.split(".")[0].split(":")[0] for network in found.values()} - {"tests"}
    for package in sorted(packages):
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed: its networks are left out", file=sys.stderr)
            found = {k: v for k, v in found.items() if not v.where.startswith(package)}
    return found


def _without_torchvisions_own() -> None:
    """Let torchvision import beside a torch that its compiled operators don't fit."""
    for name in ("nms", "qnms"):
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        torch.library.define(f"torchvision::{name}", schema)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("published.jsonl"), help="a line for each")
    parser.add_argument("--keep", type=Path, help="a folder for files that don't agree")
    parser.add_argument("--only", nargs="*", help="names of networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found = networks()
    records = Records(options.out)
    cases = [f"{name}/{way}" for way in EXPORTERS for name in options.only or found]
    made: tuple[str, nn.Module, Truth] | None = None
    for case in records.cases(cases, "files"):
        name, way = case.split("/")
        network = found[name]
        if made is None or made[0] != name:
            made = None
            gc.collect()
            try:
                module = network.make()
                made = name, module, Truth(network, module)
            except Exception as error:
                records.add(case, outcome="not made", why=said(error))
                continue
        _, module, truth = made
        if truth.draws_noise:
            records.add(case, outcome="draws noise")
            continue
        names = [f"x{i}" for i in range(len(network.inputs))]
        data, trouble = tried(partial(export, way, module, network, names))
        if data is None:
            records.add(case, outcome="not exported", why=trouble)
            continue
        result = judge(data, truth, names)
        records.add(case, tolerance=truth.tolerance, **result)
        if options.keep and result["outcome"] != "agrees":
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{name}-{way}.onnx").write_bytes(data)
    packages = {n.where.split(".")[0].split(":")[0].replace("_", "-") for n in found.values()}
    packages = (packages - {"tests"}) | {"torch", "onnx", "onnxruntime", "onnxscript", *BEHIND}
    known = {p: tried(partial(importlib.metadata.version, p))[0] for p in sorted(packages)}
    versions = {name: version for name, version in known.items() if version}
    print(json.dumps({"outcomes": records.counts(), "versions": versions}, indent=1))
    sys.exit(1 if {"wrong", "foreign", "crashed"} & set(records.counts()) else 0)


if __name__ == "__main__":
    main()
