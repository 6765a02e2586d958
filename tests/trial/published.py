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
import importlib.util
import io
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
        self.tolerances = dict.fromkeys(BATCHES, TOLERANCE)
        double, _ = tried(lambda: copy.deepcopy(module).double())
        for n, x in self.inputs.items():
            wide = tuple(part.double() if part.is_floating_point() else part for part in x)
            exact = None if double is None else tried(partial(self._run, double, wide))[0]
            if exact is not None:
                self.tolerances[n] = max(TOLERANCE, 2 * distance(exact, self.outputs[n]))

    @staticmethod
    def _run(module: nn.Module, inputs: Tensors) -> list[np.ndarray]:
        with torch.inference_mode():
            return [x.numpy() for x in module(*(x.clone() for x in inputs))]


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
        found = {n: at(data, g, truth, names, n) for n in BATCHES}
        result[way] = max(found.values(), key=severity)
        if severity(result[way]) == 1 and found[TRACED] == "agrees":
            result[way] = "agrees where the file runs"
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
    if worst <= truth.tolerances[n]:
        return "agrees"
    kept = {port.name for port in g.signature.inputs}
    theirs, failure = tried(lambda: runtime(data, {k: x for k, x in inputs.items() if k in kept}))
    if theirs is None and made is None:
        return f"exporter's: {failure}"
    off = float("inf") if theirs is None else distance(truth.outputs[n], theirs)
    alike = made is None or (theirs is not None and distance(theirs, made) <= off / 10)
    if theirs is not None and off > truth.tolerances[n] and alike:
        return f"exporter's: ONNX Runtime is off by {off:.2g} at a batch of {n} too"
    return trouble or f"wrong by {worst:.2g} at a batch of {n}, ONNX Runtime by {off:.2g} {failure}"


def networks() -> dict[str, Network]:
    """All by name, those of absent packages left out, aloud."""
    _without_torchvisions_own()
    from tests.trial import generative_networks, spandrel_networks

    found = {**generative_networks.NETWORKS, **spandrel_networks.NETWORKS}
    packages = {network.package for network in found.values()}
    absent = {name for name in packages if importlib.util.find_spec(name) is None}
    if absent:
        print(f"not installed, and left out: {', '.join(sorted(absent))}", file=sys.stderr)
    return {name: network for name, network in found.items() if network.package not in absent}


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
    parser.add_argument("--by", nargs="*", default=EXPORTERS, help="torchscript or dynamo alone")
    parser.add_argument("--summary", type=Path, help="a JSON file of all of it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found = networks()
    records = Records(options.out)
    asked = [name for name in (options.only or found) if name in found]
    cases = [f"{name}/{way}" for way in options.by for name in asked]
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
        # Exporters have ended the process; what comes behind them is ours.
        records.add(case, outcome="not exported", why="the exporter crashed")
        data, trouble = tried(partial(export, way, module, network, names))
        if data is None:
            records.add(case, outcome="not exported", why=trouble)
            continue
        records.add(case, outcome="crashed")
        result = judge(data, truth, names)
        records.add(case, tolerance=max(truth.tolerances.values()), **result)
        if options.keep and result["outcome"] != "agrees":
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{name}-{way}.onnx").write_bytes(data)
    packages = {network.package.replace("_", "-") for network in found.values()}
    packages |= {"torch", "onnx", "onnxruntime", "onnxscript"}
    sys.exit(0 if records.finish(packages, options.summary) else 1)


if __name__ == "__main__":
    main()
